"""Which HTTP client? The measurement behind the choice of `delivery/transport.py`.

    python -m scripts.bench_delivery [in flight, 64]

One receiver in a process of its own, keep-alive, the same request through every client, rounds in
turn. Clients that are not among our dependencies take part when they happen to be installed:
httpx2, httpcore2, httpx-aiohttp and pyreqwest.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from statistics import median, quantiles
from typing import Any

import aiohttp
import anyio
import httpx

from delivery.address import AddressPolicy
from delivery.egress import Egress
from scripts.bench_consumer import sink

ROUNDS = 5
REQUESTS = 3000
BODY = b'{"source":"crud","event":"consumers","entity":"%s"}' % (b"x" * 450)
HEADERS = {
    "content-type": "application/json",
    "webhook-id": "0fd2319f-1f4e-4d0b-9d5c-9f6fb7f43c5f",
    "webhook-timestamp": "1700000000",
    "x-kong-signature": "sha256=" + "a" * 64,
}

Send = Callable[[], Awaitable[bool]]
Client = Callable[[str], AbstractAsyncContextManager[Send]]


@asynccontextmanager
async def egress(url: str) -> AsyncIterator[Send]:
    """Ours, as the handlers use it."""
    async with Egress(AddressPolicy.parse([], allow_loopback=True)) as client:

        async def send() -> bool:
            return (await client.send("POST", url, HEADERS, BODY)).ok

        yield send


@asynccontextmanager
async def transport(url: str) -> AsyncIterator[Send]:
    """Our transport alone: no deadline, no outcome."""
    async with Egress(AddressPolicy.parse([], allow_loopback=True)) as client:

        async def send() -> bool:
            request = client.request("POST", url, HEADERS, BODY)
            answer = await client.transport.handle_async_request(request)
            await answer.aclose()
            return answer.is_success

        yield send


@asynccontextmanager
async def aiohttp_alone(url: str) -> AsyncIterator[Send]:
    """The library below our transport, without httpx's types."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send() -> bool:
            async with session.post(url, data=BODY, headers=HEADERS) as answer:
                return answer.ok

        yield send


def asynchronous(module: str, **options: Any) -> Client:
    """`AsyncClient` of httpx or of a library with the same interface."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Send]:
        library = import_module(module)
        limits = library.Limits(max_connections=None, max_keepalive_connections=None)
        async with library.AsyncClient(limits=limits, timeout=60, **options) as client:

            async def send() -> bool:
                answer = await client.post(url, content=BODY, headers=HEADERS)
                return bool(answer.is_success)

            yield send

    return opened


@asynccontextmanager
async def httpcore2_alone(url: str) -> AsyncIterator[Send]:
    """The pool that httpx2 uses."""
    library = import_module("httpcore2")
    async with library.AsyncConnectionPool(max_connections=1000) as pool:

        async def send() -> bool:
            answer = await pool.request("POST", url, headers=HEADERS, content=BODY)
            return bool(answer.status == 200)

        yield send


@asynccontextmanager
async def pyreqwest_alone(url: str) -> AsyncIterator[Send]:
    """Fast, but nothing can ask it which address it is going to dial."""
    async with import_module("pyreqwest.client").ClientBuilder().build() as client:

        async def send() -> bool:
            answer = await client.post(url).headers(HEADERS).body_bytes(BODY).build().send()
            return bool(answer.status == 200)

        yield send


def clients() -> Iterator[tuple[str, Client]]:
    """All that can take part, the slowest with fewer requests."""
    yield "egress", egress
    yield "our transport", transport
    yield "aiohttp", aiohttp_alone
    yield "httpx", asynchronous("httpx")
    if find_spec("httpx_aiohttp"):
        bridge = import_module("httpx_aiohttp").AiohttpTransport
        yield "httpx + httpx-aiohttp", asynchronous("httpx", transport=bridge())
    if find_spec("httpx2"):
        yield "httpx2", asynchronous("httpx2")
    if find_spec("httpcore2"):
        yield "httpcore2", httpcore2_alone
    if find_spec("pyreqwest"):
        bridge = import_module("pyreqwest.compatibility.httpx").HttpxTransport
        yield "httpx + pyreqwest", asynchronous("httpx", transport=bridge())
        yield "pyreqwest", pyreqwest_alone


async def measure(send: Send, requests: int, in_flight: int) -> tuple[float, list[float]]:
    """Requests per second, and the seconds each took."""
    taken: list[float] = []
    turns = iter(range(requests))

    async def work() -> None:
        for _ in turns:
            begun = time.perf_counter()
            if not await send():
                raise RuntimeError("the receiver did not answer 200")
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(work)
    return requests / (time.perf_counter() - begun), taken


async def main(in_flight: int) -> None:
    """Prints one line per client."""
    speeds: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    with sink() as port:
        async with AsyncExitStack() as stack:
            url = f"http://127.0.0.1:{port}/hook"
            sends = [
                (name, await stack.enter_async_context(client(url))) for name, client in clients()
            ]
            for _ in range(ROUNDS):
                for name, send in sends:
                    # httpx's own pool is slower by an order of magnitude.
                    requests = REQUESTS // (10 if name == "httpx" else 1)
                    await measure(send, in_flight, in_flight)
                    speed, taken = await measure(send, requests, in_flight)
                    speeds.setdefault(name, []).append(speed)
                    times.setdefault(name, []).extend(taken)
    print(f"httpx {httpx.__version__}, aiohttp {aiohttp.__version__}, {in_flight} in flight")
    for name, measured in speeds.items():
        cuts = quantiles(times[name], n=100)
        speed = median(measured)
        print(
            f"{name:22} {speed:8,.0f}/s  p50 {cuts[49] * 1e3:6.1f} ms  p99 {cuts[98] * 1e3:7.1f} ms"
        )


if __name__ == "__main__":
    flying = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    anyio.run(main, flying, backend_options={"use_uvloop": True})

"""The whole way, in the real service: POST, durable append, match, webhook, recorded.

The service, the load and the receiver are three processes (wrk counts as one) on one machine.

    python -m scripts.bench_service
"""

import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import httpx
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from scripts.bench_consumer import sink
from scripts.http_load import Post, load
from tests.receiver import Receiver

ROOT = Path(__file__).parent.parent
SECONDS = 5.0
RATE = 200
PACED = 2000
HOOK = {"source": "balancer", "event": "health", "handler": "webhook"}
EVENT = {
    "source": "balancer",
    "event": "health",
    "data": {
        "upstream_id": "9d0bee90-04b9-4af3-993f-b10db881b144",
        "ip": "10.0.0.5",
        "port": 8080,
        "hostname": "backend",
        "health": "unhealthy",
    },
}


class EndToEnd(msgspec.Struct, frozen=True, kw_only=True):
    """`accepted` and `delivered` per second at saturation; then times at `RATE` events/s.

    A delivery counts once the service has written its result down. Times run from the 202 to the
    last byte at the receiver, in milliseconds.
    """

    accepted_per_second: float
    delivered_per_second: float
    p50_ms: float
    p99_ms: float


async def bench_service(directory: Path) -> EndToEnd:
    """One hook. `directory` is empty and on the disk to be measured."""
    accepted, delivered = await _saturated(directory / "saturated")
    times = await _paced(directory / "paced")
    cuts = quantiles(times, n=100)
    return EndToEnd(
        accepted_per_second=accepted,
        delivered_per_second=delivered,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
    )


async def _saturated(directory: Path) -> tuple[float, float]:
    with sink() as receiver:
        async with _service(directory) as api:
            await _hook(api, f"http://127.0.0.1:{receiver}/")
            start = time.perf_counter()
            port = api.base_url.port or 0
            sent = await load(
                Post(port=port, path="/events", body=msgspec.json.encode(EVENT)), SECONDS
            )
            await _settled(api)
            elapsed = time.perf_counter() - start
            head = (await _status(api))["log"]["head"]
    return sent.per_second, head / elapsed


async def _paced(directory: Path) -> list[float]:
    """Seconds from the 202 to the receiver, for events sent at an even rate."""
    answered: dict[int, float] = {}
    async with Receiver() as receiver, _service(directory) as api:
        await _hook(api, f"{receiver.url}/")

        async def post(number: int) -> None:
            event = EVENT | {"data": {"number": number}}
            answer = await api.post("/events", json=event)
            answer.raise_for_status()
            answered[number] = time.time()

        start = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(PACED):
                await anyio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
                tasks.start_soon(post, number)
        arrived = await receiver.wait_for(PACED + 1)
    numbers = [(msgspec.json.decode(each.body).get("number"), each.at) for each in arrived]
    return [max(0.0, at - answered[number]) for number, at in numbers if number is not None]


async def _hook(api: httpx.AsyncClient, url: str) -> None:
    answer = await api.post("/event-hooks", json=HOOK | {"config": {"url": url}})
    answer.raise_for_status()


async def _settled(api: httpx.AsyncClient) -> None:
    """Return once nothing is left to deliver."""
    while True:
        status = await _status(api)
        delivery = status["delivery"]
        if not (delivery["behind"] or delivery["open"] or delivery["lagging_hooks"]):
            return
        await anyio.sleep(0.05)


async def _status(api: httpx.AsyncClient) -> Any:
    return (await api.get("/status")).json()


@asynccontextmanager
async def _service(directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    """`hooktape serve` in a process of its own, and a client for it."""
    command = [sys.executable, "-m", "api.cli", "serve", "--listen", "127.0.0.1:0"]
    options = ["--data-dir", str(directory), "--log-format", "json"]
    async with await anyio.open_process(
        [*command, *options], cwd=ROOT, stdout=DEVNULL, stderr=PIPE
    ) as process:
        if process.stderr is None:
            raise AssertionError("unreachable")
        lines = BufferedByteReceiveStream(process.stderr)
        started = msgspec.json.decode(await lines.receive_until(b"\n", 65_536))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, lines)
            try:
                async with httpx.AsyncClient(base_url=started["url"]) as api:
                    yield api
            finally:
                process.terminate()
                tasks.cancel_scope.cancel()


async def _drain(lines: BufferedByteReceiveStream) -> None:
    """Read what the service logs, so that it never waits for a full pipe."""
    async for _ in lines:
        pass


async def _main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        print(await bench_service(Path(directory)))


if __name__ == "__main__":
    anyio.run(_main, backend_options={"use_uvloop": True})

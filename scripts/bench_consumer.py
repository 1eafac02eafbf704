"""Deliveries of stored events, against the same client called directly, and against plain httpx.

Our side reads the log, matches, decodes, signs, sends, and records; the receiver is a process of
its own that answers at once. Rounds of the three alternate in one run.

    python -m scripts.bench_consumer
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import anyio
import httpx
import msgspec

from delivery.address import AddressPolicy
from delivery.admission import Limits
from delivery.assembly import Configuration, open_delivery
from delivery.egress import Egress
from delivery.outcome import delivery_id
from delivery.service import DeliveryOptions, DeliveryService
from delivery.signing import signed_headers
from eventstore import Append, EventLog, Kind, NewEvent
from eventstore.codec import new_event
from eventstore.events import EntityCreated, EventEmitted
from projections.deliveries import Deliveries
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE, TABLES
from scripts.measurement import Result, result

IN_FLIGHT = 64
BATCH = 500
ROUND = 3000
ROOT = Path(__file__).parent.parent
DATA = msgspec.json.encode(
    {"consumer": {"username": "Ada Lovelace"}, "ip": "10.42.0.1", "text": "x" * 350, "rate": 4}
)
SECRET = "a secret of some length"  # noqa: S105 — for signing, not a credential


async def bench_consumer(directory: Path, *, events: int = 3000, rounds: int = 5) -> list[Result]:
    """One hook, and 1,000 hooks on one source of which one matches."""
    with sink() as port:
        url = f"http://127.0.0.1:{port}/hook"
        return [
            await _case(directory / "one", url, 1, events, rounds),
            await _case(directory / "many", url, 1000, events, rounds),
        ]


async def bench_plain_httpx(*, events: int = 300, rounds: int = 3) -> Result:
    """Our client, called directly, against httpx with its own pool; 64 requests in flight."""
    with sink() as port:
        url = f"http://127.0.0.1:{port}/hook"
        ours, plain = [], []
        for _ in range(rounds):
            ours.append(await _direct(url, events * 10))
            plain.append(await _plain(url, events))
        return result("client against plain httpx, 64 in flight", ours, plain, [0.0])


async def _case(directory: Path, url: str, hooks: int, events: int, rounds: int) -> Result:
    ours, direct = [], []
    for number in range(rounds):
        ours.append(await _deliver(directory / str(number), url, hooks, events))
        direct.append(await _direct(url, events))
    name = f"deliver stored events, {hooks} hook{'s' if hooks > 1 else ''}"
    return result(f"{name} / the same client directly", ours, direct, [0.0])


async def _deliver(directory: Path, url: str, hooks: int, events: int) -> float:
    """Deliveries per second of events that are in the log before the consumer starts."""
    directory.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(EventLog.open(directory))
        await _fill(log, url, hooks, events)
        registry, sources, deliveries = Hooks(), Sources(TABLES), Deliveries()
        projections = await stack.enter_async_context(
            Projections.open(log, directory, [registry, sources, deliveries])
        )
        delivering = await stack.enter_async_context(
            open_delivery(
                log,
                projections,
                registry,
                sources,
                deliveries,
                directory=directory,
                configuration=Configuration(
                    addresses=AddressPolicy.parse([], allow_loopback=True),
                    options=DeliveryOptions(limits=Limits(hook=IN_FLIGHT)),
                ),
            )
        )
        service = delivering.service
        head = log.head
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(projections.run)
            start = time.perf_counter()
            tasks.start_soon(service.run)
            while not _settled(service, head):
                await anyio.sleep(0.002)
            elapsed = time.perf_counter() - start
            service.stop()
            tasks.cancel_scope.cancel()
    return events / elapsed


def _settled(service: DeliveryService, head: int) -> bool:
    summary = service.summary()
    return summary["position"] >= head and not summary["open"] and not summary["lagging_hooks"]


async def _fill(log: EventLog, url: str, hooks: int, events: int) -> None:
    for number in range(hooks):
        await log.append(
            Append(
                events=(_hook(number, url, "used" if number == 0 else f"unused-{number}"),),
                workspace=DEFAULT_WORKSPACE,
            )
        )
    event = new_event(
        EventEmitted(data=msgspec.Raw(DATA)), stream="emitted/bench/used", kind=Kind.EMITTED
    )
    for start in range(0, events, BATCH):
        batch = (event,) * min(BATCH, events - start)
        await log.append(Append(events=batch, workspace=DEFAULT_WORKSPACE))


def _hook(number: int, url: str, event: str) -> NewEvent:
    entity = {
        "id": str(UUID(int=number + 1)),
        "source": "bench",
        "event": event,
        # Only webhooks send a ping, and a thousand pings are not what is measured here.
        "handler": "webhook" if number == 0 else "log",
        "config": {"url": url} if number == 0 else {},
        "created_at": 1,
        "updated_at": 1,
    }
    created = EntityCreated(entity=entity, secrets={"config.secret": SECRET} if not number else {})
    return new_event(created, stream=f"event_hooks/{entity['id']}", kind=Kind.CONFIG)


async def _direct(url: str, requests: int) -> float:
    """Requests per second of the client alone, with the same body and headers."""
    body = msgspec.json.encode({"source": "bench", "event": "used", **msgspec.json.decode(DATA)})
    signed = signed_headers(delivery_id("h", "e", ""), body, now_s=time.time(), secret=SECRET)
    headers = {"content-type": "application/json", **signed}
    async with Egress(AddressPolicy.parse([], allow_loopback=True)) as egress:

        async def one() -> bool:
            return (await egress.send("POST", url, headers, body)).ok

        return await _many(one, requests)


async def _plain(url: str, requests: int) -> float:
    body = msgspec.json.encode({"source": "bench", "event": "used", **msgspec.json.decode(DATA)})
    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def one() -> bool:
            return (await client.post(url, content=body)).is_success

        return await _many(one, requests)


async def _many(one: Callable[[], Awaitable[bool]], requests: int) -> float:
    left = requests

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            if not await one():
                raise RuntimeError("the receiver did not answer 200")

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(work)
    return requests / (time.perf_counter() - start)


@contextmanager
def sink() -> Iterator[int]:
    """A receiver in a process of its own; its port."""
    command = [sys.executable, "-m", "scripts.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise AssertionError("unreachable")
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for measured in (*await bench_consumer(Path(directory)), await bench_plain_httpx()):
            print(measured)


if __name__ == "__main__":
    anyio.run(_main, backend_options={"use_uvloop": True})

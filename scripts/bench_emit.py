"""What durability costs: `POST /events` against a Starlette route that only decodes the same body.

Each server is a process of its own on a free port of loopback (uvicorn with httptools, and uvloop
where there is one). Rounds of load alternate between the two, so both see the same machine.
"""

import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from subprocess import PIPE

import anyio
import msgspec
import uvicorn
from anyio.streams.buffered import BufferedByteReceiveStream
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from api.app import create_app
from api.emission import Emission, Emitter
from api.events import Events
from api.front_door import Policy
from api.metrics import Metrics
from eventstore.log import EventLog
from eventstore.records import Append
from projections.sources import Sources
from scripts.http_load import Load, Post, load
from scripts.measurement import Result

ROUNDS = 5
SECONDS = 2.0
"""Per round and side: 2 cases x 5 rounds x 2 sides x 2 s = 40 s in all."""

BATCH = 1000
JSON_LINES = "application/x-ndjson"

EVENT = msgspec.json.encode(
    {
        "source": "rate-limiting-advanced",
        "event": "rate-limit-exceeded",
        "data": {
            "consumer": {"id": "0fd2319f-1f4e-4d0b-9d5c-9f6fb7f43c5f", "username": "Ada Lovelace"},
            "ip": "10.42.0.1",
            "service": {
                "id": "9d0bee90-04b9-4af3-993f-b10db881b144",
                "name": "demo",
                "host": "httpbin.org",
                "port": 80,
                "protocol": "http",
                "connect_timeout": 60000,
                "enabled": True,
                "tags": ["a", "b"],
            },
            "rate": 4,
            "limit": 3,
            "window": "minute",
        },
    }
)


async def bench_emit(directory: Path) -> list[Result]:
    """Single events and batches. `directory` is empty and on the disk to be measured."""
    return [await _single(directory / "single"), await _batches(directory / "batches")]


async def _single(directory: Path) -> Result:
    async with _server("emit", directory) as ours, _server("decode", directory) as theirs:
        return await _alternating(
            "POST /events, 64 connections, against decoding only",
            lambda: load(Post(port=ours, path="/events", body=EVENT), SECONDS),
            lambda: load(Post(port=theirs, path="/events", body=EVENT), SECONDS),
        )


async def _batches(directory: Path) -> Result:
    lines = b"\n".join([EVENT] * BATCH)
    callers = 8  # so that all fits into the append queue
    async with _server("emit", directory) as port, EventLog.open(directory / "bare") as log:
        return await _alternating(
            "POST /events, NDJSON of 1000, against append",
            lambda: load(
                Post(
                    port=port,
                    path="/events",
                    body=lines,
                    content_type=JSON_LINES,
                    connections=callers,
                ),
                SECONDS,
            ),
            lambda: _append(log, lines, callers),
            events=BATCH,
        )


async def _alternating(
    name: str,
    ours: Callable[[], Awaitable[Load]],
    baseline: Callable[[], Awaitable[Load]],
    events: int = 1,
) -> Result:
    rounds = [(await ours(), await baseline()) for _ in range(ROUNDS)]
    return Result(
        name=name,
        ours_per_second=median([mine.per_second for mine, _ in rounds]) * events,
        baseline_per_second=median([other.per_second for _, other in rounds]) * events,
        ratio=median([mine.per_second / other.per_second for mine, other in rounds]),
        p50_ms=median([mine.p50_ms for mine, _ in rounds]),
        p99_ms=median([mine.p99_ms for mine, _ in rounds]),
    )


async def _append(log: EventLog, lines: bytes, callers: int) -> Load:
    """The same batches straight into a log, by as many callers as there are connections."""
    events = _emitter().events(lines, JSON_LINES, "bench")
    append = Append(events=tuple(events), workspace="bench")
    done, start = 0, time.perf_counter()

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < start + SECONDS:
            await log.append(append)
            done += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(call)
    return Load(done / (time.perf_counter() - start), 0, 0)


@asynccontextmanager
async def _server(role: str, directory: Path) -> AsyncIterator[int]:
    """A server process; gives its port."""
    command = [sys.executable, "-m", "scripts.bench_emit", role, str(directory)]
    async with await anyio.open_process(command, stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 100)
        try:
            yield int(line)
        finally:
            process.terminate()


def _emitter() -> Emitter:
    return Emitter(Sources([]).current)


async def _serve(role: str, directory: Path) -> None:
    if role == "decode":
        decode = msgspec.json.Decoder(Emission).decode

        async def endpoint(request: Request) -> Response:
            decode(await request.body())
            return Response(b'{"positions":[1]}', 202, media_type="application/json")

        await _listen(Starlette(routes=[Route("/events", endpoint, methods=["POST"])]))
        return
    async with EventLog.open(directory / "emit") as log:
        await _listen(
            create_app(
                Events(log, _emitter()).routes(),
                version="bench",
                policy=Policy.of(),
                resolve_workspace=lambda _: None,
                default_workspace="bench",
                observe=Metrics(dict).observe,
            )
        )


async def _listen(app: ASGIApp) -> None:
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        lifespan="off",
        http="httptools",
        proxy_headers=False,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=config.backlog) as listener:
        print(listener.getsockname()[1], flush=True)
        await uvicorn.Server(config).serve([listener])


async def _report() -> None:
    async with anyio.TemporaryDirectory(dir=str(Path.cwd())) as directory:
        for result in await bench_emit(Path(directory)):
            print(result)


def main(arguments: Sequence[str]) -> None:
    if arguments:
        role, directory = arguments
        anyio.run(_serve, role, Path(directory), backend_options={"use_uvloop": True})
    else:
        anyio.run(_report, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main(sys.argv[1:])

"""Replaying a log: pages, records, decoded events and a fold, against SELECT and msgspec alone."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import msgspec

from eventstore import Append, EventLog, Kind, RecordedEvent, decode, new_event, schema
from eventstore.events import EventEmitted
from scripts.measurement import Result, result

EVENTS = 100_000
BATCH = 1000
PAGE = 1000
ROUNDS = 7
DATA = msgspec.Raw(msgspec.json.encode({"text": "x" * 400, "number": 42, "list": [1, 2]}))


async def bench_replay(directory: Path) -> list[Result]:
    """Latencies are those of a page. `directory` is empty."""
    ours: list[float] = []
    columns: list[float] = []
    bodies: list[float] = []
    latencies: list[float] = []
    async with EventLog.open(directory) as log:
        await _fill(log)
        with closing(sqlite3.connect(directory / "log.db", check_same_thread=False)) as plain:
            for _ in range(ROUNDS):
                ours.append(await _replay(log, latencies))
                columns.append(await anyio.to_thread.run_sync(_select, plain, schema.RECORD))
                bodies.append(await anyio.to_thread.run_sync(_select, plain, "body"))
    return [
        result("replay / SELECT of the same columns, decode", ours, columns, latencies),
        result("replay / SELECT of bodies alone, decode", ours, bodies, latencies),
    ]


async def _fill(log: EventLog) -> None:
    events = [
        new_event(EventEmitted(data=DATA), stream=f"emitted/bench/{n}", kind=Kind.EMITTED)
        for n in range(100)
    ]
    while log.head < EVENTS:
        await log.append(Append(events=tuple(events * (BATCH // len(events)))))


async def _replay(log: EventLog, latencies: list[float]) -> float:
    """Events per second of a read model that keeps the last event of every stream."""
    items: dict[str, tuple[RecordedEvent, object]] = {}
    after, start = 0, time.perf_counter()
    before = start
    while page := await log.read(after, limit=PAGE):
        for event in page:
            items[event.stream] = (event, decode(event))
        after = page[-1].seq
        now = time.perf_counter()
        latencies.append(now - before)
        before = now
    return after / (before - start)


def _select(connection: sqlite3.Connection, columns: str) -> float:
    """Events per second of one statement and a decoder; `columns` end with the body."""
    decode_body: Callable[[bytes], EventEmitted] = msgspec.json.Decoder(EventEmitted).decode
    count, start = 0, time.perf_counter()
    for row in connection.execute(f"SELECT {columns} FROM event ORDER BY seq"):  # noqa: S608
        decode_body(row[-1])
        count += 1
    return count / (time.perf_counter() - start)

"""Durable appends by many callers, against plain sqlite3 doing the same work in one thread.

The baseline writes the same tables with the same indexes, settings, ids and hashes, in batches as
large as our callers are many. It answers nobody, checks nothing, and has no event loop.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from eventstore import Append, EventLog, Kind, NewEvent, schema
from eventstore.envelope import body_digest, leaf_hash, uuid7
from scripts.measurement import Result, result

CALLERS = (1, 10, 64, 1000)
ROUNDS = 10
SECONDS = 0.25
"""Per round and side. Short turns, so that both sides see the same noise: 20 s in all."""

STREAM = "emitted/bench/append"
BODY = msgspec.json.encode({"data": {"text": "x" * 400, "number": 42, "list": [1, 2], "ok": True}})
INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
PRAGMAS = (
    "PRAGMA auto_vacuum = 2",
    "PRAGMA cache_size = -32768",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = 1",
    "PRAGMA cell_size_check = 1",
)


async def bench_append(directory: Path) -> list[Result]:
    """One result per number of callers. `directory` is empty and on the disk to be measured."""
    return [await _case(directory / str(callers), callers) for callers in CALLERS]


async def _case(directory: Path, callers: int) -> Result:
    ours: list[float] = []
    baseline: list[float] = []
    latencies: list[float] = []
    with closing(_plain_log(directory / "plain.db")) as plain:
        async with EventLog.open(directory / "ours") as log:
            for _ in range(ROUNDS):
                ours.append(await _append_for(log, callers, latencies))
                baseline.append(await anyio.to_thread.run_sync(_write_for, plain, callers))
    return result(f"append, {callers} callers", ours, baseline, latencies)


async def _append_for(log: EventLog, callers: int, latencies: list[float]) -> float:
    """Events per second of so many callers, each of which waits for its answer."""
    append = Append(
        events=(NewEvent(stream=STREAM, type="event_emitted", kind=Kind.EMITTED, body=BODY),)
    )
    first, start = log.head, time.perf_counter()
    end = start + SECONDS

    async def call() -> None:
        before = start
        while before < end:
            await log.append(append)
            now = time.perf_counter()
            latencies.append(now - before)
            before = now

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(call)
    return (log.head - first) / (time.perf_counter() - start)


def _plain_log(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    connection.executescript(schema.MIGRATIONS[-1])
    return connection


def _write_for(connection: sqlite3.Connection, batch: int) -> float:
    """Events per second of one thread that commits batches of this size."""
    first = int(connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])
    seq, start = first, time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        rows = list(_rows(seq, batch))
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, rows)
        seq += batch
        connection.execute(
            "INSERT INTO stream VALUES (?, ?, ?) ON CONFLICT(name)"
            " DO UPDATE SET version = excluded.version, last_seq = excluded.last_seq",
            (STREAM, seq - 1, seq),
        )
        connection.execute("COMMIT")
    return (seq - first) / (time.perf_counter() - start)


def _rows(seq: int, count: int) -> Iterator[tuple[object, ...]]:
    wall_us = time.time_ns() // 1000
    for number in range(seq + 1, seq + 1 + count):
        random = os.urandom(40)
        event_id, salt = uuid7(wall_us + number - seq, int.from_bytes(random[32:])), random[:32]
        columns = (number, STREAM, number - 1, event_id, "event_emitted", 1, 1, wall_us, wall_us)
        names = ("", None, None, None)
        head = msgspec.json.encode((*columns[:3], event_id.hex(), *columns[4:], *names))
        digest = body_digest(salt, BODY)
        yield (*columns, *names, salt, digest, leaf_hash(head, digest), BODY)

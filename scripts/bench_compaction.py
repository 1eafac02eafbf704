"""Compacting and rebuilding a long log, against one plain SELECT of the same rows."""

import resource
import sqlite3
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec

from delivery.compacting import FoldedStates
from eventstore import Append, EventLog, Kind, NewEvent, new_event, schema
from eventstore.archive import Archive
from eventstore.compaction import Compaction
from eventstore.events import DeliveriesSettled, EntityCreated, EntityUpdated, EventEmitted
from eventstore.retention import Policy
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.rebuild import rebuild
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE, TABLES
from scripts.measurement import Result, result

ROUNDS = 3
EVENTS = 100_000
"""Compacted in each round, and rebuilt from."""

BATCH = 1000
RARE = 10
"""One event in so many is a change or a delivery fact; the others are emitted."""

HOOK = "00000000-0000-4000-8000-000000000000"
DATA = msgspec.Raw(msgspec.json.encode({"text": "x" * 200, "number": 42}))


async def bench_compaction(directory: Path) -> list[Result]:
    """Events per second. What memory grows by, in MiB, is in the names. `directory` is empty."""
    async with EventLog.open(directory) as log:
        await _fill(log)
        async with Projections.open(log, directory, _models()):
            pass
    before = _peak()
    rebuilt, plain = await _rebuild(directory)
    name = f"rebuild of all read models (memory +{_peak() - before} MiB) / SELECT"
    rebuilding = result(name, rebuilt, plain, [0])
    before = _peak()
    compacted, plain = await _compact(directory)
    name = f"compaction, archive and proof included (memory +{_peak() - before} MiB) / SELECT"
    return [rebuilding, result(name, compacted, plain, [0])]


async def _rebuild(directory: Path) -> tuple[list[float], list[float]]:
    ours, plain = [], []
    for _ in range(ROUNDS):
        plain.append(await anyio.to_thread.run_sync(_select, directory, 0, ROUNDS * EVENTS))
        start = time.perf_counter()
        verify = partial(rebuild, directory, _models(), start="zero", swap=False)
        await anyio.to_thread.run_sync(verify)
        ours.append(ROUNDS * EVENTS / (time.perf_counter() - start))
    return ours, plain


async def _compact(directory: Path) -> tuple[list[float], list[float]]:
    ours, plain = [], []
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, _models()) as projections,
    ):
        compaction = Compaction(
            log,
            Archive(directory / "archive", log.log_id),
            FoldedStates(log, lambda: Sources(TABLES)),
            [projections],
        )
        for _ in range(ROUNDS):
            first = log.first
            plain.append(await anyio.to_thread.run_sync(_select, directory, first - 1, EVENTS))
            start = time.perf_counter()
            await compaction.run(Policy(before=first + EVENTS), lambda *_: None)
            ours.append(EVENTS / (time.perf_counter() - start))
    return ours, plain


async def _fill(log: EventLog) -> None:
    created = EntityCreated(entity=_hook())
    hook = new_event(created, stream=f"event_hooks/{HOOK}", kind=Kind.CONFIG)
    await log.append(Append(events=(hook,), workspace=DEFAULT_WORKSPACE))
    while log.head < ROUNDS * EVENTS:
        events = tuple(_event(log.head + n) for n in range(1, BATCH + 1))
        await log.append(Append(events=events, workspace=DEFAULT_WORKSPACE))


def _event(number: int) -> NewEvent:
    """Emitted ones, and now and then a receipt, or a change of one of a thousand consumers."""
    if number % RARE:
        return new_event(EventEmitted(data=DATA), stream="emitted/bench/e", kind=Kind.EMITTED)
    if number % (2 * RARE):
        settled = DeliveriesSettled(
            id=str(number), after=number - RARE, upto=number - 1, delivered=1, hook_version=0
        )
        return new_event(settled, stream=f"deliveries/{HOOK}", kind=Kind.DELIVERY)
    identity = f"00000000-0000-4000-8000-{number % 1000:012}"
    entity = {"id": identity, "username": f"user-{number % 1000}"}
    changed = EntityUpdated(entity=entity, old_entity=entity)
    return new_event(changed, stream=f"consumers/{identity}", kind=Kind.CONFIG)


def _hook() -> dict[str, object]:
    return {
        "id": HOOK,
        "source": "bench",
        "event": "e",
        "handler": "log",
        "on_change": True,
        "config": {},
        "created_at": 1,
        "updated_at": 1,
    }


def _models() -> list[ReadModel]:
    return [Hooks(), Sources(TABLES), Entities(), Deliveries(), Health()]


def _select(directory: Path, after: int, count: int) -> float:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        start = time.perf_counter()
        for _ in connection.execute(schema.READ, (after, after + count, -1)):
            pass
        return count / (time.perf_counter() - start)


def _peak() -> int:
    """The most memory this process has had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform != "darwin" else peak // 2**20

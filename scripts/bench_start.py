"""Cold starts: with its snapshot, the read models do not care how long the log is."""

import time
from pathlib import Path

import msgspec

from eventstore import Append, EventLog, Kind, NewEvent, new_event
from eventstore.events import EntityCreated, EventEmitted
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE, TABLES
from scripts.measurement import Result, result

CONSUMERS = 1000
SHORT = 1_000
LONG = 200_000
BATCH = 1000
ROUNDS = 7


async def bench_start(directory: Path) -> list[Result]:
    """Starts per second: a long log beside a short one, the same configuration in both."""
    for length in (SHORT, LONG):
        await _fill(directory / str(length), length)
    long, short = [], []
    for _ in range(ROUNDS):
        long.append(await _start(directory / str(LONG)))
        short.append(await _start(directory / str(SHORT)))
    name = f"cold starts, log of {LONG:,} events / of {SHORT:,}"
    return [result(name, long, short, [1 / rate for rate in long])]


async def _fill(directory: Path, length: int) -> None:
    event = new_event(
        EventEmitted(data=msgspec.Raw(b'{"text":"' + b"x" * 400 + b'"}')),
        stream="emitted/bench/start",
        kind=Kind.EMITTED,
    )
    async with EventLog.open(directory) as log:
        consumers = tuple(_consumer(number) for number in range(CONSUMERS))
        await log.append(Append(events=consumers, workspace=DEFAULT_WORKSPACE))
        for _ in range(0, length, BATCH):
            await log.append(Append(events=(event,) * min(BATCH, length)))
    await _start(directory)


def _consumer(number: int) -> NewEvent:
    entity = {"id": f"00000000-0000-4000-8000-{number:012}", "username": f"user-{number}"}
    return new_event(
        EntityCreated(entity=entity), stream=f"consumers/{entity['id']}", kind=Kind.CONFIG
    )


async def _start(directory: Path) -> float:
    start = time.perf_counter()
    async with EventLog.open(directory) as log:
        models: list[ReadModel] = [Hooks(), Sources(TABLES), Entities(), Deliveries(), Health()]
        async with Projections.open(log, directory, models):
            return 1 / (time.perf_counter() - start)

"""The oldest events leave the log: for readers at once, from the file in chunks."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import anyio
import anyio.to_thread
import pytest

from eventstore import (
    Append,
    Appended,
    EventLog,
    Idempotency,
    Kind,
    LogOptions,
    Truncated,
    truncation,
)
from tests.eventstore.samples import created, emitted, failed, of

LARGE = b'{"data":{"text":"' + b"x" * 2000 + b'"}}'


async def filled(log: EventLog, count: int, body: bytes = LARGE) -> None:
    while log.head < count:
        await log.append(of(*[emitted(body)] * min(1000, count - log.head)))


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("log.db*"))


def rows(directory: Path) -> list[int]:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM event ORDER BY seq")]


def decide(directory: Path, floor: int) -> None:
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as connection:
        truncation.decide(connection, floor, None)


async def test_room_is_given_back(directory: Path) -> None:
    """To the file system, not only to the file; and no byte of a body is left in it."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(b'{"data":{"text":"%s"}}' % (b"secret" * 1000))))
        await filled(log, 8000)
        before = size(directory)
        await log.truncate_before(7900)
        after = size(directory)

        assert after < before / 20
    assert rows(directory) == list(range(7900, 8001))
    assert all(b"secretsecret" not in path.read_bytes() for path in directory.glob("log.db*"))


async def test_appends_take_turns_with_chunks(directory: Path) -> None:
    """Nobody waits until everything is deleted."""
    async with EventLog.open(directory) as log:
        await filled(log, 3 * truncation.CHUNK, b'{"data":{}}')
        chunks: list[int] = []
        answered: list[int] = []

        async def append() -> None:
            while not chunks or chunks[-1] < 2 * truncation.CHUNK:
                await log.append(of(emitted()))
                answered.append(sum(chunks))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            await log.truncate_before(3 * truncation.CHUNK, progress=chunks.append)
            tasks.cancel_scope.cancel()

    assert len(chunks) == 3
    assert len(set(answered)) > 2, "appends were answered between the chunks"


async def test_what_is_left_is_as_it_was(log: EventLog) -> None:
    """Positions, versions, ids, identities and pages go on."""
    key = Idempotency("k", b"request")
    first = await log.append(Append(events=(created("a/1"), created("a/1")), idempotency=key))
    await log.append(of(failed("d/1"), emitted(identity="mine"), created("a/1"), emitted()))
    kept = await log.read(4)
    await log.truncate_before(5)

    assert log.first == 5
    assert await log.read(4) == kept
    assert await log.read(4, kinds=(Kind.CONFIG,)) == kept[:1]
    assert [event.version for event in await log.read_stream("a/1")] == [2]
    assert await log.read_stream("d/1") == []
    assert [await log.find(UUID(event.id)) for event in kept] == kept
    assert await log.find_identity("mine") == 4
    assert await log.append(Append(events=(created("a/1"),) * 2, idempotency=key)) == Appended(
        first.positions, repeated=True
    )
    assert await log.append(of(emitted(identity="mine"))) == Appended((4,), repeated=True)
    assert await log.append(Append(events=(created("a/1"),), expect={"a/1": 2})) == Appended((7,))


async def test_nobody_skips_silently(log: EventLog) -> None:
    """Below the floor every way of reading says so."""
    await log.append(of(*[emitted()] * 5))
    old = [await log.checkpoint(seq) for seq in range(6)]
    await log.truncate_before(4)

    for after in range(3):
        with pytest.raises(Truncated) as refused:
            await log.read(after, limit=1)
        assert refused.value.first == 4
        with pytest.raises(Truncated):
            await log.verify(old[after])
    for checkpoint in old[3:]:
        await log.verify(checkpoint)
    assert await log.checkpoint(3) != old[3], "the leaf went with the event"


async def test_a_read_that_is_overtaken_says_so(log: EventLog) -> None:
    """A page that was asked for before, and read after, the truncation is not cut in silence."""
    await log.append(of(*[emitted()] * 1000))
    outcomes: list[object] = []

    async def read() -> None:
        while not outcomes or outcomes[-1] is not Truncated:
            try:
                page = await log.read(0)
            except Truncated:
                outcomes.append(Truncated)
            else:
                outcomes.append(len(page))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(read)
            await anyio.lowlevel.checkpoint()
            await log.truncate_before(900)

    assert set(outcomes) <= {1000, Truncated}


@pytest.mark.parametrize("floor", [7, 100])
async def test_the_newest_event_stays(log: EventLog, floor: int) -> None:
    """Positions, times and ids go on from it."""
    await log.append(of(*[emitted()] * 6))
    with pytest.raises(ValueError, match="newest"):
        await log.truncate_before(floor)

    assert len(await log.read(0)) == 6


async def test_the_floor_never_goes_back(directory: Path) -> None:
    """Truncating again with a lower floor changes nothing, also after a restart."""
    async with EventLog.open(directory) as log:
        await log.append(of(*[emitted()] * 6))
        await log.truncate_before(5, snapshot=6)
        await log.truncate_before(3)

        assert (log.first, log.snapshot) == (5, 6)
    async with EventLog.open(directory) as log:
        assert (log.first, log.snapshot, log.head) == (5, 6, 6)
        assert (await log.append(of(emitted()))).positions == (7,)


async def test_an_interrupted_truncation_is_final_and_goes_on(directory: Path) -> None:
    """From the moment it is decided nobody reads below, though rows are still there."""
    async with EventLog.open(directory) as log:
        await log.append(of(*[created()] * 6))
    await anyio.to_thread.run_sync(decide, directory, 4)
    async with EventLog.open(directory) as log:
        with pytest.raises(Truncated):
            await log.read(2)
        stream = await log.read_stream("consumers/1")
        await log.truncate_before(4)

    assert [event.seq for event in stream] == [4, 5, 6]
    assert rows(directory) == [4, 5, 6]


async def test_a_foreign_reader_delays_only_the_room(directory: Path) -> None:
    """While another program is in the WAL, everything is done but emptying it."""
    async with EventLog.open(directory, options=LogOptions()) as log:
        await log.append(of(*[emitted(LARGE)] * 100))
        with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM event").fetchone()
            with anyio.fail_after(10):
                await log.truncate_before(100)

            assert log.first == 100
            assert [event.seq for event in await log.read(99)] == [100]
        assert (await log.append(of(emitted()))).positions == (101,)

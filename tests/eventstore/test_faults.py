"""A full disk, other programs in the file, and bugs: what callers are told, and what goes on."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import anyio
import msgspec
import pytest

from eventstore import (
    Append,
    Appended,
    EventLog,
    Idempotency,
    LogOptions,
    LogUnavailable,
    OutcomeUnknown,
    WrongVersion,
    wal,
)
from eventstore.database import Database
from tests.eventstore.samples import created, emitted, of

TABLE = "CREATE TABLE item(n INTEGER);"
SMALL = LogOptions(max_page_count=60)
BIG = emitted(b"x" * 30_000)


async def fill(log: EventLog) -> int:
    """Append until there is no room; the number of events that found some."""
    first = log.head
    with suppress(LogUnavailable):
        while True:
            await log.append(of(BIG))
    return log.head - first


async def test_a_full_log_refuses_and_recovers(directory: Path) -> None:
    """No room: refused as full, nothing stored, reading goes on. Room again: stored, no restart."""
    async with EventLog.open(directory, options=SMALL) as log:
        stored = await fill(log)
        with pytest.raises(LogUnavailable, match="no room left") as refused:
            await log.append(of(BIG, created()))
        readable = [event.seq for event in await log.read(0)]
        await log.limit(200)
        answer = await log.append(Append(events=(BIG, created()), expect={"consumers/1": -1}))

        assert refused.value.full
        assert readable == list(range(1, stored + 1))
        assert answer == Appended((stored + 1, stored + 2))
        assert log.failure is None


async def test_a_full_log_still_answers_what_needs_no_room(directory: Path) -> None:
    """In a batch that finds no room, repetitions and refusals get their own answers."""
    key = Idempotency("key", b"request")
    outcomes: dict[str, Appended | Exception] = {}

    async def call(name: str, append: Append) -> None:
        try:
            outcomes[name] = await log.append(append)
        except (LogUnavailable, WrongVersion) as error:
            outcomes[name] = error

    async with EventLog.open(directory, options=SMALL) as log:
        await log.append(Append(events=(created(),), idempotency=key))
        stored = await fill(log)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "big", of(BIG))
            tasks.start_soon(call, "again", Append(events=(created(),), idempotency=key))
            tasks.start_soon(call, "wrong", Append(events=(BIG,), expect={"consumers/1": 5}))

        assert log.head == stored + 1
    assert isinstance(outcomes["big"], LogUnavailable)
    assert outcomes["again"] == Appended((1,), repeated=True)
    assert isinstance(outcomes["wrong"], WrongVersion)


async def test_small_appends_fit_where_large_ones_do_not(directory: Path) -> None:
    """A refusal for want of room says nothing about the next append."""
    async with EventLog.open(directory, options=SMALL) as log:
        stored = await fill(log)

        assert await log.append(of(emitted())) == Appended((stored + 1,))


async def test_a_limit_holds_for_the_next_start_only_if_asked_for(directory: Path) -> None:
    """The limit is the process's, not the file's."""
    async with EventLog.open(directory, options=SMALL) as log:
        stored = await fill(log)
    async with EventLog.open(directory) as log:
        assert await log.append(of(BIG)) == Appended((stored + 1,))


@contextmanager
def other_program(directory: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as connection:
        yield connection


async def test_a_foreign_event_is_noticed(directory: Path) -> None:
    """Somebody wrote into the file: it is not read as if the log had stored it, the next batch is
    refused, then the log goes on after it.
    """
    async with EventLog.open(directory) as log:
        await log.append(of(created()))
        with other_program(directory) as other:
            other.execute("CREATE TEMP TABLE copy AS SELECT * FROM event")
            other.execute("UPDATE copy SET seq = 2, version = 1, time_us = time_us + 1")
            other.execute("INSERT INTO event SELECT * FROM copy")
        readable = await log.read(0)
        with pytest.raises(LogUnavailable, match="another program wrote"):
            await log.append(of(emitted()))
        answer = await log.append(of(emitted()))

        assert [event.seq for event in readable] == [1]
        assert answer == Appended((3,))
        assert [event.seq for event in await log.read(0)] == [1, 2, 3]


async def test_a_batch_that_fails_halfway_leaves_nothing(log: EventLog, directory: Path) -> None:
    """Its events were written when its identities could not be: they are gone again."""
    append = Append(events=(emitted(), created()), idempotency=Idempotency("key", b"request"))
    with other_program(directory) as other:
        other.execute(
            "CREATE TRIGGER no BEFORE INSERT ON identity BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        with pytest.raises(LogUnavailable, match="another program"):
            await log.append(append)
        other.execute("DROP TRIGGER no")

    assert log.head == 0
    assert await log.append(append) == Appended((1, 2))
    assert [event.version for event in await log.read(0)] == [0, 0]


async def test_another_writer_is_not_waited_for_for_ever(log: EventLog, directory: Path) -> None:
    """While another program holds the write lock appends are refused; afterwards they are not."""
    await log.append(of(emitted()))
    with other_program(directory) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="holds the log's write lock") as refused:
            await log.append(of(emitted()))
        other.execute("ROLLBACK")

    assert not refused.value.full
    assert await log.append(of(emitted())) == Appended((2,))


IMPOSSIBLE = of(msgspec.structs.replace(emitted(), schema_version=2**70))
"""Passes the door and fails in the middle of the transaction: no INTEGER is that large."""


async def test_a_bug_in_a_batch_leaves_nobody_waiting(log: EventLog) -> None:
    """Its neighbours' outcome is unknown, they send again, and the log goes on."""
    outcomes: list[str] = []

    async def call(append: Append) -> None:
        try:
            await log.append(append)
        except OutcomeUnknown as unknown:
            outcomes.append(str(unknown))

    async with anyio.create_task_group() as tasks:
        for append in (of(emitted(identity="a")), IMPOSSIBLE, of(emitted(identity="b"))):
            tasks.start_soon(call, append)
    again = [await log.append(of(emitted(identity=name))) for name in "ab"]

    assert len(outcomes) == 3
    assert "too large" in outcomes[0]
    assert again == [Appended((1,)), Appended((2,))]
    assert log.failure is None


async def test_failures_apart_do_not_stop_the_log(log: EventLog) -> None:
    """Only the second in a row does: what was stored in between counts, repetitions do not."""
    await log.append(of(emitted(identity="a")))
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            await log.append(IMPOSSIBLE)
        await log.append(of(emitted()))
    with pytest.raises(OutcomeUnknown):
        await log.append(IMPOSSIBLE)
    await log.append(of(emitted(identity="a")))
    with pytest.raises(OutcomeUnknown):
        await log.append(IMPOSSIBLE)
    with pytest.raises(LogUnavailable, match="failed twice in a row"):
        await log.append(of(emitted()))

    assert log.failure is not None
    assert len(await log.read(0)) == 4


def replace_log(directory: Path, content: bytes) -> None:
    """What a careless restore does under a running process."""
    for path in directory.glob("log.db*"):
        path.rename(path.with_name(f"old-{path.name}"))
    (directory / "log.db").write_bytes(content)


@pytest.mark.parametrize("kind", ["garbage", "older"])
async def test_a_file_that_is_another_after_a_failure_stops_the_log(
    directory: Path, kind: str
) -> None:
    """What cannot be reopened, or lacks what was acknowledged, is not written to."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))
    contents = {"garbage": b"garbage" * 1000, "older": (directory / "log.db").read_bytes()}
    reasons = {"garbage": "not a database", "older": "position 2 is not what it was"}
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))
        replace_log(directory, contents[kind])
        with pytest.raises(OutcomeUnknown):
            await log.append(IMPOSSIBLE)
        with pytest.raises(LogUnavailable, match=reasons[kind]):
            await log.append(of(emitted()))

        assert log.head == 2


def sizes(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.iterdir()
    }


async def test_an_idle_log_writes_nothing(directory: Path) -> None:
    """Opened, read and waited on, but not appended to, a log leaves every file as it is."""
    async with EventLog.open(directory) as log:
        await log.append(of(created(), emitted()))
    before = sizes(directory)
    async with EventLog.open(directory) as log:
        with other_program(directory) as other:
            version = other.execute("PRAGMA data_version").fetchone()
            await log.verify(await log.checkpoint(2))
            assert len(await log.read(0)) == 2
            with anyio.move_on_after(0.3):
                await log.wait(2)

            assert other.execute("PRAGMA data_version").fetchone() == version
        during = sizes(directory)

    assert {name: during[name] for name in ("log.db", "keys.db")} == {
        name: before[name] for name in ("log.db", "keys.db")
    }
    assert during["log.db-wal"][0] == 0


async def test_the_wal_stays_short(directory: Path) -> None:
    """However much is appended without a pause, the WAL is moved into the file in time."""
    async with EventLog.open(directory) as log:
        for _ in range(60):
            await log.append(of(*[emitted(b"x" * 10_000)] * 100))
        wal = (directory / "log.db-wal").stat().st_size
        main = (directory / "log.db").stat().st_size

    assert main > 40 * 1024 * 1024
    assert wal < 30 * 1024 * 1024


async def test_a_wal_that_got_too_long_is_emptied(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the limit it is cut to nothing, unless a reader is in it: that is reported."""

    def length() -> int:
        return (directory / "log.db-wal").stat().st_size

    directory.mkdir()
    async with Database.open(directory / "log.db", migrations=[TABLE]) as database:
        with other_program(directory) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM item").fetchone()
            await database.transact(sqlite3.Connection.execute, "INSERT INTO item VALUES (1)")
            await database.run(wal.checkpoint, 0)
            other.execute("COMMIT")
        pinned = length()
        reports = [record.getMessage() for record in caplog.records]
        await database.run(wal.checkpoint, 0)

        assert pinned > 0
        assert length() == 0
        assert len(reports) == 1
        assert "a reader keeps the WAL from being emptied" in reports[0]


async def test_more_streams_than_are_remembered(log: EventLog) -> None:
    """Versions that were dropped from memory are read from disk again."""
    first = await log.append(of(created("first/1")))
    for start in range(0, 25_000, 5000):
        await log.append(of(*[created(f"many/{n}") for n in range(start, start + 5000)]))
    await log.append(Append(events=(created("first/1"),), expect={"many/24999": 0, "first/1": 0}))

    assert first == Appended((1,))
    assert [event.version for event in await log.read_stream("first/1")] == [0, 1]


async def test_a_reader_that_stays_does_not_stop_appends(directory: Path) -> None:
    """Another program's open read transaction keeps the WAL growing and nothing else."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))
        with other_program(directory) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM event").fetchone()
            for _ in range(30):
                await log.append(of(*[emitted(b"x" * 4000)] * 100))
            seen = other.execute("SELECT count(*) FROM event").fetchone()
            other.execute("COMMIT")

        assert log.head == 3001
        assert seen == (1,)
        assert log.failure is None

"""From memory to disk: complete, consistent, and not lost when it fails half way."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from delivery.ledger import UNFLUSHED, Ledger
from delivery.receipts import Receipts
from delivery.store import StateStore
from eventstore import Append, EventLog, Kind, LogDiverged
from eventstore.codec import decode
from eventstore.events import DeliveriesSettled, EntityCreated
from projections.hooks import Hooks
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.world import config, emitted, entity, until

STEPS = [*range(8), 16, 64, 256, 1024]
"""Turns of the event loop after which something is cancelled: at every await, more or less."""


class Books:
    """A log with hook `h` and 100 events, and a ledger without a consumer."""

    def __init__(self, directory: Path, log: EventLog, store: StateStore, hooks: Hooks) -> None:
        self.directory = directory
        self.log = log
        self.store = store
        self.hooks = hooks
        self.ledger = Ledger(log, store, hooks)

    async def crash(self) -> None:
        """Go on with what is on disk."""
        self.ledger = Ledger(self.log, self.store, self.hooks)
        await self.ledger.load()

    def deliver(self, *seqs: int) -> None:
        outbox = self.ledger.outbox("h")
        for seq in seqs:
            outbox.fire((seq, ""))
            outbox.delivered((seq, ""))
            self.ledger.completed(outbox)
            self.ledger.advance(seq)

    def open(self, *seqs: int) -> None:
        outbox = self.ledger.outbox("h")
        for seq in seqs:
            outbox.fire((seq, ""))
            self.ledger.touch(outbox)
            self.ledger.advance(seq)

    async def write_receipts(self) -> bool:
        receipts = Receipts(self.log, self.hooks, self.ledger)
        return await receipts.append(self.ledger.outboxes.values())

    async def receipts(self) -> list[DeliveriesSettled]:
        stored = [decode(event) for event in await self.log.read_stream("deliveries/h")]
        return [body for body in stored if isinstance(body, DeliveriesSettled)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Meanwhile state.db cannot be written."""
        with closing(sqlite3.connect(self.directory / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Books]:
    async with EventLog.open(directory) as log, StateStore.open(directory) as store:
        await store._database.run(lambda connection: connection.execute("PRAGMA busy_timeout = 0"))
        created = config("event_hooks/h", EntityCreated(entity=entity("h")))
        await log.append(Append(events=(created,), workspace=DEFAULT_WORKSPACE))
        await log.append(Append(events=tuple(emitted({"n": n}) for n in range(100))))
        hooks = Hooks()
        for event in await log.read(0, kinds=[Kind.CONFIG]):
            hooks.apply(hooks.evolve(event))
        books = Books(directory, log, store, hooks)
        await books.ledger.load()
        yield books


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with opened(tmp_path) as books:
        yield books


async def cancelled_after(turns: int, ledger: Ledger) -> None:
    """Flush, and lose patience after some turns of the event loop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.flush)
        for _ in range(turns):
            await checkpoint()
        tasks.cancel_scope.cancel()


def test_the_bound_is_as_documented() -> None:
    """The README states it."""
    assert UNFLUSHED == 256


async def test_a_flush_writes_all_of_it(books: Books) -> None:
    """What was decided, what is open, and how far that is."""
    books.deliver(2, 3)
    books.open(4)
    flushed = await books.ledger.flush()
    await books.crash()

    assert flushed
    assert books.ledger.live == 4
    outbox = books.ledger.outboxes["h"]
    assert list(outbox.open) == [(4, "")]
    assert (outbox.progress.settled, outbox.progress.delivered) == (0, 2)


async def test_nothing_new_is_not_written(books: Books) -> None:
    """An idle service writes nothing."""
    books.open(2)
    await books.ledger.flush()
    before = (books.directory / "state.db-wal").stat()
    for _ in range(3):
        await books.ledger.flush()

    assert (books.directory / "state.db-wal").stat() == before


async def test_a_failed_flush_loses_nothing(books: Books) -> None:
    """It says what is wrong, keeps everything, and the next one writes it."""
    books.open(2)
    books.deliver(3)
    with books.locked():
        flushed = await books.ledger.flush()
        problem = books.ledger.problem
        books.open(4)
        books.ledger.outboxes["h"].delivered((2, ""))
        books.ledger.completed(books.ledger.outboxes["h"])
        await books.ledger.flush()
        waiting = books.ledger.unflushed

    assert not flushed
    assert problem is not None
    assert "locked" in problem
    assert waiting == 2, "completions that are not on disk hold new attempts up"
    assert await books.ledger.flush()
    assert (books.ledger.problem, books.ledger.unflushed) == (None, 0)
    await books.crash()
    outbox = books.ledger.outboxes["h"]
    assert (books.ledger.live, list(outbox.open)) == (4, [(4, "")])
    assert outbox.progress.delivered == 2


@pytest.mark.parametrize("turns", STEPS)
async def test_a_cancelled_flush_loses_nothing(books: Books, turns: int) -> None:
    """Whenever it is cancelled, the next one writes what it did not, and counts it once."""
    books.open(2, 3)
    books.deliver(4)
    await cancelled_after(turns, books.ledger)
    books.ledger.outboxes["h"].delivered((2, ""))
    books.ledger.completed(books.ledger.outboxes["h"])
    await books.ledger.flush()

    assert books.ledger.unflushed == 0
    await books.crash()
    outbox = books.ledger.outboxes["h"]
    assert (books.ledger.live, list(outbox.open)) == (4, [(3, "")])
    assert outbox.progress.delivered == 2


async def test_completions_during_a_flush_wait_for_the_next(books: Books) -> None:
    """Only what was gathered is on disk afterwards."""
    books.deliver(2, 3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.ledger.flush)
        await checkpoint()
        await checkpoint()
        books.deliver(4)

    assert books.ledger.unflushed == 1


async def test_whoever_waits_for_room_is_told_of_a_flush(books: Books) -> None:
    """And not of one that failed."""
    told: list[None] = []
    books.ledger.flushed = lambda: told.append(None)
    books.deliver(2)
    with books.locked():
        await books.ledger.flush()

    assert told == []
    await books.ledger.flush()
    assert told == [None]


async def test_changes_are_flushed_by_and_by(books: Books) -> None:
    """Also after somebody else flushed in between, and after the disk was full for a while."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.ledger.run_flushes)
        for seq in range(2, 6):
            books.deliver(seq)
            await until(lambda: books.ledger.unflushed == 0)
            await books.ledger.flush()
        with books.locked():
            books.deliver(6)
            await until(lambda: books.ledger.problem)
        await until(lambda: books.ledger.unflushed == 0)
        tasks.cancel_scope.cancel()

    assert books.ledger.problem is None


async def test_the_live_position_alone_is_written_rarely(books: Books) -> None:
    """Events that concern no hook cost no write each, and a restart not too many reads."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.ledger.run_flushes)
        for seq in range(1, 60):
            books.ledger.advance(seq)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    loaded = await books.store.load()

    assert loaded.cursor is not None
    assert loaded.cursor.seq == 0
    assert not books.ledger._wanted.is_set()
    books.ledger.advance(10_000)
    assert books.ledger._wanted.is_set()


async def test_a_deleted_hook_made_again_at_once_is_kept(books: Books) -> None:
    """What is written of the new one is not deleted with the old one."""
    books.deliver(2)
    await books.ledger.flush()
    old = books.ledger.outboxes["h"]
    books.ledger.forget(old)
    books.deliver(3)
    books.ledger.touch(old)
    await books.ledger.flush()
    await books.crash()

    assert books.ledger.outboxes["h"].progress.delivered == 1


async def test_a_file_of_another_log_is_refused(tmp_path: Path) -> None:
    """Going on would skip or repeat events silently."""
    for name in ("one", "other"):
        async with opened(tmp_path / name) as books:
            books.open(2)
            await books.ledger.flush()
    (tmp_path / "one" / "state.db").replace(tmp_path / "other" / "state.db")

    with pytest.raises(LogDiverged, match="is of another log"):
        async with opened(tmp_path / "other"):
            pass


async def test_receipts_cover_every_position_once(books: Books) -> None:
    """Each begins where the last one ended."""
    books.deliver(2, 3)
    await books.write_receipts()
    books.deliver(5)
    books.open(6)
    await books.write_receipts()
    first, second = await books.receipts()

    assert (first.after, first.upto, first.delivered) == (0, 3, 2)
    assert (second.after, second.upto, second.delivered) == (3, 6, 1)
    assert second.open == [(6, "")]


async def test_no_news_no_receipt(books: Books) -> None:
    """Nothing is said twice, and nothing is said of nothing."""
    books.open(2)
    await books.write_receipts()
    books.deliver(3)
    await books.write_receipts()
    head = books.log.head
    await books.write_receipts()

    assert books.log.head == head
    assert len(await books.receipts()) == 1


async def test_without_state_db_there_are_no_receipts(books: Books) -> None:
    """Their words have to be on disk first, or they could be said twice."""
    books.deliver(2)
    with books.locked():
        written = await books.write_receipts()

    assert not written
    assert await books.receipts() == []
    assert await books.write_receipts()
    assert [receipt.delivered for receipt in await books.receipts()] == [1]


@pytest.mark.parametrize("turns", STEPS)
async def test_a_receipt_is_stored_once_however_it_is_interrupted(books: Books, turns: int) -> None:
    """After a crash at any point the same words are stored, or were already."""
    books.deliver(*range(2, 12))
    await books.ledger.flush()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(books.write_receipts)
        for _ in range(turns):
            await checkpoint()
        tasks.cancel_scope.cancel()
    await books.crash()
    await books.write_receipts()
    await books.crash()
    await books.write_receipts()

    assert [(r.after, r.upto, r.delivered) for r in await books.receipts()] == [(0, 11, 10)]


async def test_receipts_of_many_hooks_share_appends(books: Books) -> None:
    """One record per hook, few commits, and each in the workspace of its hook."""
    for workspace in range(2):
        created = tuple(
            config(f"event_hooks/h{number}", EntityCreated(entity=entity(f"h{number}")))
            for number in range(workspace, 500, 2)
        )
        await books.log.append(Append(events=created, workspace=f"w{workspace}"))
    for event in await books.log.read(books.ledger.live, kinds=[Kind.CONFIG]):
        books.hooks.apply(books.hooks.evolve(event))
    for number in range(500):
        outbox = books.ledger.outbox(f"h{number}")
        outbox.suppress("snooze", books.log.head)
        books.ledger.touch(outbox)
    before = books.log.head
    await books.write_receipts()
    receipts = await books.log.read(before, kinds=[Kind.DELIVERY])

    assert len(receipts) == 500
    assert {event.workspace for event in receipts if event.stream.endswith("3")} == {"w1"}

"""Start, crash, drain, stop."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from delivery.ledger import UNFLUSHED
from delivery.service import DeliveryService
from eventstore import LogDiverged
from eventstore.events import DeliveriesSettled, HookPaused, HookResumed
from tests.delivery.world import (
    OPTIONS,
    Receiver,
    World,
    delivering,
    of_type,
    until,
)


@contextmanager
def broken(directory: Path) -> Iterator[None]:
    """Meanwhile every write to state.db, and every start from it, crashes the consumer."""
    with closing(sqlite3.connect(directory / "state.db", isolation_level=None)) as other:
        other.execute("ALTER TABLE cursor RENAME TO hidden")
        yield
        other.execute("ALTER TABLE hidden RENAME TO cursor")


async def test_a_running_service_has_no_problems(world: World) -> None:
    """And counts what there is to count."""
    await world.hook()
    await world.emit()
    await world.quiet()

    assert world.service.problems() == []
    assert world.service.summary() == {
        "position": world.log.head,
        "behind": 0,
        "open": 0,
        "in_flight": 0,
        "parked": 0,
        "lagging_hooks": 0,
        "stopped_hooks": 0,
    }


async def test_a_stop_finishes_what_is_in_flight(world: World, receiver: Receiver) -> None:
    """It is recorded, receipted and not repeated; nothing new is started."""
    await world.hook()
    receiver.hold()
    seqs = await world.emit(*range(10))
    await until(lambda: receiver.arrived)
    world.service.stop()
    await anyio.wait_all_tasks_blocked()
    receiver.let_go()
    await world.stop()
    (receipt,) = of_type(await world.facts(), DeliveriesSettled)

    assert receiver.seqs() == [seqs[0]]
    assert (receipt.delivered, receipt.upto) == (1, seqs[0])


async def test_a_stop_does_not_wait_for_ever(tmp_path: Path, receiver: Receiver) -> None:
    """What hangs is cut off after the drain, and made again by the next start."""
    options = msgspec.structs.replace(OPTIONS, drain_timeout=0.05)
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.hook()
        receiver.hold()
        (seq,) = await world.emit()
        await until(lambda: receiver.arrived)
        await world.stop()
    receiver.let_go()
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()

    assert receiver.seqs() == [seq, seq]
    assert len({delivery.id for delivery in receiver.arrived}) == 1


async def test_a_stop_does_not_wait_for_a_full_disk(tmp_path: Path, receiver: Receiver) -> None:
    """What cannot be written is repeated later; the process ends."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.service.ledger.flush()
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            await _impatient(world.service)
            other.execute("BEGIN IMMEDIATE")
            (seq,) = await world.emit()
            await until(lambda: world.service.problems())
            await world.stop()
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()

    assert receiver.seqs() == [seq, seq]


async def test_problems_with_state_db_are_told_and_pass(
    tmp_path: Path, world: World, receiver: Receiver
) -> None:
    """Deliveries go on up to the bound, wait, and go on without a restart."""
    await world.hook()
    await world.service.ledger.flush()
    await _impatient(world.service)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await world.emit(*range(2 * UNFLUSHED))
        await until(lambda: world.service.problems())
        await until(lambda: len(receiver.answered) >= UNFLUSHED)
        await until(lambda: not world.outbox().running)
        (problem,) = world.service.problems()

        assert "state.db cannot be written" in problem
        assert len(receiver.arrived) < UNFLUSHED + OPTIONS.limits.hook
    await world.quiet()
    await until(lambda: not world.service.problems())
    assert len(receiver.arrived) == 2 * UNFLUSHED


async def _impatient(service: DeliveryService) -> None:
    def hurry(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    await service._store._database.run(hurry)


async def test_a_crash_repeats_no_more_than_promised(tmp_path: Path, receiver: Receiver) -> None:
    """What was not flushed and what was in flight, each under its old id."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        seqs = await world.emit(*range(2000))
        await until(lambda: len(receiver.answered) > 1000)
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()

    assert {*receiver.seqs()} == {*seqs}
    assert len(receiver.arrived) - len(seqs) <= UNFLUSHED + OPTIONS.limits.hook
    assert len({delivery.id for delivery in receiver.arrived}) == len(seqs)


async def test_a_crash_of_the_consumer_is_survived(
    tmp_path: Path, world: World, receiver: Receiver
) -> None:
    """It is told meanwhile, and the consumer starts again from its checkpoint."""
    await world.hook()
    before = await world.emit(*range(5))
    await world.quiet()
    await world.service.ledger.flush()
    with broken(tmp_path):
        during = await world.emit(*range(5))
        await until(lambda: world.service.failure)

        assert world.service.problems() == ["the consumer crashed and starts again"]
    await until(lambda: not world.service.failure)
    await world.quiet()
    assert {*receiver.seqs()} == {*before, *during}
    assert len(receiver.seqs()) <= len(before) + 2 * len(during)


async def test_whoever_waits_is_not_forgotten_in_a_crash(tmp_path: Path, world: World) -> None:
    """An order that was given before it is answered once it is obeyed after it."""
    await world.hook()
    await world.emit()
    await world.quiet()
    await world.service.ledger.flush()
    answered = anyio.Event()

    async def wait() -> None:
        await world.service.wait_live(position)
        answered.set()

    async with anyio.create_task_group() as tasks:
        with broken(tmp_path):
            await world.emit()
            await until(lambda: world.service.failure)
            position = await world.say(HookPaused())
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await answered.wait()

    assert world.outbox().stopped == "paused by hand"


async def test_attempts_in_flight_end_with_the_crash(
    tmp_path: Path, world: World, receiver: Receiver
) -> None:
    """They are made again; no place is lost to them."""
    await world.hook()
    await world.hook("other")
    receiver.hold()
    (seq,) = await world.emit()
    await until(lambda: len(receiver.arrived) == 2)
    await world.service.ledger.flush()
    with broken(tmp_path):
        await world.emit()
        await until(lambda: world.service.failure)
    receiver.let_go()
    await until(lambda: not world.service.failure)
    await world.quiet()

    assert receiver.seqs().count(seq) == 2


async def test_a_stop_while_crashed_ends_the_service(tmp_path: Path, world: World) -> None:
    """It does not wait for the next start."""
    await world.hook()
    await world.service.ledger.flush()
    with broken(tmp_path):
        await world.emit()
        await until(lambda: world.service.failure)
        await world.stop()


async def test_a_disabled_service_delivers_nothing(tmp_path: Path, receiver: Receiver) -> None:
    """Orders are answered, and what is stored meanwhile is delivered once it is enabled."""
    options = msgspec.structs.replace(OPTIONS, enabled=False)
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.hook()
        (seq,) = await world.emit()
        with anyio.fail_after(1):
            await world.obeyed(HookPaused())
        await world.stop()

        assert receiver.arrived == []
    async with delivering(tmp_path, receiver) as world:
        await until(lambda: world.service.ledger.live == world.log.head)
        await world.obeyed(HookResumed())
        await world.quiet()
    assert receiver.seqs() == [seq]


async def test_another_logs_state_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    """With a line that says what to do."""
    for name in ("one", "two"):
        async with delivering(tmp_path / name, receiver) as world:
            await world.hook()
            await world.emit()
            await world.quiet()
            await world.stop()
    (tmp_path / "one" / "state.db").replace(tmp_path / "two" / "state.db")

    with pytest.raises(LogDiverged, match="Delete it"):
        async with delivering(tmp_path / "two", receiver):
            pass


async def test_an_idle_service_writes_nothing(tmp_path: Path, receiver: Receiver) -> None:
    """Events that concern no hook change neither state.db nor the log."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.emit()
        await world.quiet()
        await until(lambda: world.service.ledger.unflushed == 0)
        await world.service.ledger.flush()
        before = (tmp_path / "state.db-wal").stat()
        for _ in range(20):
            (seq,) = await world.emit(source="unheard")
            await until(partial(lambda n: world.service.ledger.live >= n, seq))
        await anyio.wait_all_tasks_blocked()

        assert (tmp_path / "state.db-wal").stat() == before
        assert await world.facts() == []

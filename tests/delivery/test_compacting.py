"""Compaction under delivery: nothing is lost, and a rebuild from the snapshot knows the same."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from api.feed import find_event
from delivery.copies import carry
from delivery.state import Parked
from eventstore import Append, Truncated
from eventstore.events import DeliveryParked, DeliveryResent, HookPaused, HookResumed
from eventstore.retention import Policy
from tests.delivery.compacting import compact, compaction
from tests.delivery.world import (
    REFUSED,
    Receiver,
    World,
    delivering,
    lose_state,
    lose_view,
    of_type,
    until,
)


def lose_everything_else(directory: Path) -> None:
    """Delete all that can be rebuilt."""
    lose_state(directory)
    lose_view(directory)


async def test_what_was_delivered_goes_and_is_not_repeated(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Compact, delete all that can be rebuilt, start again: nothing is sent twice or forgotten."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        old = await world.emit(*range(20))
        await world.quiet()
        finished = await compact(world)

        assert finished is not None
        assert finished.floor == world.log.first > old[-1]
        with pytest.raises(Truncated):
            await world.event(old[-1])
    lose_everything_else(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        new = await world.emit(*range(3))
        await world.quiet()

    assert receiver.seqs() == [*old, *new]


async def test_on_change_and_snooze_remember_what_is_gone(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Their memory is in the snapshot."""
    async with delivering(tmp_path, receiver) as world:
        await world.publish("s", "e", ["n"])
        await world.hook("changing", on_change=True)
        await world.hook("snoozing", snooze=3600)
        await world.emit({"n": 1}, {"n": 2})
        await world.quiet()
        await compact(world)
    lose_everything_else(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        await world.emit({"n": 2}, {"n": 3})
        await world.quiet()

    for hook_id in ("changing", "snoozing"):
        sent = [d.data["n"] for d in receiver.arrived if d.hook.id == hook_id]
        assert sent == [1, 2, 3]


async def test_what_is_not_settled_stays(tmp_path: Path, receiver: Receiver) -> None:
    """A delivery that is retried, and a hook that was stopped, keep what they need."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.hook("paused", event="f")
        await world.obeyed(HookPaused(), "paused")
        await world.emit(*range(3))
        (waiting,) = await world.emit({}, event="f")
        await world.emit(*range(3))
        await world.quiet()
        plan = await compaction(world).plan(Policy(max_events=0))
        await compact(world)

        assert plan.floor == world.log.first <= waiting
        assert [hold.by for hold in plan.held] == ["hook paused: paused by hand"]
        await world.obeyed(HookResumed(), "paused")
        await until(lambda: receiver.seqs("paused") == [waiting])


async def test_a_parked_delivery_outlives_its_event(tmp_path: Path, receiver: Receiver) -> None:
    """Its copy moves on, is sent with the same id, and can be parked and compacted again."""
    receiver.answer = lambda _: REFUSED
    async with delivering(tmp_path, receiver) as world:
        await world.hook(source="crud", event="consumers", handler="log")
        await world.hook("other")
        (seq,) = await world.emit({"n": 1}, source="s")
        await until(lambda: world.outbox("other").parked)
        for _ in range(2):
            await world.quiet()
            await compact(world)
            assert world.log.first > seq
            assert world.outbox("other").parked[seq, ""].position >= world.log.first
            await world.control.resend("other", None, Append(events=()))
            await until(lambda: world.outbox("other").parked and not world.outbox("other").running)
        await world.quiet()
        await compact(world)
        parked = dict(world.outbox("other").parked)
        facts = of_type(await world.facts("other"), DeliveryParked)
    lose_everything_else(tmp_path)
    receiver.answer = Receiver().answer
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()
        again = dict(world.outbox("other").parked)
        assert _places(again) == _places(parked)
        await world.control.resend("other", None, Append(events=()))
        await until(lambda: not world.outbox("other").parked and not world.outbox("other").open)

    first, *others = [d for d in receiver.arrived if d.hook.id == "other"]
    assert len(others) == 3
    assert {(d.id, d.event_id, d.source, d.event) for d in others} == {
        (first.id, first.event_id, "s", "e")
    }
    assert all(d.data == {"n": 1} for d in others)
    assert facts


def _places(parked: dict[tuple[int, str], Parked]) -> dict[tuple[int, str], tuple[int, str]]:
    return {item: (each.position, each.reason) for item, each in parked.items()}


async def test_an_order_to_send_is_not_overtaken_by_a_copy(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Of what is parked: it was given before the copy was made, and counts."""
    receiver.answer = lambda _: REFUSED
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        (seq,) = await world.emit({"n": 1})
        await until(lambda: world.outbox().parked)
        await world.quiet()
        receiver.answer = Receiver().answer
        await world.say(DeliveryResent(seq=seq))  # and not obeyed yet
        await carry(world.log, world.hooks, world.service.ledger, world.log.head)
        await until(lambda: not world.outbox().parked and not world.outbox().open)

    assert receiver.seqs() == [seq, seq]


async def test_a_resent_delivery_keeps_its_copy_while_it_is_retried(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Its event may be gone: compaction moves the copy that the retry needs."""
    receiver.answer = lambda _: REFUSED
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        (seq,) = await world.emit({"n": 1})
        await until(lambda: world.outbox().parked)
        receiver.hold()
        await world.control.resend("h", None, Append(events=()))
        await until(lambda: world.outbox().running)
        await compact(world)

        assert world.log.first > seq
        assert world.outbox().open[seq, ""].copy >= world.log.first
    receiver.let_go()
    receiver.answer = Receiver().answer
    async with delivering(tmp_path, receiver) as world:
        await until(lambda: not world.outbox().open)

    assert [d.data for d in receiver.arrived] == [{"n": 1}] * 3


async def test_compacting_beside_writers_readers_and_deliveries(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Everybody goes on; every event arrives once, and pages have no holes."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook(on_change=True)
        sent: list[int] = []
        done = anyio.Event()

        async def write() -> None:
            for number in range(200):
                sent.extend(await world.emit({"n": number}))
            done.set()

        async def read() -> None:
            seen = world.log.first - 1
            while not done.is_set() or seen < sent[-1]:
                try:
                    page = await world.log.read(seen, limit=7)
                except Truncated as error:
                    seen = error.first - 1
                    continue
                assert [event.seq for event in page] == list(range(seen + 1, seen + 1 + len(page)))
                seen = page[-1].seq if page else seen
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(read)
            floors = set()
            while not done.is_set():
                await compact(world)
                floors.add(world.log.first)
        await world.quiet()

        assert receiver.seqs() == sent
        assert len(floors) > 2


async def test_an_old_state_db_is_refused(tmp_path: Path, receiver: Receiver) -> None:
    """One that was restored from before the floor would skip events."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.emit(*range(5))
        await world.quiet()
        await world.stop()
    saved = {path: path.read_bytes() for path in tmp_path.glob("state.db*")}
    async with delivering(tmp_path, receiver) as world:
        await world.emit(*range(5))
        await world.quiet()
        await compact(world)
        await world.stop()
    lose_state(tmp_path)
    for path, content in saved.items():
        path.write_bytes(content)
    with pytest.raises(Exception, match="Delete it to go on"):
        async with delivering(tmp_path, receiver):
            pass


async def test_what_became_of_an_event_is_told_from_the_archive(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Which hooks were in force, in which version, and why one did not fire: as before."""
    receiver.answer = lambda delivery: REFUSED if delivery.data.get("n") == 3 else ok(delivery)
    ok = Receiver().answer
    async with delivering(tmp_path, receiver) as world:
        await world.hook("h")
        await world.hook("changing", on_change=True)
        await world.hook("later", event="f")
        await world.hook("gone")
        await world.emit({"n": 1}, {"n": 1}, {"n": 2}, {"n": 3})
        await world.quiet()
        await world.delete("gone")
        await world.update("later")
        last = (await world.emit({"n": 4}))[0]
        await world.quiet()
        world.service.ledger.receipts_due.set()
        await until(lambda: world.outbox().progress.settled >= last)
        await world.quiet()
        before = [await told(world, seq) for seq in range(1, last + 1)]
        events = [await world.event(seq) for seq in range(1, last + 1)]
        await compact(world)
        assert world.log.first > last
    lose_everything_else(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()
        found = [await find_event(world.log, str(seq), "") for seq in range(1, last + 1)]
        after = [await told(world, seq) for seq in range(1, last + 1)]

    states = {entry["state"] for entries in before for entry in entries}
    assert states == {"delivered", "parked", "on_change", "not_matched", "cancelled"}
    assert found == events
    assert after == before


async def told(world: World, seq: int) -> list[dict[str, Any]]:
    """What explain says, but for what only memory knows."""
    event = await find_event(world.log, str(seq), "")
    shown = ("hook", "state", "reason", "hook_version", "source", "event", "id")
    return [
        {name: entry[name] for name in shown if name in entry}
        for entry in await world.control.explain(event)
    ]

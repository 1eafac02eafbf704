"""Why did hook h (not) fire for this event? One test per answer."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from delivery.orders import DELETED
from delivery.outcome import Outcome
from delivery.retry import RetryPolicy
from eventstore import Append
from eventstore.events import HookPaused, HookResumed
from tests.delivery.world import (
    FAILED,
    OPTIONS,
    REFUSED,
    Receiver,
    World,
    delivering,
    until,
)

PATIENT = msgspec.structs.replace(OPTIONS, policy=RetryPolicy(schedule=(3600,), jitter=0))


async def why(world: World, seq: int) -> dict[str, Any]:
    """The one thing that became of the event, for hook h."""
    (entry,) = await world.why(seq)
    return entry


async def receipted(world: World) -> None:
    """Have receipts for all that has happened."""
    world.service.ledger.receipts_due.set()
    progress = world.outbox().progress
    await until(lambda: world.outbox().progress is not progress)
    await until(lambda: world.outbox().progress.intent is None)


async def settled(world: World) -> None:
    """Wait until everything is decided and nothing runs."""
    await until(lambda: world.service.ledger.live == world.log.head)
    await until(lambda: not world.outbox().running)


async def test_pending_before_anything_is_decided(tmp_path: Path, receiver: Receiver) -> None:
    """The live lane has not got there yet."""
    options = msgspec.structs.replace(OPTIONS, enabled=False)
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.hook()
        (seq,) = await world.emit()

        assert (await why(world, seq))["state"] == "pending"


async def test_pending_in_a_lane(world: World, receiver: Receiver) -> None:
    """The hook lags behind."""
    await world.hook()
    receiver.hold()
    _, seq = await world.emit(*range(2))
    await until(lambda: world.service.ledger.live == world.log.head)

    assert (await why(world, seq))["state"] == "pending"


async def test_in_flight(world: World, receiver: Receiver) -> None:
    """An attempt is being made, under the id that its receiver sees."""
    await world.hook()
    receiver.hold()
    (seq,) = await world.emit()
    await until(lambda: receiver.arrived)
    entry = await why(world, seq)

    assert (entry["state"], entry["attempts"]) == ("in_flight", 0)
    assert entry["id"] == receiver.arrived[0].id
    assert (entry["source"], entry["event"], entry["hook_version"]) == ("s", "e", 0)


async def test_retrying(tmp_path: Path, receiver: Receiver) -> None:
    """With the reason, and when it is tried again."""
    receiver.answer = lambda _: FAILED
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await world.hook()
        (seq,) = await world.emit()
        await until(lambda: receiver.answered and not world.outbox().running)
        entry = await why(world, seq)

        assert (entry["state"], entry["attempts"]) == ("retrying", 1)
        assert (entry["reason"], entry["status"]) == ("it broke", 500)
        event = await world.event(seq)
        assert entry["next_attempt"] == pytest.approx(event.time_us / 1e6 + 3600, abs=60)


async def test_delivered(world: World) -> None:
    """Before a receipt says so, and after; the receipt tells the version it was made with."""
    await world.hook()
    await world.update()
    (seq,) = await world.emit()
    await world.quiet()
    before = await why(world, seq)
    await receipted(world)
    after = await why(world, seq)

    assert (before["state"], "receipt" in before) == ("delivered", False)
    assert (after["state"], after["receipt"]) == ("delivered", world.log.head)
    assert (after["performed_with_version"], after["failed_first"]) == (1, False)


async def test_delivered_late(world: World, receiver: Receiver) -> None:
    """After a receipt had called it open: the next one says that it arrived."""
    receiver.answer = lambda _: REFUSED
    await world.hook()
    late, other = await world.emit(*range(2))
    await until(lambda: len(world.outbox().parked) == 2)
    receiver.answer = lambda _: Outcome(ok=True)
    await world.emit()
    await world.quiet()
    await receipted(world)
    parked = await why(world, late)
    await world.control.resend("h", parked["id"], Append(events=()))
    await world.quiet()
    unconfirmed = await why(world, late)
    await receipted(world)
    confirmed = await why(world, late)

    assert parked["state"] == "parked"
    assert (unconfirmed["state"], confirmed["state"]) == ("delivered", "delivered")
    assert confirmed["receipt"] == world.log.head
    assert (await why(world, other))["state"] == "parked"


@pytest.mark.parametrize(
    ("reason", "fields"), [("on_change", {"on_change": True}), ("snooze", {"snooze": 3600})]
)
async def test_suppressed(world: World, reason: str, fields: dict[str, Any]) -> None:
    """Before a receipt says so, and after."""
    await world.hook(**fields)
    fired, seq = await world.emit({}, {})
    await world.quiet()
    before = await why(world, seq)
    await receipted(world)
    after = await why(world, seq)

    assert (before["state"], after["state"]) == (reason, reason)
    assert (await why(world, fired))["state"] == "delivered"


async def test_suppressed_while_its_receipt_cannot_be_stored(world: World) -> None:
    """What the receipt will say is known already."""
    await world.hook(on_change=True)
    _, seq = await world.emit({}, {})
    await world.quiet()
    await world.fill_up()
    world.service.ledger.receipts_due.set()
    await until(lambda: world.outbox().progress.intent)

    assert (await why(world, seq))["state"] == "on_change"


async def test_skipped(world: World) -> None:
    """Somebody resumed the hook from a later position."""
    await world.hook()
    await world.obeyed(HookPaused())
    (seq,) = await world.emit()
    await world.obeyed(HookResumed(skip_to=seq))
    before = await why(world, seq)
    await until(lambda: world.outbox().progress.settled >= seq)
    after = await why(world, seq)

    assert (before["state"], after["state"]) == ("skipped", "skipped")


async def test_paused(world: World, receiver: Receiver) -> None:
    """What waits since, and what was to be retried."""
    receiver.answer = lambda _: FAILED
    await world.hook()
    receiver.hold()
    (open_,) = await world.emit()
    await until(lambda: receiver.arrived)
    await world.obeyed(HookPaused(reason="maintenance"))
    receiver.let_go()
    (seq,) = await world.emit()
    await settled(world)

    for position in (open_, seq):
        entry = await why(world, position)
        assert (entry["state"], entry["reason"]) == ("paused", "maintenance")


async def test_parked(world: World, receiver: Receiver) -> None:
    """With the reason, also when it was blocked by our own address policy."""
    receiver.answer = lambda _: Outcome(ok=False, reason="address forbidden", blocked=True)
    await world.hook()
    (seq,) = await world.emit()
    await until(lambda: world.outbox().parked)
    entry = await why(world, seq)

    assert (entry["state"], entry["attempts"]) == ("parked", 1)
    assert entry["reason"] == "address forbidden"


async def test_cancelled(tmp_path: Path, receiver: Receiver) -> None:
    """The hook was deleted: open, parked and undecided deliveries go with it, others do not."""
    answers = [Outcome(ok=True), FAILED, REFUSED]
    receiver.answer = lambda _: answers.pop(0)
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await world.hook()
        seqs: list[int] = []
        for _ in range(3):
            seqs += await world.emit()
            await until(lambda: receiver.seqs() == seqs and not world.outbox().running)  # noqa: B023
        await world.obeyed(HookPaused())
        seqs += await world.emit()
        deletion = await world.delete()
        await until(lambda: world.service.ledger.live >= deletion)
        entries = [await why(world, seq) for seq in seqs]

        assert [entry["state"] for entry in entries] == ["delivered"] + 3 * ["cancelled"]
        assert {entry["reason"] for entry in entries[1:]} == {DELETED}


async def test_cancelled_in_a_former_life(world: World, receiver: Receiver) -> None:
    """A hook that is made again under the same id has not delivered what the first one owed."""
    await world.hook()
    await world.obeyed(HookPaused())
    (owed,) = await world.emit()
    await world.delete()
    await world.hook()
    (later,) = await world.emit()
    await world.quiet()
    await receipted(world)

    assert (await why(world, owed))["state"] == "cancelled"
    assert (await why(world, later))["state"] == "delivered"
    assert receiver.seqs() == [later]


@pytest.mark.parametrize(
    ("fields", "clause"),
    [
        ({"source": "other"}, "source: the hook wants other"),
        ({"event": "other"}, "event: the hook wants other"),
    ],
)
async def test_not_matched(world: World, fields: dict[str, Any], clause: str) -> None:
    """With the clause that does not fit."""
    await world.hook(**fields)
    (seq,) = await world.emit()
    entry = await why(world, seq)

    assert entry == {"hook": "h", "state": "not_matched", "reason": clause}


async def test_not_matched_by_workspace(world: World) -> None:
    """The hook does not see where the event happened."""
    await world.hook(workspace="elsewhere")
    (seq,) = await world.emit()
    entry = await why(world, seq)

    assert entry["reason"] == "workspace: the hook sees only workspace elsewhere"


async def test_not_matched_because_not_in_force(world: World) -> None:
    """Too early or too late."""
    (before,) = await world.emit()
    await world.hook()
    deletion = await world.delete()
    (after,) = await world.emit()
    await until(lambda: world.service.ledger.live > deletion)

    for seq in (before, after):
        entry = await why(world, seq)
        assert entry["reason"] == "the hook was not in force at this event"


async def test_not_matched_because_nothing_matches_it(world: World) -> None:
    """Hooks are not told of deliveries."""
    await world.hook()
    position = await world.obeyed(HookPaused())
    entry = await why(world, position)

    assert entry["reason"] == "deliveries and the log's own events match no hook"


async def test_an_event_and_its_ping_are_told_apart(world: World, receiver: Receiver) -> None:
    """They share a position, and nothing else."""
    receiver.answer = lambda delivery: REFUSED if delivery.purpose else Outcome(ok=True)
    await world.hook(handler="webhook", source="crud", event="event_hooks")
    seq = await world.update(handler="webhook", source="crud", event="event_hooks")
    await until(lambda: len(world.outbox().parked) == 2)
    await settled(world)
    before = await world.why(seq)
    await receipted(world)
    after = await world.why(seq)

    assert [entry["state"] for entry in before] == ["delivered", "parked"]
    assert [entry["state"] for entry in after] == ["delivered", "parked"]
    assert [entry["event"] for entry in after] == ["event_hooks", "ping"]


async def test_every_hook_there_ever_was_is_explained(world: World) -> None:
    """Also those that are deleted."""
    await world.hook("gone")
    await world.delete("gone")
    await world.hook("here")
    (seq,) = await world.emit()
    await until(lambda: world.service.ledger.live == world.log.head)
    found = await world.control.explain(await world.event(seq))

    assert [entry["hook"] for entry in found] == ["gone", "here"]

"""state.db is lost: the log itself says how far delivery had come."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from anyio.lowlevel import checkpoint

from delivery.recovered import Recovered
from delivery.recovery import fold
from delivery.retry import RetryPolicy
from delivery.state import Item, Open
from delivery.suppression import Memory
from eventstore import Append
from eventstore.events import (
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    Event,
    HookPaused,
    HookResumed,
    HookSuspended,
    Suppressed,
)
from tests.delivery.world import (
    FAILED,
    OPTIONS,
    REFUSED,
    Receiver,
    World,
    delivering,
    entity,
    lose_state,
    of_type,
    until,
)
from tests.spec import Fact, fact, recorded

PATIENT = msgspec.structs.replace(OPTIONS, policy=RetryPolicy(schedule=(3600,) * 9, jitter=0))
ONE, TWO = (1, ""), (2, "")


def settled(after: int, upto: int, **fields: Any) -> DeliveriesSettled:
    return DeliveriesSettled(id="r", after=after, upto=upto, delivered=1, hook_version=0, **fields)


def parked(seq: int) -> DeliveryParked:
    return DeliveryParked(
        seq=seq,
        event_id="id",
        reason="no",
        attempts=1,
        source="s",
        event="e",
        data=msgspec.Raw(b"{}"),
    )


def recovered(*said: Event | Fact) -> Recovered:
    """What the log comes to, for hook `h`."""
    hooks: dict[str, Recovered] = {}
    facts = [each if isinstance(each, Fact) else fact("deliveries/h", each) for each in said]
    for event in recorded(facts):
        fold(hooks, event)
    return hooks.get("h", Recovered())


@pytest.mark.parametrize(
    ("said", "open_"),
    [
        # Receipts name what they leave open, and later ones what has arrived since.
        ([settled(0, 5)], []),
        ([settled(0, 5, open=[ONE, TWO])], [ONE, TWO]),
        ([settled(0, 5, open=[ONE, TWO]), settled(5, 5, late=[ONE])], [TWO]),
        ([settled(0, 5, open=[ONE]), parked(1)], []),
        ([settled(0, 5, open=[ONE]), parked(1), DeliveryResent(seq=1)], [ONE]),
        (
            [
                settled(0, 5, open=[ONE]),
                parked(1),
                DeliveryResent(seq=1),
                settled(5, 9, late=[ONE]),
            ],
            [],
        ),
        # A receipt that was decided on before, and stored after, a fact.
        ([parked(1), settled(0, 5, open=[ONE])], []),
        ([parked(1), DeliveryResent(seq=1), settled(0, 5)], [ONE]),
        ([settled(0, 5, open=[ONE, TWO]), DeliveriesCancelled(seqs=[1], reason="erased")], [TWO]),
        # Only what was parked can be sent again.
        ([DeliveryResent(seq=1)], []),
    ],
)
def test_what_is_open(said: list[Event], open_: list[tuple[int, str]]) -> None:
    """Everything the log calls open is delivered again; nothing else of the settled range is."""
    assert sorted(recovered(*said).open) == open_


@pytest.mark.parametrize(
    ("said", "stopped"),
    [
        ([], None),
        ([HookPaused()], "paused by hand"),
        ([HookPaused(), HookResumed()], None),
        ([HookResumed(), HookPaused(reason="x")], "x"),
        ([HookSuspended(reason="410")], "410"),
        ([HookPaused(), HookSuspended(reason="410")], "410"),
    ],
)
def test_what_is_stopped(said: list[Event], stopped: str | None) -> None:
    """The last order counts."""
    assert recovered(*said).stopped == stopped


def test_what_was_passed_over() -> None:
    """By a receipt's word, or from where the hook was stopped to where it went on."""
    said = recovered(
        settled(0, 5, suppressed=[Suppressed("skipped", 2, 4, 0), Suppressed("snooze", 5, 5, 1)]),
        HookPaused(),
        HookSuspended(reason="410"),
        HookResumed(skip_to=3),
        HookResumed(skip_to=9),
        HookPaused(),
        HookResumed(),
    )

    assert said.skipped == [(2, 4), (2, 3)]


def test_a_failed_delivery_keeps_its_reason() -> None:
    """So that nobody has to wait for the next attempt to know it."""
    failed = DeliveryFailed(seq=1, reason="no", hook_version=3, status=500)

    assert recovered(settled(0, 1, open=[ONE]), failed).open == {
        ONE: Open(attempt=1, reason="no", status=500, hook_version=3)
    }


@pytest.mark.parametrize("fact_type", [EntityDeleted, EntityCreated])
def test_nothing_outlives_a_hook(fact_type: Any) -> None:
    """Whatever was said before its deletion, or until it was made again, is void."""
    ended = fact("event_hooks/h", fact_type(entity=entity("h")))
    said = (settled(0, 5, open=[ONE]), parked(2), HookPaused())

    assert recovered(*said, ended) == Recovered()


def test_a_change_of_a_hook_ends_nothing() -> None:
    """Its deliveries go on."""
    changed = fact("event_hooks/h", EntityUpdated(entity=entity("h"), old_entity=entity("h")))

    assert recovered(HookPaused(), changed).stopped == "paused by hand"


def test_an_erased_fact_says_nothing() -> None:
    """Repeats follow, no loss."""
    erased = fact("deliveries/h", settled(0, 5), erased=True)

    assert recovered(erased) == Recovered()


async def test_what_receipts_cover_is_not_repeated(tmp_path: Path, receiver: Receiver) -> None:
    """What came after the last one is, under the same ids."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        covered = await world.emit(*range(5))
        await world.quiet()
        await world.stop()
    async with delivering(tmp_path, receiver) as world:
        later = await world.emit(*range(5))
        await world.quiet()
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()

    assert sorted(receiver.seqs()) == sorted([*covered, *later, *later])
    assert len({delivery.id for delivery in receiver.arrived}) == 10


async def test_parked_and_paused_survive(tmp_path: Path, receiver: Receiver) -> None:
    """What was given up is not tried again unasked, and who was paused stays so."""
    receiver.answer = lambda delivery: REFUSED if delivery.data["n"] == 2 else FAILED
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await world.hook()
        await world.hook("paused")
        await world.obeyed(HookPaused(), "paused")
        (given_up, retrying) = await world.emit({"n": 2}, {"n": 3})
        await until(lambda: world.outbox().parked and len(receiver.arrived) == 2)
        await until(lambda: not world.outbox().running)
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await until(lambda: len(receiver.arrived) == 3)
        await until(lambda: world.service.ledger.live == world.log.head)

        assert list(world.outbox().parked) == [(given_up, "")]
        assert world.outbox("paused").stopped == "paused by hand"
    assert receiver.seqs("paused") == []
    assert receiver.seqs()[2:] == [retrying]


async def test_what_was_skipped_stays_skipped(tmp_path: Path, receiver: Receiver) -> None:
    """Even if no receipt says so yet; and it is not part of what on_change remembers."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook(on_change=True)
        await world.emit({"n": 1})
        await world.quiet()
        await world.stop()
    async with delivering(tmp_path, receiver) as world:
        await world.obeyed(HookPaused())
        (skipped,) = await world.emit({"n": 2})
        await world.say(HookResumed(skip_to=skipped))
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        await world.emit({"n": 1})
        await world.emit({"n": 2})
        await world.quiet()
        (entry,) = await world.why(skipped)

    assert [delivery.data["n"] for delivery in receiver.arrived] == [1, 2]
    assert entry["state"] == "skipped"


async def test_a_former_life_does_not_come_back(tmp_path: Path, receiver: Receiver) -> None:
    """Of a hook that was deleted, and of one that was made again under its id."""
    receiver.answer = lambda _: FAILED
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        for hook_id in ("gone", "again"):
            await world.hook(hook_id, on_change=True)
        await world.emit({"n": 1})
        await until(lambda: len(receiver.arrived) == 2)
        for hook_id in ("gone", "again"):
            await world.delete(hook_id)
        await world.hook("again", on_change=True)
        (seq,) = await world.emit({"n": 1})
        await until(lambda: len(receiver.arrived) == 3)
        await until(lambda: not world.outbox("again").running)
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await until(lambda: len(receiver.arrived) == 4)
        await until(lambda: world.service.ledger.live == world.log.head)
        memory = dict(world.outbox("again").memory)
        facts = [*await world.facts("gone"), *await world.facts("again")]

        assert receiver.seqs("again")[1:] == [seq, seq]
        assert len(receiver.seqs("gone")) == 1
        assert "gone" not in world.service.ledger.outboxes
        assert len(memory) == 1
        assert len(of_type(facts, DeliveriesCancelled)) == 2, "nothing is cancelled twice"


@pytest.mark.parametrize("turns", [0, 3, 10, 30, 100, 300, 1000])
async def test_a_recovery_can_be_interrupted_and_repeated(
    tmp_path: Path, receiver: Receiver, turns: int
) -> None:
    """Whenever it crashes, and if state.db is lost once more: the result is the same."""
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        expected = await _a_rich_history(world, receiver)
        delivered = set(receiver.seqs())
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver, options=PATIENT):
        for _ in range(turns):
            await checkpoint()
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        once = await _essence(world)
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        assert once == await _essence(world) == expected
    assert set(receiver.seqs()) == delivered, "nothing suppressed or skipped is sent"


async def _a_rich_history(world: World, receiver: Receiver) -> tuple[Any, ...]:
    """Fired, suppressed, failed, parked, sent again, skipped and stopped, with receipts between."""
    await world.publish("s", "e", ["n"])
    await world.hook(on_change=True, snooze=3600)
    answers = {3: FAILED, 4: REFUSED, 5: REFUSED}
    ok = receiver.answer
    receiver.answer = lambda delivery: answers.get(delivery.data["n"]) or ok(delivery)
    seqs = await world.emit(*({"n": n} for n in (1, 1, 2, 1, 3, 4, 5)))
    await until(lambda: len(world.outbox().parked) == 2 and len(receiver.arrived) == 5)
    await until(lambda: not world.outbox().running)
    world.service.ledger.receipts_due.set()
    await until(lambda: world.outbox().progress.settled >= seqs[-1])
    del answers[5]
    resent = next(d.seq for d in receiver.arrived if d.data["n"] == 5)
    await world.control.resend("h", None, Append(events=()))
    await until(lambda: (resent, "") not in world.outbox().open and not world.outbox().running)
    await until(lambda: len(world.outbox().parked) == 1)
    await world.obeyed(HookPaused())
    skipped = await world.emit({"n": 6}, {"n": 7})
    await world.obeyed(HookResumed(skip_to=skipped[-1]))
    await world.emit({"n": 7}, {"n": 8})
    return await _essence(world)


async def _essence(world: World) -> tuple[set[Item], set[Item], str | None, Memory]:
    """What a hook's state comes to, whenever it was built."""
    outbox, ledger = world.outbox(), world.service.ledger
    await until(lambda: ledger.live == world.log.head and outbox.position is None)
    await until(lambda: not outbox.running and not outbox.due)
    return (set(outbox.open), set(outbox.parked), outbox.stopped, dict(outbox.memory))

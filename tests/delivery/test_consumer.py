"""Lanes: every hook gets every event once, at its own pace, and harms nobody else."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from delivery.admission import Limits
from delivery.outcome import Delivery, Outcome
from delivery.retry import RetryPolicy
from eventstore.events import (
    DeliveriesCancelled,
    DeliveriesSettled,
    HookPaused,
    HookResumed,
    Suppressed,
)
from tests.delivery.world import (
    FAILED,
    OPTIONS,
    REFUSED,
    Receiver,
    World,
    delivering,
    of_type,
    until,
)

PATIENT = msgspec.structs.replace(OPTIONS, policy=RetryPolicy(schedule=(3600,), jitter=0))


async def read(world: World) -> None:
    """Wait until the live lane has read everything."""
    await until(lambda: world.service.ledger.live == world.log.head)


async def test_every_matching_event_is_delivered_once(world: World, receiver: Receiver) -> None:
    """In pages, in lanes, and whatever else is in the log."""
    await world.hook("h")
    await world.hook("all", event=None)
    await world.hook("none", event="other")
    seqs: list[int] = []
    for _ in range(10):
        seqs += await world.emit(*range(100))
        await world.emit(*range(100), source="unheard")
    await world.quiet()

    assert sorted(receiver.seqs("h")) == seqs
    assert sorted(receiver.seqs("all")) == seqs
    assert receiver.seqs("none") == []


async def test_a_hook_sees_what_comes_after_it(world: World, receiver: Receiver) -> None:
    """Neither what was before its creation nor what comes after its deletion."""
    await world.emit()
    await world.hook()
    during = await world.emit()
    await world.quiet()
    await world.delete()
    await world.emit()
    await read(world)

    assert receiver.seqs() == [*during]


async def test_a_hanging_receiver_harms_only_its_own_hook(world: World, receiver: Receiver) -> None:
    """It lags behind on a lane of its own; the others get theirs at once."""
    await world.hook("slow")
    await world.hook("quick")
    receiver.hold("slow")
    seqs = await world.emit(*range(500))
    await until(lambda: len(receiver.seqs("quick")) == 500)

    assert len(receiver.seqs("slow")) == 1
    assert world.outbox("slow").position == seqs[0]
    receiver.let_go("slow")
    await world.quiet()
    assert sorted(receiver.seqs("slow")) == [*seqs]
    assert world.outbox("slow").position is None, "it follows the live lane again"


async def test_leaving_and_rejoining_loses_and_repeats_nothing(
    world: World, receiver: Receiver
) -> None:
    """While events keep coming, hooks fall behind and catch up all the time."""
    hooks = [f"h{number}" for number in range(5)]
    for hook_id in hooks:
        await world.hook(hook_id)
    seqs: list[int] = []
    for number in range(60):
        seqs += await world.emit(*range(1 + number % 7))
        if number % 5 == 0:
            receiver.hold(hooks[number % len(hooks)])
            await anyio.wait_all_tasks_blocked()
            receiver.let_go(hooks[number % len(hooks)])
    await world.quiet()

    for hook_id in hooks:
        assert sorted(receiver.seqs(hook_id)) == seqs


async def test_a_thousand_lagging_hooks_leave_a_live_one_alone(
    world: World, receiver: Receiver
) -> None:
    """And they share their reads of the log."""
    lagging = [f"lag{number}" for number in range(1000)]
    for hook_id in lagging:
        receiver.hold(hook_id)
    for start in range(0, 1000, 250):
        async with anyio.create_task_group() as tasks:
            for hook_id in lagging[start : start + 250]:
                tasks.start_soon(world.hook, hook_id)
    await world.hook("live", event="other")
    await world.emit(*range(3))
    await until(lambda: len(receiver.arrived) == 1000)
    await read(world)
    for _ in range(20):
        before = len(receiver.seqs("live"))
        await world.emit(event="other")
        await until(partial(lambda n: len(receiver.seqs("live")) > n, before), within=1)

    assert world.service.summary()["lagging_hooks"] == 1000


async def test_a_ping_waits_for_no_place(world: World, receiver: Receiver) -> None:
    """A change of a hook that it is told of itself makes two deliveries, each once."""
    receiver.hold()
    await world.hook(handler="webhook", source="crud", event="event_hooks")
    for number in range(3):
        await world.update(handler="webhook", source="crud", event="event_hooks", updated_at=number)
    await read(world)
    receiver.let_go()
    await world.quiet()

    assert sorted((d.purpose, d.data["operation"]) for d in receiver.arrived) == [
        ("", "update"),
        ("", "update"),
        ("", "update"),
        ("ping", "create"),
        ("ping", "update"),
        ("ping", "update"),
        ("ping", "update"),
    ]


async def test_a_paused_hook_gets_nothing(world: World, receiver: Receiver) -> None:
    """Until it is resumed: then everything that waited, once."""
    await world.hook()
    before = await world.emit()
    await world.quiet()
    await world.obeyed(HookPaused())
    during = await world.emit(*range(10))
    await read(world)

    assert receiver.seqs() == [*before]
    await world.obeyed(HookResumed())
    after = await world.emit()
    await world.quiet()
    assert sorted(receiver.seqs()) == [*before, *during, *after]


async def test_what_is_in_flight_when_a_hook_is_paused_is_finished(
    world: World, receiver: Receiver
) -> None:
    """It counts, and it is not sent again."""
    await world.hook()
    receiver.hold()
    (seq,) = await world.emit()
    await until(lambda: receiver.arrived)
    await world.obeyed(HookPaused())
    receiver.let_go()
    await until(lambda: not world.outbox().open)
    await world.obeyed(HookResumed())
    await world.quiet()

    assert receiver.seqs() == [seq]


async def test_retries_wait_while_a_hook_is_paused(world: World, receiver: Receiver) -> None:
    """They are made when it is resumed."""
    receiver.answer = lambda delivery: FAILED if delivery.attempt == 1 else Outcome(ok=True)
    receiver.hold()
    await world.hook()
    await world.emit()
    await until(lambda: receiver.arrived)
    await world.obeyed(HookPaused())
    receiver.let_go()
    await until(lambda: world.outbox().due)

    assert len(receiver.arrived) == 1
    await world.obeyed(HookResumed())
    await world.quiet()
    assert len(receiver.arrived) == 2


async def test_a_lagging_hook_can_be_paused(world: World, receiver: Receiver) -> None:
    """Its lane stops where it is, and goes on from there."""
    await world.hook()
    receiver.hold()
    seqs = await world.emit(*range(20))
    await until(lambda: receiver.arrived)
    await read(world)
    await world.obeyed(HookPaused())
    receiver.let_go()
    await until(lambda: not world.outbox().running)

    assert receiver.seqs() == [seqs[0]]
    await world.obeyed(HookResumed())
    await world.quiet()
    assert sorted(receiver.seqs()) == [*seqs]


@pytest.mark.parametrize("lagging", [False, True])
async def test_resuming_can_skip_what_waited(
    world: World, receiver: Receiver, *, lagging: bool
) -> None:
    """Also under a lane that waits for a place; the receipt says what was skipped."""
    await world.hook()
    if lagging:
        receiver.hold()
    first = await world.emit()
    await until(lambda: receiver.arrived)
    waiting = await world.emit() if lagging else ()
    await read(world)
    await world.obeyed(HookPaused())
    skipped = await world.emit(*range(10))
    await world.obeyed(HookResumed(skip_to=skipped[-1]))
    if lagging:
        receiver.let_go()
    later = await world.emit()
    await world.quiet()
    await world.stop()
    receipts = of_type(await world.facts(), DeliveriesSettled)
    runs = [run for receipt in receipts for run in receipt.suppressed]

    assert sorted(receiver.seqs()) == [*first, *later]
    assert [(run.reason, run.last) for run in runs] == [("skipped", skipped[-1])]
    assert runs[0].first <= min(*waiting, *skipped)
    assert runs[0].first > first[-1]


async def test_pausing_and_resuming_at_once_changes_nothing(
    world: World, receiver: Receiver
) -> None:
    """However the orders fall between the events."""
    await world.hook()
    seqs: list[int] = []
    for _ in range(10):
        seqs += await world.emit(*range(3))
        await world.say(HookPaused())
        seqs += await world.emit(*range(3))
        await world.say(HookResumed())
    await world.quiet()

    assert sorted(receiver.seqs()) == seqs


async def test_orders_survive_a_crash(tmp_path: Path, receiver: Receiver) -> None:
    """An order that is in the log is obeyed by whoever comes next, once."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        before = await world.emit()
        await world.quiet()
        await world.say(HookPaused())
    async with delivering(tmp_path, receiver) as world:
        during = await world.emit(*range(3))
        await read(world)

        assert world.outbox().stopped == "paused by hand"
        await world.say(HookResumed())
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()

    assert sorted({*receiver.seqs()}) == [*before, *during]


@pytest.mark.parametrize("moment", ["idle", "in flight", "retrying", "parked", "paused", "lagging"])
async def test_deleting_a_hook_ends_it_at_any_moment(
    tmp_path: Path, receiver: Receiver, moment: str
) -> None:
    """Nothing is sent afterwards, the log says what was cancelled, and nothing is left on disk."""
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await world.hook()
        delivered = await world.emit()
        await world.quiet()
        open_ = await _bring_about(moment, world, receiver)
        arrived = len(receiver.arrived)
        deletion = await world.delete()
        with anyio.fail_after(5):
            await world.service.wait_live(deletion)
        if moment in ("in flight", "lagging"):
            receiver.let_go()
        await world.emit()
        await read(world)
        await world.stop()

        assert len(receiver.arrived) == arrived
        assert "h" not in world.service.ledger.outboxes
        facts = await world.facts()
        cancelled = {seq for fact in of_type(facts, DeliveriesCancelled) for seq in fact.seqs}
        assert cancelled == {*open_}
        receipts = of_type(facts, DeliveriesSettled)
        assert sum(receipt.delivered for receipt in receipts) == len(delivered)
        loaded = await world.service._store.load()
        assert [loaded.lanes, loaded.open, loaded.parked, loaded.progress] == [{}, {}, {}, {}]


async def _bring_about(moment: str, world: World, receiver: Receiver) -> tuple[int, ...]:
    """Bring the hook into a state; the events that are open then."""
    match moment:
        case "in flight":
            receiver.hold()
        case "retrying":
            receiver.answer = lambda _: FAILED
        case "parked":
            receiver.answer = lambda _: REFUSED
        case "lagging":
            receiver.hold()
            seqs = await world.emit(*range(20))
            await until(lambda: receiver.seqs()[1:] and world.outbox().catching_up is not False)
            await read(world)
            return tuple(seq for seq, _ in world.outbox().open)
        case "paused":
            await world.obeyed(HookPaused())
    if moment == "idle":
        return ()
    seqs = await world.emit()
    if moment == "paused":
        await read(world)
        return ()
    await until(lambda: receiver.seqs()[1:])
    await until(lambda: moment == "in flight" or not world.outbox().running)
    return seqs


async def test_a_hook_made_again_starts_anew(world: World, receiver: Receiver) -> None:
    """Under the same id: nothing of its former life is sent, paused, parked or remembered."""
    receiver.answer = lambda _: REFUSED
    await world.hook(on_change=True)
    await world.emit({"n": 1})
    await until(lambda: world.outbox().parked)
    await world.obeyed(HookPaused())
    await world.emit({"n": 2})
    await world.delete()
    receiver.answer = lambda _: Outcome(ok=True)
    await world.hook(on_change=True)
    (seq,) = await world.emit({"n": 1})
    await world.quiet()

    assert receiver.seqs()[1:] == [seq]
    assert (world.outbox().stopped, world.outbox().parked) == (None, {})


async def test_a_deletion_that_was_interrupted_is_completed(
    tmp_path: Path, receiver: Receiver
) -> None:
    """A crash before, during or after leaves nothing behind."""
    receiver.answer = lambda _: FAILED
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await world.hook()
        await world.emit()
        await until(lambda: world.outbox().open and not world.outbox().running)
        await world.service.ledger.flush()
        await world.delete()
    async with delivering(tmp_path, receiver, options=PATIENT) as world:
        await read(world)
        await until(lambda: "h" not in world.service.ledger.outboxes)

        assert len(of_type(await world.facts(), DeliveriesCancelled)) == 1
    assert len(receiver.arrived) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [1, 1, 2, 2, 1]),
        ({"on_change": True}, [1, 2, 1]),
        ({"snooze": 3600}, [1]),
        ({"on_change": True, "snooze": 3600}, [1]),
    ],
)
async def test_suppression(
    world: World, receiver: Receiver, fields: dict[str, Any], expected: list[int]
) -> None:
    """Without `unique`, on_change compares the whole payload and snooze counts per hook."""
    await world.hook(**fields)
    for number in (1, 1, 2, 2, 1):
        await world.emit({"n": number})
        await world.quiet()

    assert [delivery.data["n"] for delivery in receiver.arrived] == expected


async def test_unique_fields_tell_events_apart(world: World, receiver: Receiver) -> None:
    """As they were declared when the event was emitted."""
    await world.publish("s", "e", ["ip"])
    await world.hook(snooze=3600)
    for data in ({"ip": "a", "n": 1}, {"ip": "a", "n": 2}, {"ip": "b", "n": 3}):
        await world.emit(data)
    await world.publish("s", "e", ["n"])
    await world.emit({"ip": "a", "n": 4})
    await world.quiet()

    assert sorted(delivery.data["n"] for delivery in receiver.arrived) == [1, 3, 4]


async def test_suppressed_events_are_in_the_receipt(world: World, receiver: Receiver) -> None:
    """In runs, with the reason."""
    await world.hook(on_change=True)
    seqs = await world.emit({}, {}, {}, {"n": 1}, {"n": 1})
    await world.quiet()
    await world.stop()
    (receipt,) = of_type(await world.facts(), DeliveriesSettled)

    assert receipt.delivered == 2
    assert receipt.suppressed == [
        Suppressed("on_change", seqs[1], seqs[2], 2),
        Suppressed("on_change", seqs[4], seqs[4], 1),
    ]


async def test_a_test_of_one_place(tmp_path: Path, receiver: Receiver) -> None:
    """Hooks that share a single place all get their turn."""
    options = msgspec.structs.replace(OPTIONS, limits=Limits(hook=1, total=1, probes=1))
    async with delivering(tmp_path, receiver, options=options) as world:
        for number in range(10):
            await world.hook(f"h{number}")
        seqs = await world.emit(*range(20))
        await world.quiet()

        for number in range(10):
            assert sorted(receiver.seqs(f"h{number}")) == [*seqs]


async def test_hooks_that_share_a_host_share_its_places(tmp_path: Path, receiver: Receiver) -> None:
    """The crowd of one host does not keep another host's hook waiting."""
    options = msgspec.structs.replace(OPTIONS, limits=Limits(host=2))
    running: list[int] = []

    def answer(_: Delivery) -> Outcome:
        running.append(len(receiver.arrived) - len(receiver.answered))
        return Outcome(ok=True)

    receiver.answer = answer
    async with delivering(tmp_path, receiver, options=options) as world:
        for number in range(5):
            await world.hook(f"h{number}", config={"url": "http://one.test/x"})
        await world.emit(*range(20))
        await world.quiet()

    assert max(running) <= 2
    assert len(receiver.arrived) == 100

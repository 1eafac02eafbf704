"""What the Admin API asks of delivery."""

from pathlib import Path

import anyio
import msgspec
import pytest

from delivery.outcome import Outcome
from eventstore import Append, Idempotency, LogUnavailable
from eventstore.events import (
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    HookPaused,
    HookResumed,
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

SOMEBODY = Append(events=(), actor="ada", request_id="r1")


def keyed(key: str) -> Append:
    return msgspec.structs.replace(SOMEBODY, idempotency=Idempotency(key, b"the request"))


async def park(world: World, receiver: Receiver, count: int) -> tuple[int, ...]:
    """Have so many deliveries parked; later ones arrive."""
    receiver.answer = lambda _: REFUSED
    await world.hook()
    seqs = await world.emit(*range(count))
    await until(lambda: len(world.outbox().parked) == count)
    receiver.answer = lambda _: Outcome(ok=True)
    return seqs


async def test_pausing_is_answered_when_it_is_obeyed(world: World, receiver: Receiver) -> None:
    """With the hook's state; the log says who asked."""
    await world.hook()
    state = await world.control.pause("h", SOMEBODY)
    (seq,) = await world.emit()
    await until(lambda: world.service.ledger.live == seq)
    order = (await world.log.read_stream("deliveries/h"))[-1]

    assert (state["state"], state["reason"]) == ("stopped", "paused by hand")
    assert receiver.arrived == []
    assert (order.actor, order.request_id) == ("ada", "r1")
    assert order.workspace == world.hooks.workspace("h")


async def test_resuming_goes_on_with_what_waited(world: World, receiver: Receiver) -> None:
    """All of it."""
    await world.hook()
    await world.control.pause("h", SOMEBODY)
    seqs = await world.emit(*range(5))
    state = await world.control.resume("h", skip=False, origin=SOMEBODY)
    await world.quiet()

    assert state["reason"] is None
    assert sorted(receiver.seqs()) == [*seqs]


async def test_resuming_with_skip_goes_on_from_now(world: World, receiver: Receiver) -> None:
    """What waited is passed over; what comes next is not."""
    await world.hook()
    await world.control.pause("h", SOMEBODY)
    skipped = await world.emit(*range(5))
    await world.control.resume("h", skip=True, origin=SOMEBODY)
    (seq,) = await world.emit()
    await world.quiet()
    (order,) = of_type(await world.facts(), HookResumed)

    assert receiver.seqs() == [seq]
    assert order.skip_to is not None
    assert skipped[-1] <= order.skip_to < seq


async def test_one_parked_delivery_is_sent_again(world: World, receiver: Receiver) -> None:
    """By its delivery id; the others stay."""
    await park(world, receiver, 3)
    listed = await world.control.parked("h", 0, 10)
    count = await world.control.resend("h", listed[1]["id"], SOMEBODY)
    await world.quiet()

    assert count == 1
    assert receiver.arrived[-1].id == listed[1]["id"]
    assert [entry["id"] for entry in await world.control.parked("h", 0, 10)] == [
        listed[0]["id"],
        listed[2]["id"],
    ]


async def test_all_parked_deliveries_are_sent_again(world: World, receiver: Receiver) -> None:
    """In one append."""
    seqs = await park(world, receiver, 20)
    arrived = len(receiver.arrived)
    count = await world.control.resend("h", None, SOMEBODY)
    await world.quiet()

    assert count == 20
    assert sorted(receiver.seqs()[arrived:]) == [*seqs]
    assert len(of_type(await world.facts(), DeliveryResent)) == 20
    assert await world.control.parked("h", 0, 10) == []


async def test_nothing_parked_nothing_sent(world: World) -> None:
    """And nothing is put into the log."""
    await world.hook()
    head = world.log.head

    assert await world.control.resend("h", None, SOMEBODY) == 0
    assert await world.control.resend("h", "no such delivery", SOMEBODY) == 0
    assert world.log.head == head


async def test_a_repeated_request_is_obeyed_once(world: World, receiver: Receiver) -> None:
    """The same answer under the same key, and one order in the log."""
    await park(world, receiver, 3)
    counts = [await world.control.resend("h", None, keyed("k1")) for _ in range(2)]
    await world.quiet()
    for _ in range(2):
        await world.control.pause("h", keyed("k2"))
    for _ in range(2):
        await world.control.resume("h", skip=False, origin=keyed("k3"))
    facts = await world.facts()

    assert counts == [3, 3]
    assert len(of_type(facts, DeliveryResent)) == 3
    assert len(of_type(facts, HookPaused)) == 1
    assert len(of_type(facts, HookResumed)) == 1


async def test_parked_deliveries_are_listed_in_pages(world: World, receiver: Receiver) -> None:
    """Oldest first, from above a position."""
    seqs = await park(world, receiver, 5)
    first = await world.control.parked("h", 0, 2)
    second = await world.control.parked("h", first[-1]["position"], 10)

    assert [entry["position"] for entry in (*first, *second)] == [*seqs]
    assert first[0]["attempts"] == 1
    assert (first[0]["reason"], first[0]["status"]) == ("not like this", 400)
    assert (first[0]["purpose"], first[0]["event_id"]) == ("event", receiver.arrived[0].event_id)


async def test_the_history_is_newest_first_and_complete(world: World, receiver: Receiver) -> None:
    """Every fact that is in the log by now, in pages, without what was sent."""
    await park(world, receiver, 3)
    await world.emit()
    await world.quiet()
    await world.stop()
    whole = await world.control.history("h", None, 100)
    page = await world.control.history("h", None, 2)
    rest = await world.control.history("h", page[-1]["position"], 100)

    assert [entry["type"] for entry in whole] == ["deliveries_settled"] + ["delivery_parked"] * 3
    assert [entry["position"] for entry in whole] == sorted(
        (entry["position"] for entry in whole), reverse=True
    )
    assert page + rest == whole
    assert all("data" not in entry for entry in whole)
    assert await world.control.history("other", None, 100) == []


async def test_the_summary_says_where_a_hook_stands(world: World, receiver: Receiver) -> None:
    """Live, catching up, or stopped; and what is open."""
    await world.hook()
    live = world.control.summary("h")
    receiver.hold()
    seqs = await world.emit(*range(3))
    await until(lambda: receiver.arrived)
    lagging = world.control.summary("h")
    await world.control.pause("h", SOMEBODY)
    stopped = world.control.summary("h")

    assert (live["state"], live["open"], live["parked"]) == ("live", [], 0)
    assert (lagging["state"], lagging["position"]) == ("catching up", seqs[0])
    assert [entry["position"] for entry in lagging["open"]] == [seqs[0]]
    assert (stopped["state"], stopped["reason"]) == ("stopped", "paused by hand")


async def test_an_order_that_the_log_refuses_is_not_obeyed(world: World) -> None:
    """The caller is told, and nothing has changed."""
    await world.hook()
    await world.fill_up()
    with pytest.raises(LogUnavailable):
        await world.control.pause("h", SOMEBODY)

    assert world.control.summary("h")["state"] == "live"


async def test_an_order_is_answered_though_nobody_obeys(tmp_path: Path, receiver: Receiver) -> None:
    """While delivery is switched off, orders are stored and obeyed later."""
    options = msgspec.structs.replace(OPTIONS, enabled=False)
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.hook()
        with anyio.fail_after(1):
            await world.control.pause("h", SOMEBODY)
    async with delivering(tmp_path, receiver) as world:
        await until(lambda: world.outbox().stopped)


async def test_facts_belong_to_the_hooks_workspace(world: World, receiver: Receiver) -> None:
    """Whoever may see the hook may see what became of its deliveries."""
    receiver.answer = lambda delivery: REFUSED if delivery.seq % 2 else FAILED
    created = await world.hook()
    await world.emit(*range(4))
    await until(lambda: len(world.outbox().parked) == 4)
    await world.stop()
    events = await world.log.read_stream("deliveries/h")
    hook = (await world.event(created)).workspace

    assert {event.workspace for event in events} == {hook}
    assert of_type(await world.facts(), DeliveryFailed)
    assert of_type(await world.facts(), DeliveryParked)
    assert not of_type(await world.facts(), DeliveriesSettled)

"""One delivery from its first attempt to its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from delivery.admission import Limits
from delivery.attempts import OPEN_LIMIT
from delivery.ledger import UNFLUSHED
from delivery.outcome import Delivery, Outcome, delivery_id
from delivery.retry import RetryPolicy
from eventstore import Append, Kind, NewEvent
from eventstore.events import (
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    HookResumed,
    HookSuspended,
)
from tests.delivery.world import (
    FAILED,
    GONE,
    OPTIONS,
    REFUSED,
    Receiver,
    World,
    delivering,
    of_type,
    until,
)

LATER = msgspec.structs.replace(OPTIONS, policy=RetryPolicy(schedule=(3600,), jitter=0))


def failing(times: int, outcome: Outcome = FAILED) -> Callable[[Delivery], Outcome]:
    """An answer that fails so many times before it succeeds."""
    left = times

    def answer(_: Delivery) -> Outcome:
        nonlocal left
        left -= 1
        return outcome if left >= 0 else Outcome(ok=True)

    return answer


async def test_a_delivery_arrives_as_it_should(world: World, receiver: Receiver) -> None:
    """With the names the hook knows, the data, and an id made of hook, event and purpose."""
    await world.hook(source="s", event=None)
    (seq,) = await world.emit({"n": 1})
    await world.quiet()
    (delivery,) = receiver.arrived
    event = await world.event(seq)

    assert (delivery.source, delivery.event, delivery.data) == ("s", "e", {"n": 1})
    assert (delivery.seq, delivery.event_id, delivery.time_us) == (seq, event.id, event.time_us)
    assert (delivery.attempt, delivery.purpose) == (1, "")
    assert delivery.id == delivery_id("h", event.id, "")


async def test_a_failed_attempt_is_made_again(world: World, receiver: Receiver) -> None:
    """Under the same id, counted, until it succeeds; the first failure is in the log."""
    receiver.answer = failing(2)
    await world.hook()
    (seq,) = await world.emit()
    await world.quiet()

    assert [delivery.attempt for delivery in receiver.arrived] == [1, 2, 3]
    assert len({delivery.id for delivery in receiver.arrived}) == 1
    assert await world.facts() == [
        DeliveryFailed(seq=seq, reason="it broke", hook_version=0, status=500)
    ]


@pytest.mark.parametrize(
    ("outcome", "attempts", "reason"),
    [
        (FAILED, 3, "gave up after 3 attempts: it broke"),
        (REFUSED, 1, "not like this"),
        (Outcome(ok=False, reason="forbidden", blocked=True), 1, "forbidden"),
    ],
)
async def test_a_hopeless_delivery_is_parked(
    world: World, receiver: Receiver, outcome: Outcome, attempts: int, reason: str
) -> None:
    """With a copy of the event, in the log and in the list."""
    receiver.answer = lambda _: outcome
    await world.hook()
    (seq,) = await world.emit({"n": 1})
    await until(lambda: world.outbox().parked)
    (parked,) = of_type(await world.facts(), DeliveryParked)
    (listed,) = await world.control.parked("h", 0, 10)

    assert (parked.seq, parked.attempts, parked.reason) == (seq, attempts, reason)
    assert (parked.source, parked.event, bytes(parked.data)) == ("s", "e", b'{"n":1}')
    assert (listed["position"], listed["reason"]) == (seq, reason)
    assert listed["id"] == receiver.arrived[0].id
    assert len(receiver.arrived) == attempts


async def test_a_parked_delivery_can_be_sent_again(world: World, receiver: Receiver) -> None:
    """Under its old id, with a fresh schedule."""
    receiver.answer = failing(1, REFUSED)
    await world.hook()
    (seq,) = await world.emit()
    await until(lambda: world.outbox().parked)
    await world.obeyed(DeliveryResent(seq=seq))
    await world.quiet()

    assert [delivery.attempt for delivery in receiver.arrived] == [1, 1]
    assert len({delivery.id for delivery in receiver.arrived}) == 1
    assert not world.outbox().parked


async def test_410_suspends_the_hook(world: World, receiver: Receiver) -> None:
    """The delivery waits, nothing more is sent, and the log says so once."""
    receiver.answer = failing(1, GONE)
    await world.hook()
    first = await world.emit()
    await until(lambda: world.outbox().stopped)
    second = await world.emit()
    await until(lambda: world.service.ledger.live == world.log.head)

    assert receiver.seqs() == [*first]
    assert of_type(await world.facts(), HookSuspended) == [
        HookSuspended(reason="gone for good", seq=first[0])
    ]
    await world.obeyed(HookResumed())
    await world.quiet()
    assert sorted(receiver.seqs()) == [*first, *first, *second]


async def test_many_attempts_in_flight_suspend_once(world: World, receiver: Receiver) -> None:
    """One fact, however many attempts were on their way."""
    await world.hook()
    await world.emit(*range(10))
    await world.quiet()
    receiver.hold()
    seqs = await world.emit(*range(4))
    await until(lambda: len(world.outbox().running) == 4)
    receiver.answer = lambda _: GONE
    receiver.let_go()
    await until(lambda: world.outbox().stopped and not world.outbox().running)
    await until(lambda: world.service.ledger.live == world.log.head)

    assert sorted(seq for seq, _ in world.outbox().open) == [*seqs]
    assert len(of_type(await world.facts(), HookSuspended)) == 1


async def test_the_hook_of_today_is_used(world: World, receiver: Receiver) -> None:
    """A corrected hook helps a retry; the receipt tells which version that was."""
    receiver.answer = lambda delivery: (
        Outcome(ok=True) if delivery.hook.config.get("url") == "new" else FAILED
    )
    await world.hook(config={"url": "old"})
    receiver.hold()
    await world.emit()
    await until(lambda: receiver.arrived)
    await world.update(config={"url": "new"})
    receiver.let_go()
    await world.quiet()

    assert [delivery.hook.config["url"] for delivery in receiver.arrived] == ["old", "new"]
    assert [delivery.hook.version for delivery in receiver.arrived] == [0, 1]


async def test_a_bug_in_a_handler_is_a_failure(world: World, receiver: Receiver) -> None:
    """It is retried and parked like any other."""

    def broken(_: Delivery) -> Outcome:
        raise RuntimeError("a bug")

    receiver.answer = broken
    await world.hook()
    await world.emit()
    await until(lambda: world.outbox().parked)
    (parked,) = of_type(await world.facts(), DeliveryParked)

    assert parked.reason == "gave up after 3 attempts: internal error: RuntimeError"
    assert world.service.failure is None


@pytest.mark.parametrize("fields", [{}, {"on_change": True}, {"snooze": 10}])
async def test_an_event_that_cannot_be_read_is_parked(
    world: World, receiver: Receiver, fields: dict[str, Any]
) -> None:
    """It crashes nothing, holds up nobody, and what there is of it is kept."""
    await world.hook(**fields)
    bad = NewEvent(
        stream="emitted/s/e", type="event_emitted", kind=Kind.EMITTED, body=b'{"x": \xff'
    )
    await world.log.append(Append(events=(bad,)))
    (good,) = await world.emit()
    await until(lambda: world.outbox().parked and receiver.arrived)
    (parked,) = of_type(await world.facts(), DeliveryParked)

    assert receiver.seqs() == [good]
    assert "cannot be read" in parked.reason
    assert msgspec.json.decode(parked.data) == '{"x": \ufffd'
    assert world.service.failure is None


async def test_an_event_of_a_newer_program_is_parked(world: World, receiver: Receiver) -> None:
    """Never dropped, never guessed at."""
    await world.hook()
    newer = NewEvent(
        stream="emitted/s/e",
        type="event_emitted",
        kind=Kind.EMITTED,
        body=b'{"payload": 1}',
        schema_version=9,
    )
    await world.log.append(Append(events=(newer,)))
    await until(lambda: world.outbox().parked)
    (parked,) = of_type(await world.facts(), DeliveryParked)

    assert parked.reason == "the event cannot be read: UnknownEvent"
    assert receiver.arrived == []


async def test_a_delivery_stays_open_while_the_log_is_full(
    world: World, receiver: Receiver
) -> None:
    """What cannot be parked is not lost, and reading and delivering go on."""
    receiver.answer = lambda delivery: REFUSED if delivery.data["n"] == 0 else Outcome(ok=True)
    await world.hook()
    receiver.hold()
    await world.emit({"n": 0}, {"n": 1})
    await until(lambda: receiver.arrived)
    await world.fill_up()
    receiver.let_go()
    await until(lambda: len(receiver.answered) == 2 and not world.outbox().running)

    assert [opened.reason for opened in world.outbox().open.values()] == ["not like this"]


async def test_a_hook_with_too_many_open_deliveries_reads_no_further(
    tmp_path: Path, receiver: Receiver
) -> None:
    """The log is its buffer; memory is bounded; what it did not read is delivered later."""
    receiver.answer = lambda _: FAILED
    async with delivering(tmp_path, receiver, options=LATER) as world:
        await world.hook()
        seqs = await world.emit(*range(OPEN_LIMIT + 50))
        await until(lambda: len(world.outbox().open) == OPEN_LIMIT)
        await until(lambda: not world.outbox().running)

        assert world.outbox().position == seqs[OPEN_LIMIT - 1]


async def test_new_attempts_wait_for_the_disk(tmp_path: Path, receiver: Receiver) -> None:
    """With so many completions unwritten no attempt starts: a crash repeats no more than those."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        lock = world.service.ledger._flushing
        async with lock:
            await world.emit(*range(2 * UNFLUSHED))
            await until(lambda: world.service.ledger.unflushed >= UNFLUSHED)
            await until(lambda: not world.outbox().running)

            assert UNFLUSHED <= len(receiver.arrived) < UNFLUSHED + OPTIONS.limits.hook
        await world.quiet()
        assert len(receiver.arrived) == 2 * UNFLUSHED


async def test_a_hook_runs_no_more_attempts_than_allowed(
    tmp_path: Path, receiver: Receiver
) -> None:
    """However much there is to do."""
    options = msgspec.structs.replace(OPTIONS, limits=Limits(hook=3))
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.hook()
        await world.emit(*range(20))
        await world.quiet()
        receiver.hold()
        await world.emit(*range(20))
        await until(lambda: len(world.outbox().running) == 3)
        await world.emit(*range(20))
        await until(lambda: world.service.ledger.live == world.log.head)

        assert len(world.outbox().running) == 3
        receiver.let_go()
        await world.quiet()
        assert len(receiver.answered) == 60


async def test_a_clock_that_was_set_back_delays_nothing_for_ever(
    tmp_path: Path, receiver: Receiver
) -> None:
    """After a restart a retry waits no longer than the policy ever lets one wait."""
    receiver.answer = failing(1, Outcome(ok=False, reason="later", retry_after=3600))
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.emit()
        await until(lambda: receiver.answered and not world.outbox().running)
        await world.stop()
    policy = RetryPolicy(schedule=(0.01, 0.01), jitter=0, retry_after_cap=0.02)
    options = msgspec.structs.replace(OPTIONS, policy=policy)
    async with delivering(tmp_path, receiver, options=options) as world:
        await world.quiet()

    assert [delivery.attempt for delivery in receiver.arrived] == [1, 2]

"""A caller goes away while its append is on its way: the batch is not disturbed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.abc
import pytest

from eventstore import Append, Appended, EventLog, Idempotency
from tests.eventstore.samples import created, emitted, of

STEPS = [*range(40), *range(40, 400, 20), *range(400, 4000, 300)]
"""Turns of the event loop before the caller goes: from before its turn to long after its answer."""


Cancel = Callable[[EventLog, Append, int], Awaitable[bool]]


def request(number: int) -> Append:
    return Append(
        events=(emitted(b"%d" % number),), idempotency=Idempotency(f"key/{number}", b"same")
    )


async def turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def cancelled_by_scope(log: EventLog, append: Append, steps: int) -> bool:
    """As a deadline or a closing task group does."""
    answers: list[Appended] = []

    async def call() -> None:
        answers.append(await log.append(append))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await turns(steps)
        tasks.cancel_scope.cancel()
    return not answers


async def cancelled_by_task(log: EventLog, append: Append, steps: int) -> bool:
    """As a web server does when its client hangs up."""
    task = asyncio.create_task(log.append(append))
    await turns(steps)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@pytest.mark.parametrize("cancel", [cancelled_by_scope, cancelled_by_task])
async def test_a_request_cancelled_at_any_moment_can_be_sent_again(
    log: EventLog, cancel: Cancel
) -> None:
    """Sent again with its key it is stored exactly once, and so are its neighbours."""
    cancelled: list[bool] = []
    async with anyio.create_task_group() as tasks:
        for number, steps in enumerate(STEPS):
            tasks.start_soon(log.append, of(created(f"neighbour/{number}")))
            cancelled.append(await cancel(log, request(number), steps))
            await log.append(request(number))
    events = await log.read(0)
    bodies = Counter(event.body for event in events if event.stream.startswith("emitted/"))

    assert set(cancelled) == {True, False}
    assert bodies == {b"%d" % number: 1 for number in range(len(STEPS))}
    assert [event.seq for event in events] == list(range(1, 2 * len(STEPS) + 1))


async def test_who_leaves_before_its_turn_is_not_stored(log: EventLog) -> None:
    """An append that nobody waits for any more when its turn comes is dropped."""
    task = asyncio.create_task(log.append(of(emitted())))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await log.append(of(created()))

    assert [event.stream for event in await log.read(0)] == ["consumers/1"]


async def test_the_log_is_closed_in_order_when_its_owner_is_cancelled(
    directory: Path,
) -> None:
    """Cancelling the block that holds the log finishes what was queued and lets go of the lock."""
    answers: list[Appended] = []

    async def call(log: EventLog) -> None:
        answers.append(await log.append(of(emitted())))

    async def own(*, task_status: anyio.abc.TaskStatus[EventLog]) -> None:
        async with EventLog.open(directory) as log:
            task_status.started(log)
            await anyio.sleep_forever()

    async with anyio.create_task_group() as callers, anyio.create_task_group() as owner:
        log = await owner.start(own)
        for _ in range(20):
            callers.start_soon(call, log)
        await anyio.lowlevel.checkpoint()
        owner.cancel_scope.cancel()
    async with EventLog.open(directory) as log:
        assert log.head == len(answers) == 20

"""Acts on what became of an attempt: settled, again later, parked, suspended.

What others should know of it becomes a fact in the log first. An attempt that the log cannot take
is not forgotten: its delivery stays open.
"""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from eventstore.codec import new_event
from eventstore.errors import LogError
from eventstore.events import (
    DELIVERIES_PREFIX,
    DeliveriesCancelled,
    DeliveryFailed,
    DeliveryParked,
    Event,
    HookSuspended,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from projections.hooks import Hooks

from . import retry
from .ledger import Ledger
from .matching import payload
from .outbox import Outbox
from .outcome import Outcome
from .state import Item, Open, Parked
from .timetable import Timetable

_logger = logging.getLogger("hooktape.delivery")

Clock = Callable[[], int]
"""Wall time in microseconds."""

_SECOND: Final = 1_000_000
# When the log takes no facts, a delivery that is to be parked is tried again after this (seconds).
_NOT_RECORDED: Final = 30


class Tried(msgspec.Struct, frozen=True):
    """An attempt that was made: the names the hook knows the event by, and the version used."""

    item: Item
    event: RecordedEvent
    source: str
    name: str
    hook_version: int


class Settlement:
    """Total: whatever the outcome, the delivery is settled, scheduled, parked or still open."""

    def __init__(
        self,
        log: EventLog,
        hooks: Hooks,
        ledger: Ledger,
        timetable: Timetable,
        policy: retry.RetryPolicy,
        *,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._log = log
        self._hooks = hooks
        self._ledger = ledger
        self._timetable = timetable
        self._policy = policy
        self._clock = clock
        self._jitter = jitter

    def delivered(self, outbox: Outbox, item: Item) -> None:
        """It arrived; nothing is done for a delivery that was cancelled meanwhile."""
        if item in outbox.open:
            outbox.delivered(item)
            self._ledger.completed(outbox)

    async def failed(self, outbox: Outbox, tried: Tried, outcome: Outcome) -> None:
        """Act on a failure; nothing is done for a delivery that was cancelled meanwhile."""
        before = outbox.open.get(tried.item)
        if before is None:
            return
        now = self._clock()
        opened = Open(
            attempt=before.attempt + 1,
            due_us=now,
            reason=outcome.reason,
            status=outcome.status,
            hook_version=tried.hook_version,
            resent=before.resent,
            copy=before.copy,
        )
        step = retry.decide(
            outcome, opened.attempt, self._policy, now_s=now / _SECOND, jitter=self._jitter()
        )
        match step:
            case retry.Again(at=at):
                await self._again(outbox, tried, opened, at - now / _SECOND)
            case retry.Park(reason=reason):
                await self._park(outbox, tried, opened, reason)
            case retry.Suspend(reason=reason):
                await self._suspend(outbox, tried.item, opened, reason)
        self._ledger.completed(outbox)

    def schedule_all(self, outbox: Outbox) -> None:
        """After a restart: try everything open again. A clock set back delays nothing for ever."""
        policy = self._policy
        longest = max((*policy.schedule, policy.retry_after_cap)) * (1 + policy.jitter)
        now = self._clock()
        for item, opened in outbox.open.items():
            delay = min((opened.due_us - now) / _SECOND, longest)
            self._timetable.add(outbox.hook_id, item, delay)

    def _schedule(self, outbox: Outbox, item: Item, opened: Open, delay: float) -> None:
        due_us = opened.due_us + int(delay * _SECOND)
        outbox.retry(item, msgspec.structs.replace(opened, due_us=due_us))
        self._timetable.add(outbox.hook_id, item, delay)

    async def _again(self, outbox: Outbox, tried: Tried, opened: Open, delay: float) -> None:
        if opened.attempt == 1:
            seq, purpose = tried.item
            failed = DeliveryFailed(
                seq=seq,
                purpose=purpose,
                reason=opened.reason or "",
                status=opened.status,
                hook_version=tried.hook_version,
            )
            await self._say(outbox, failed)
        self._schedule(outbox, tried.item, opened, delay)

    async def _park(self, outbox: Outbox, tried: Tried, opened: Open, reason: str) -> None:
        seq, purpose = tried.item
        fact: DeliveryParked | DeliveriesCancelled
        if tried.event.body is None:
            fact = DeliveriesCancelled(seqs=[seq], reason=reason)
        else:
            fact = DeliveryParked(
                seq=seq,
                purpose=purpose,
                event_id=tried.event.id,
                reason=reason,
                attempts=opened.attempt,
                status=opened.status,
                source=tried.source,
                event=tried.name,
                data=msgspec.Raw(_copy(tried.event, purpose)),
            )
        position = await self._say(outbox, fact, tried.event.subject)
        if position is None:
            self._schedule(outbox, tried.item, opened, _NOT_RECORDED)
        elif isinstance(fact, DeliveriesCancelled):
            outbox.cancel([tried.item])
        else:
            outbox.park(
                tried.item,
                Parked(
                    position, fact.event_id, opened.attempt, reason, opened.status, opened.due_us
                ),
            )

    async def _suspend(self, outbox: Outbox, item: Item, opened: Open, reason: str) -> None:
        outbox.retry(item, opened)
        outbox.due.append(item)
        if outbox.stopped is None:
            self._ledger.stop(outbox, reason)
            await self._say(outbox, HookSuspended(reason=reason, seq=item[0]))

    async def _say(self, outbox: Outbox, fact: Event, subject: bytes | None = None) -> int | None:
        """Store a delivery fact; its position, or None when the log did not take it.

        A copy is about the person that the event is about.
        """
        stream = DELIVERIES_PREFIX + outbox.hook_id
        event = new_event(fact, stream=stream, kind=Kind.DELIVERY, subject=subject)
        workspace = self._hooks.workspace(outbox.hook_id)
        try:
            appended = await self._log.append(Append(events=(event,), workspace=workspace))
        except LogError as error:
            _logger.warning("a fact about hook %s is not in the log: %s", outbox.hook_id, error)
            return None
        return appended.positions[0]


def _copy(event: RecordedEvent, purpose: str) -> bytes:
    """What was to be sent, as JSON; of an event that cannot be read, its body as a string."""
    try:
        return msgspec.json.encode(payload(event, purpose))
    except Exception:  # the reason for parking says what is wrong with it
        return msgspec.json.encode((event.body or b"").decode(errors="replace"))

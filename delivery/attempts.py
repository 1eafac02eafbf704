"""Performs deliveries and acts on what became of them.

`perform` never raises but for cancellation; its deadline covers the exchange alone. What happened
is recorded afterwards, under a shield: an attempt that was made is never forgotten because somebody
lost patience.
"""

import logging
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Final
from urllib.parse import urlsplit

import anyio
import msgspec
from anyio.abc import TaskGroup

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
from projections.hooks import Hook, Hooks

from . import retry
from .admission import Admission, Place
from .ledger import UNFLUSHED, Ledger
from .matching import Match, match_hook, payload
from .outbox import Outbox
from .outcome import Delivery, Outcome, delivery_id
from .state import Item, Open, Parked

_logger = logging.getLogger("hooktape.delivery")

Perform = Callable[[Delivery], Awaitable[Outcome]]
Clock = Callable[[], int]
"""Wall time in microseconds."""

OPEN_LIMIT: Final = 1000
"""A hook with that many unsettled deliveries reads no further; the log is its buffer."""

_SECOND: Final = 1_000_000
# When the log takes no facts, a delivery that is to be parked is tried again after this (µs).
_NOT_RECORDED: Final = 30 * _SECOND


class Attempts:
    """Starts attempts in `tasks` where there is room, and settles them."""

    def __init__(
        self,
        log: EventLog,
        hooks: Hooks,
        ledger: Ledger,
        admission: Admission,
        perform: Perform,
        policy: retry.RetryPolicy,
        tasks: TaskGroup,
        *,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._log = log
        self._hooks = hooks
        self._ledger = ledger
        self._admission = admission
        self._perform = perform
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self.stop: Callable[[Outbox, str], None]  #: set by the consumer, which owns the lanes
        self._tasks = tasks
        self._closed = False
        # (due wall time, hook, item); entries that no longer fit the outbox are skipped.
        self._schedule: list[tuple[int, str, Item]] = []
        self._rescheduled = anyio.Event()

    def close(self) -> None:
        """Start nothing more; what runs may finish."""
        self._closed = True

    def admit(self, outbox: Outbox, hook: Hook | None) -> Place | None:
        """A place for one attempt; None, and the outbox is woken when asking again may help."""
        if self._closed:
            return None
        if self._ledger.unflushed >= UNFLUSHED:
            self._admission.wait(outbox)
            return None
        return self._admission.admit(outbox.window, _host(hook), outbox)

    def may_read(self, outbox: Outbox) -> bool:
        """Whether the hook may take on new events at all."""
        return len(outbox.open) < OPEN_LIMIT and not outbox.due

    def start(
        self, outbox: Outbox, item: Item, place: Place, event: RecordedEvent, m: Match
    ) -> None:
        """Begin an attempt on an event that is at hand."""
        outbox.running.add(item)
        self._spawn(outbox, item, place, event, m)

    def schedule(self, outbox: Outbox, item: Item, due_us: int) -> None:
        """Try `item` again at `due_us`; a time in the past means as soon as there is room."""
        heappush(self._schedule, (due_us, outbox.hook_id, item))
        if self._schedule[0][2] == item:
            self._rescheduled.set()

    def schedule_all(self, outbox: Outbox) -> None:
        """After a restart: try everything open again. A clock set back delays nothing for ever."""
        policy = self._policy
        longest = max(*policy.schedule, policy.retry_after_cap) * (1 + policy.jitter)
        latest = self._clock() + int(longest * _SECOND)
        for item, opened in outbox.open.items():
            self.schedule(outbox, item, min(opened.due_us, latest))

    async def run_schedule(self) -> None:
        """Hand over retries as they fall due."""
        while True:
            now = self._clock()
            while self._schedule and self._schedule[0][0] <= now:
                _, hook_id, item = heappop(self._schedule)
                self._fall_due(hook_id, item)
            self._rescheduled = anyio.Event()
            wait = (self._schedule[0][0] - now) / _SECOND if self._schedule else None
            with anyio.move_on_after(wait):
                await self._rescheduled.wait()

    def pump(self, outbox: Outbox) -> None:
        """Start what is due and has a place."""
        while outbox.due and outbox.stopped is None:
            item = outbox.due[0]
            if item not in outbox.open or item in outbox.running:
                outbox.due.popleft()
                continue
            place = self.admit(outbox, self._hooks.current(outbox.hook_id))
            if place is None:
                return
            outbox.due.popleft()
            outbox.running.add(item)
            self._spawn(outbox, item, place, None, None)

    async def park(self, outbox: Outbox, item: Item, event: RecordedEvent, reason: str) -> None:
        """Give `item` up without trying it."""
        found = match_hook(event, self._hooks, outbox.hook_id, item[1])
        if found is not None:
            outcome = Outcome(ok=False, reason=reason, retryable=False)
            await self._record(outbox, item, event, found, outcome, found.hook)

    def _fall_due(self, hook_id: str, item: Item) -> None:
        outbox = self._ledger.outboxes.get(hook_id)
        if outbox is not None and item in outbox.open and item not in outbox.running:
            outbox.due.append(item)
            self.pump(outbox)

    def _spawn(
        self,
        outbox: Outbox,
        item: Item,
        place: Place,
        event: RecordedEvent | None,
        m: Match | None,
    ) -> None:
        self._tasks.start_soon(self._attempt, outbox, item, place, event, m)

    async def _attempt(
        self,
        outbox: Outbox,
        item: Item,
        place: Place,
        event: RecordedEvent | None,
        m: Match | None,
    ) -> None:
        ok = None
        try:
            if event is None:
                (event,) = await self._log.read(item[0] - 1, limit=1)
            if m is None:
                m = match_hook(event, self._hooks, outbox.hook_id, item[1])
            hook = self._hooks.current(outbox.hook_id)
            # A deleted hook's deliveries are cancelled when the live lane gets to its deletion.
            if hook is None or m is None:
                return
            outcome = await self._try(outbox, item, event, m, hook)
            ok = outcome.ok
            if ok:
                self._delivered(outbox, item)
            else:
                with anyio.CancelScope(shield=True):
                    await self._record(outbox, item, event, m, outcome, hook)
        finally:
            outbox.running.discard(item)
            place.release(ok=ok)
            outbox.wake()

    async def _try(
        self, outbox: Outbox, item: Item, event: RecordedEvent, m: Match, hook: Hook
    ) -> Outcome:
        data = payload(event, item[1])
        if data is None:
            return Outcome(ok=False, reason="the event was erased", retryable=False)
        opened = outbox.open.get(item)
        delivery = Delivery(
            id=delivery_id(hook.id, event.id, item[1]),
            hook=hook,
            seq=event.seq,
            event_id=event.id,
            source=m.source,
            event=m.event,
            data=data,
            time_us=event.time_us,
            attempt=opened.attempt + 1 if opened else 1,
            purpose=item[1],
        )
        return await self._perform(delivery)

    def _delivered(self, outbox: Outbox, item: Item) -> None:
        if item in outbox.open:
            outbox.delivered(item)
            self._ledger.completed(outbox)

    async def _record(
        self,
        outbox: Outbox,
        item: Item,
        event: RecordedEvent,
        m: Match,
        outcome: Outcome,
        hook: Hook,
    ) -> None:
        """Settle a failure; nothing is done for a delivery that was cancelled meanwhile."""
        opened = outbox.open.get(item)
        if opened is None:
            return
        now = self._clock()
        tried = Open(opened.attempt + 1, now, outcome.reason, outcome.status, hook.version)
        step = retry.decide(
            outcome, tried.attempt, self._policy, now_s=now / _SECOND, jitter=self._jitter()
        )
        match step:
            case retry.Again(at=at):
                await self._again(outbox, item, tried, int(at * _SECOND))
            case retry.Park(reason=reason):
                await self._park(outbox, item, event, m, tried, reason)
            case retry.Suspend(reason=reason):
                await self._suspend(outbox, item, tried, reason)
        self._ledger.completed(outbox)

    async def _again(self, outbox: Outbox, item: Item, tried: Open, due_us: int) -> None:
        outbox.retry(item, msgspec.structs.replace(tried, due_us=due_us))
        self.schedule(outbox, item, due_us)
        if tried.attempt == 1:
            failed = DeliveryFailed(
                seq=item[0],
                purpose=item[1],
                reason=tried.reason or "",
                status=tried.status,
                hook_version=tried.hook_version or 0,
            )
            await self._say(outbox, failed)

    async def _park(
        self,
        outbox: Outbox,
        item: Item,
        event: RecordedEvent,
        m: Match,
        tried: Open,
        reason: str,
    ) -> None:
        data = payload(event, item[1])
        if data is None:
            if await self._say(outbox, DeliveriesCancelled(seqs=[item[0]], reason=reason)):
                outbox.cancel([item])
            return
        parked = DeliveryParked(
            seq=item[0],
            purpose=item[1],
            event_id=event.id,
            reason=reason,
            attempts=tried.attempt,
            status=tried.status,
            source=m.source,
            event=m.event,
            data=msgspec.Raw(msgspec.json.encode(data)),
        )
        position = await self._say(outbox, parked)
        if position is None:
            due_us = tried.due_us + _NOT_RECORDED
            outbox.retry(item, msgspec.structs.replace(tried, due_us=due_us))
            self.schedule(outbox, item, due_us)
            return
        outbox.park(
            item, Parked(position, event.id, tried.attempt, reason, tried.status, tried.due_us)
        )

    async def _suspend(self, outbox: Outbox, item: Item, tried: Open, reason: str) -> None:
        outbox.retry(item, tried)
        outbox.due.append(item)
        self.stop(outbox, reason)
        await self._say(outbox, HookSuspended(reason=reason, seq=item[0]))

    async def _say(self, outbox: Outbox, fact: Event) -> int | None:
        """Store a delivery fact; its position, or None when the log did not take it."""
        event = new_event(fact, stream=DELIVERIES_PREFIX + outbox.hook_id, kind=Kind.DELIVERY)
        try:
            workspace = self._hooks.workspace(outbox.hook_id)
            appended = await self._log.append(Append(events=(event,), workspace=workspace))
        except LogError as error:
            _logger.warning("a fact about hook %s is not in the log: %s", outbox.hook_id, error)
            return None
        return appended.positions[0]


def _host(hook: Hook | None) -> str | None:
    """The receiver that a hook's attempts share with other hooks, if it has one."""
    url = hook.config.get("url") if hook is not None else None
    return urlsplit(url).netloc if url else None

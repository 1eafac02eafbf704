"""Starts attempts where there is room, and sees them through.

`perform` never raises but for cancellation; its deadline covers the exchange alone. What happened
is recorded afterwards, under a shield: an attempt that was made is never forgotten because somebody
lost patience. However an attempt ends, its delivery is settled, scheduled or due.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup

from eventstore.log import EventLog
from eventstore.records import RecordedEvent
from projections.hooks import Hook, Hooks

from . import cloudevents
from .admission import Admission, Place
from .copies import read_back
from .crew import Crew
from .ledger import UNFLUSHED, Ledger
from .matching import Match, emitters, match_hook, names, payload
from .outbox import Outbox
from .outcome import Delivery, Outcome, delivery_id
from .retry import RetryPolicy
from .settlement import Clock, Settlement, Tried
from .state import Item
from .timetable import Timetable

_logger = logging.getLogger("hooktape.delivery")

Perform = Callable[[Delivery], Awaitable[Outcome]]

OPEN_LIMIT: Final = 1000
"""A hook with that many unsettled deliveries reads no further; the log is its buffer."""

# When an attempt could not even be made, it is tried again after this (seconds).
_NOT_MADE: Final = 30


class Attempts:
    """Starts attempts in `tasks`. An outbox that is refused is woken when there may be room."""

    def __init__(
        self,
        log: EventLog,
        hooks: Hooks,
        ledger: Ledger,
        admission: Admission,
        perform: Perform,
        policy: RetryPolicy,
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
        self._crew = Crew(self._attempt, tasks)
        self._closed = False
        self._timetable = Timetable(self._is_open, self._fall_due)
        self._settlement = Settlement(
            log, hooks, ledger, self._timetable, policy, clock=clock, jitter=jitter
        )

    def close(self) -> None:
        """Start nothing more; what runs may finish."""
        self._closed = True
        self._crew.close()

    def admit(self, outbox: Outbox) -> Place | None:
        """A place for one attempt; None, and the outbox is woken when asking again may help."""
        if self._closed:
            return None
        if self._ledger.unflushed >= UNFLUSHED:
            self._admission.wait_for_flush(outbox)
            return None
        host = _host(self._hooks.current(outbox.hook_id))
        return self._admission.admit(outbox.window, host, outbox)

    def admit_new(self, outbox: Outbox) -> Place | None:
        """A place for an event that was not decided yet: what is due comes first."""
        if outbox.due or len(outbox.open) >= OPEN_LIMIT:
            return None  # the end of an attempt wakes it
        return self.admit(outbox)

    def start(
        self, outbox: Outbox, item: Item, place: Place, event: RecordedEvent, m: Match
    ) -> None:
        """Begin an attempt on an event that is at hand."""
        outbox.running.add(item)
        self._crew.start(outbox, item, place, event, m)

    def start_due(self, outbox: Outbox) -> None:
        """Begin what is due, as far as there are places."""
        while outbox.due and outbox.stopped is None:
            item = outbox.due[0]
            if item in outbox.open:
                # An attempt that still runs wakes the outbox at its end.
                place = None if item in outbox.running else self.admit(outbox)
                if place is None:
                    return
                outbox.running.add(item)
                self._crew.start(outbox, item, place, None, None)
            outbox.due.popleft()

    def take_over(self, outbox: Outbox) -> None:
        """After a restart: schedule everything open."""
        self._settlement.schedule_all(outbox)

    async def run_timetable(self) -> None:
        """Retry what falls due, until cancelled."""
        await self._timetable.run()

    def _is_open(self, hook_id: str, item: Item) -> bool:
        outbox = self._ledger.outboxes.get(hook_id)
        return outbox is not None and item in outbox.open

    def _fall_due(self, hook_id: str, item: Item) -> None:
        outbox = self._ledger.outboxes[hook_id]
        outbox.due.append(item)
        self.start_due(outbox)

    async def _attempt(
        self,
        outbox: Outbox,
        item: Item,
        place: Place,
        event: RecordedEvent | None,
        m: Match | None,
    ) -> None:
        ok, settled = None, False
        try:
            hook = self._hooks.current(outbox.hook_id)
            # A deleted hook's deliveries are cancelled when the live lane gets to its deletion.
            if hook is not None:
                if event is None:
                    copy = outbox.open[item].copy if item in outbox.open else 0
                    event, m = await read_back(self._log, item, copy, hook)
                m = m or match_hook(event, self._hooks, outbox.hook_id, item[1])
                source, name = (m.source, m.event) if m is not None else names(event)[0]
                outcome = await self._try(outbox, item, event, m, hook)
                ok = outcome.ok
                if ok:
                    self._settlement.delivered(outbox, item)
                else:
                    tried = Tried(item, event, source, name, hook.version)
                    with anyio.CancelScope(shield=True):
                        await self._settlement.failed(outbox, tried, outcome)
                settled = True
        except Exception:
            _logger.exception("an attempt for hook %s failed inside", outbox.hook_id)
        finally:
            outbox.running.discard(item)
            place.release(ok=ok)
            if not settled:
                self._timetable.add(outbox.hook_id, item, _NOT_MADE)
            outbox.wake()

    async def _try(
        self, outbox: Outbox, item: Item, event: RecordedEvent, m: Match | None, hook: Hook
    ) -> Outcome:
        if m is None:
            return Outcome(ok=False, reason="the hook matches it no more", retryable=False)
        try:
            data = payload(event, item[1])
        except Exception as error:
            _logger.exception("event %d cannot be read", event.seq)
            reason = f"the event cannot be read: {type(error).__name__}"
            return Outcome(ok=False, reason=reason, retryable=False)
        if data is None:
            return Outcome(ok=False, reason="the event was erased", retryable=False)
        opened = outbox.open.get(item)
        if opened is None:  # while its event was read
            return Outcome(ok=False, reason="the delivery was cancelled", retryable=False)
        event_id = event.id
        delivery = Delivery(
            id=delivery_id(hook.id, event_id, item[1]),
            hook=hook,
            seq=event.seq,
            event_id=event_id,
            source=m.source,
            event=m.event,
            data=data,
            time_us=event.time_us,
            attempt=opened.attempt + 1,
            purpose=item[1],
            subject=event.subject,
            emitters=emitters(event),
            origin=cloudevents.origin(event, hook),
        )
        return await self._perform(delivery)


def _host(hook: Hook | None) -> str | None:
    """The receiver that a hook's attempts share with other hooks, if it has one."""
    url = hook.config.get("url") if hook is not None else None
    try:
        return urlsplit(url).netloc if url else None
    except ValueError:
        return None  # whoever performs the attempt will say so

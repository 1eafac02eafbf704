"""Follows the log and decides, for every event and hook: fire, suppress, or not now.

One live lane reads at the head for all hooks. A hook that has no place for the next event leaves it
for a lane of its own, a cursor over the same log, and rejoins when it has caught up. There is no
queue to lose: the log is the buffer and a position is the truth.
"""

from collections.abc import Iterator
from typing import Final

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from eventstore.log import EventLog
from eventstore.records import RecordedEvent
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources

from .attempts import Attempts
from .decisions import Decisions
from .erasures import Erasures, record_of
from .ledger import Ledger
from .matching import Match, match, match_hook, purposes
from .orders import Orders
from .outbox import Outbox
from .pages import Pages
from .receipts import Receipts

_PAGE: Final = 256
# Decisions made in a row before other tasks get their turn.
_TURN: Final = 500


class Consumer:
    """One run of the consumer, from what `ledger` was filled with until it is cancelled.

    The lanes of lagging hooks run in `lanes`.
    """

    def __init__(
        self,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        sources: Sources,
        ledger: Ledger,
        receipts: Receipts,
        attempts: Attempts,
        lanes: TaskGroup,
        erasures: Erasures,
    ) -> None:
        self._log = log
        self._projections = projections
        self._hooks = hooks
        self._ledger = ledger
        self._attempts = attempts
        self._lanes = lanes
        self._erasures = erasures
        self._pages = Pages(log)
        self._decisions = Decisions(ledger, attempts, sources, log.digest)
        self._orders = Orders(log, hooks, ledger, receipts, self._catch_up)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        for outbox in list(self._ledger.outboxes.values()):
            self._attempts.take_over(outbox)
            self._catch_up(outbox)
        while True:
            await self._log.wait(self._ledger.live)
            page = await self._page()
            await self._projections.wait_applied(min(page[-1].seq, self._log.config_head))
            await self._decide_page(page)
            self._ledger.announce()

    async def _page(self) -> list[RecordedEvent]:
        """The events after `live`. Far behind the head, lanes will want the same pages."""
        if self._log.head - self._ledger.live < _PAGE:
            return await self._log.read(self._ledger.live, limit=_PAGE)
        return await self._pages.after(self._ledger.live)

    async def _decide_page(self, page: list[RecordedEvent]) -> None:
        turn = 0
        for event in map(self._erasures.stripped, page):
            await self._orders.prepare(event)
            if erased := record_of(event):
                await self._projections.wait_applied(event.seq)
                await self._erasures.obey(event.seq, erased, self._ledger)
            # No await from here to the end: a position stands for events decided whole.
            matches = match(event, self._hooks)
            for m in matches:
                self._decide_live(event, m)
            self._orders.obey(event)
            self._ledger.advance(event.seq)
            turn += 1 + len(matches)
            if turn >= _TURN:
                turn = 0
                await checkpoint()

    def _decide_live(self, event: RecordedEvent, m: Match) -> None:
        outbox = self._ledger.outboxes.get(m.hook.id)
        if outbox is None:
            if self._hooks.current(m.hook.id) is None:
                return  # deleted since
            outbox = self._ledger.outbox(m.hook.id)
        if outbox.position is None and not self._decisions.decide(event, m, outbox):
            outbox.position = event.seq - 1
            self._ledger.touch(outbox)
            self._catch_up(outbox)

    def _catch_up(self, outbox: Outbox) -> None:
        if outbox.position is None or outbox.stopped is not None or outbox.catching_up:
            return
        outbox.catching_up = True
        self._lanes.start_soon(self._lane, outbox)

    async def _lane(self, outbox: Outbox) -> None:
        """Read on for one hook until it has caught up with the live lane, or is stopped."""
        try:
            while outbox.position is not None and outbox.stopped is None:
                if outbox.position >= self._ledger.live:
                    outbox.position = None
                    break
                for event in await self._pages.after(outbox.position):
                    if not await self._decide_lane(event, outbox):
                        break
                self._ledger.touch(outbox)
        finally:
            outbox.catching_up = False
            self._ledger.touch(outbox)

    async def _decide_lane(self, event: RecordedEvent, outbox: Outbox) -> bool:
        """Decide once there is a place; False when the lane stopped, was moved or ends here."""
        event = self._erasures.stripped(event)
        if erased := record_of(event):
            self._erasures.forget(event.seq, erased, outbox)
        for m in self._matches(event, outbox.hook_id):
            while self._is_next(event, outbox) and not self._decisions.decide(event, m, outbox):
                await outbox.until_woken()
        if not self._is_next(event, outbox):
            return False
        outbox.position = event.seq
        return True

    def _is_next(self, event: RecordedEvent, outbox: Outbox) -> bool:
        return (
            outbox.stopped is None
            and outbox.position == event.seq - 1
            and event.seq <= self._ledger.live
        )

    def _matches(self, event: RecordedEvent, hook_id: str) -> Iterator[Match]:
        for purpose in purposes(event, hook_id):
            m = match_hook(event, self._hooks, hook_id, purpose)
            if m is not None:
                yield m

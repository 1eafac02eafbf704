"""Follows the log and decides, for every event and hook: fire, suppress, or not now.

One live lane reads at the head for all hooks. A hook that has no place for the next event leaves it
for a lane of its own, a cursor over the same log, and rejoins when it has caught up. There is no
queue to lose: the log is the buffer and a position is the truth.
"""

import logging
from typing import Any, Final

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from eventstore.codec import decode, new_event
from eventstore.errors import LogError
from eventstore.events import (
    DELIVERIES_PREFIX,
    HOOKS_PREFIX,
    DeliveriesCancelled,
    DeliveryResent,
    HookPaused,
    HookResumed,
    HookSuspended,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources

from .attempts import Attempts
from .ledger import Ledger
from .matching import PING, Match, match, match_hook, payload
from .outbox import Outbox
from .pages import Pages
from .state import Item
from .suppression import Rule, decide, remember, subject

_logger = logging.getLogger("hooktape.delivery")

_PAGE: Final = 256
# Decisions made in a row before other tasks get their turn.
_TURN: Final = 500
_SECOND: Final = 1_000_000


class PoisonError(Exception):
    """Deciding on an event for a hook raised: our bug, but it must not stop the others for ever."""

    def __init__(self, hook_id: str, seq: int) -> None:
        super().__init__(f"event {seq} crashed the consumer for hook {hook_id}")
        self.poison = (hook_id, seq)


class Consumer:
    """One run of the consumer, from what `ledger` was restored to until it is cancelled.

    The lanes of lagging hooks run in `lanes`. `poison` lists (hook, seq) that crashed earlier runs
    often enough to be parked unseen.
    """

    def __init__(
        self,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        sources: Sources,
        ledger: Ledger,
        attempts: Attempts,
        lanes: TaskGroup,
        *,
        poison: frozenset[tuple[str, int]] = frozenset(),
    ) -> None:
        self._log = log
        self._projections = projections
        self._hooks = hooks
        self._sources = sources
        self._ledger = ledger
        self._attempts = attempts
        self._poison = poison
        self._pages = Pages(log)
        attempts.stop = self.stop
        self._lanes = lanes

    async def run(self) -> None:
        """Follow the log until cancelled."""
        for outbox in list(self._ledger.outboxes.values()):
            self._attempts.schedule_all(outbox)
            self._catch_up(outbox)
        while True:
            await self._log.wait(self._ledger.live)
            page = await self._log.read(self._ledger.live, limit=_PAGE)
            await self._projections.wait_applied(min(page[-1].seq, self._log.config_head))
            await self._decide_page(page)
            self._ledger.announce()

    def stop(self, outbox: Outbox, reason: str) -> None:
        """Send nothing more for this hook; what is in flight is finished."""
        outbox.stopped = reason
        if outbox.position is None:
            outbox.position = self._ledger.live
        self._ledger.touch(outbox)
        outbox.wake()

    async def _decide_page(self, page: list[RecordedEvent]) -> None:
        turn = 0
        for event in page:
            matches = match(event, self._hooks)
            for m in matches:
                self._decide_live(event, m)
            # In this order: a position that is on disk has been obeyed.
            await self._obey(event)
            self._ledger.advance(event.seq)
            turn += 1 + len(matches)
            if turn >= _TURN:
                turn = 0
                await checkpoint()

    def _decide_live(self, event: RecordedEvent, m: Match) -> None:
        if m.hook.id not in self._ledger.outboxes and self._hooks.current(m.hook.id) is None:
            return  # nothing was begun for a hook that is deleted by now, or all of it is told
        outbox = self._ledger.outbox(m.hook.id)
        if outbox.position is not None:
            return
        if outbox.stopped is not None or not self._offer(event, m, outbox):
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
                    if event.seq > self._ledger.live:
                        break
                    if not await self._decide_lane(event, outbox):
                        return
                    outbox.position = event.seq
                self._ledger.touch(outbox)
        finally:
            outbox.catching_up = False
            self._ledger.touch(outbox)

    async def _decide_lane(self, event: RecordedEvent, outbox: Outbox) -> bool:
        """Decide once there is a place; False when the hook was stopped or deleted meanwhile."""
        found = [match_hook(event, self._hooks, outbox.hook_id)]
        if event.stream == HOOKS_PREFIX + outbox.hook_id:
            found.append(match_hook(event, self._hooks, outbox.hook_id, PING))
        for m in found:
            while m is not None:
                changed = outbox.next_change()
                if outbox.stopped is not None or outbox.hook_id not in self._ledger.outboxes:
                    return False
                if self._offer(event, m, outbox):
                    break
                await changed.wait()
        return True

    def _offer(self, event: RecordedEvent, m: Match, outbox: Outbox) -> bool:
        """Decide on one match; False when the hook has no place now, and nothing was decided."""
        try:
            return self._decide(event, m, outbox)
        except Exception as error:
            raise PoisonError(outbox.hook_id, event.seq) from error

    def _decide(self, event: RecordedEvent, m: Match, outbox: Outbox) -> bool:
        item = (event.seq, m.purpose)
        settled = event.seq <= outbox.progress.settled or outbox.knows(item)
        if not settled and (outbox.hook_id, event.seq) in self._poison:
            outbox.fire(item)
            self._lanes.start_soon(
                self._attempts.park, outbox, item, event, "it crashed the consumer three times"
            )
            return True
        rule = self._rule(event, m)
        reason = decide(outbox.memory, rule) if rule is not None else None
        if settled:
            if rule is not None and reason is None:
                outbox.remembered(remember(outbox.memory, rule))
            return True
        if reason is not None:
            outbox.suppress(reason, event.seq)
            self._ledger.touch(outbox)
            return True
        place = self._attempts.admit(outbox, m.hook) if self._attempts.may_read(outbox) else None
        if place is None:
            return False
        if rule is not None:
            outbox.remembered(remember(outbox.memory, rule))
        outbox.fire(item)
        self._ledger.touch(outbox)
        self._attempts.start(outbox, item, place, event, m)
        return True

    def _rule(self, event: RecordedEvent, m: Match) -> Rule | None:
        """What on_change and snooze compare; None when neither applies. A ping is always sent."""
        hook = m.hook
        if m.purpose or not (hook.on_change or hook.snooze):
            return None
        data = payload(event)
        if data is None:
            return None
        definition = self._sources.as_of(m.source, m.event, event.seq)
        unique = definition.unique if definition is not None else None
        return Rule(
            changed=self._digest(data, unique, whole=True) if hook.on_change else None,
            snoozed=self._digest(data, unique, whole=False) if hook.snooze else None,
            snooze_us=(hook.snooze or 0) * _SECOND,
            wall_us=event.wall_us,
        )

    def _digest(self, data: dict[str, Any], unique: list[str] | None, *, whole: bool) -> bytes:
        return self._log.digest(subject(data, unique, whole=whole))

    async def _obey(self, event: RecordedEvent) -> None:
        """Act on what the log says about a hook: stop, go on, send again, cancel."""
        if event.kind == Kind.DELIVERY and event.seq > self._ledger.known:
            await self._obey_fact(event)
        elif event.type == "entity_deleted" and event.stream.startswith(HOOKS_PREFIX):
            await self._cancel(event.stream.removeprefix(HOOKS_PREFIX))

    async def _obey_fact(self, event: RecordedEvent) -> None:
        hook_id = event.stream.removeprefix(DELIVERIES_PREFIX)
        if self._hooks.current(hook_id) is None:
            return
        outbox = self._ledger.outbox(hook_id)
        match decode(event):
            case HookPaused(reason=reason) | HookSuspended(reason=reason):
                self.stop(outbox, reason)
            case HookResumed(skip_to=skip_to):
                self._resume(outbox, skip_to)
            case DeliveryResent(seq=seq, purpose=purpose):
                self._resend(outbox, (seq, purpose), event.seq)
            case _:
                pass

    def _resume(self, outbox: Outbox, skip_to: int | None) -> None:
        if outbox.stopped is None:
            return
        outbox.stopped = None
        if skip_to is not None and outbox.position is not None and outbox.position < skip_to:
            outbox.skip(outbox.position + 1, skip_to)
            outbox.position = skip_to
            self._ledger.want_receipts()
        self._ledger.touch(outbox)
        outbox.wake()
        self._catch_up(outbox)

    def _resend(self, outbox: Outbox, item: Item, ordered: int) -> None:
        if outbox.resend(item, ordered):
            outbox.due.append(item)
            self._ledger.touch(outbox)
            outbox.wake()

    async def _cancel(self, hook_id: str) -> None:
        """The hook is gone: say so for what it had open or parked, and forget it."""
        outbox = self._ledger.outboxes.get(hook_id)
        if outbox is None:
            return
        stream = DELIVERIES_PREFIX + hook_id
        facts = self._ledger.last_receipt(outbox)
        seqs = sorted({seq for seq, _ in (*outbox.open, *outbox.parked)})
        if seqs or outbox.position is not None:
            fact = DeliveriesCancelled(
                seqs=seqs, reason="the hook was deleted", after=outbox.position
            )
            facts.append(new_event(fact, stream=stream, kind=Kind.DELIVERY))
        if facts:
            try:
                workspace = self._hooks.workspace(hook_id)
                await self._log.append(Append(events=tuple(facts), workspace=workspace))
            except LogError as error:
                # The deletion itself is stored, and explains as much.
                _logger.warning("a cancellation is not in the log: %s", error)
        self._ledger.forget(outbox)
        outbox.wake()

"""Obeys what the log says about a hook: stop, go on, send again, and that it is deleted.

The live lane calls it for every event in log order, so a restart obeys the same orders.
"""

import logging
from collections.abc import Callable
from typing import Final

from eventstore.codec import decode, new_event
from eventstore.errors import LogError
from eventstore.events import (
    DELIVERIES_PREFIX,
    HOOKS_PREFIX,
    DeliveriesCancelled,
    DeliveryParked,
    DeliveryResent,
    HookPaused,
    HookResumed,
    HookSuspended,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from projections.hooks import Hooks

from .ledger import Ledger
from .outbox import Outbox
from .receipts import Receipts
from .state import Item, Parked

_logger = logging.getLogger("hooktape.delivery")

DELETED: Final = "the hook was deleted"


class Orders:
    """`catch_up` starts the lane of an outbox that has to read on by itself."""

    def __init__(
        self,
        log: EventLog,
        hooks: Hooks,
        ledger: Ledger,
        receipts: Receipts,
        catch_up: Callable[[Outbox], None],
    ) -> None:
        self._log = log
        self._hooks = hooks
        self._ledger = ledger
        self._receipts = receipts
        self._catch_up = catch_up

    async def prepare(self, event: RecordedEvent) -> None:
        """Before `event` is decided: when it deletes a hook, put into the log what that ends.

        Nothing in memory changes but that the hook stops, so a crash repeats it.
        """
        outbox = self._deleted(event)
        if outbox is None or outbox.progress.settled >= event.seq:
            return
        self._ledger.stop(outbox, DELETED)
        await self._receipts.append((outbox,))
        seqs = sorted({seq for seq, _ in (*outbox.open, *outbox.parked)})
        if seqs or outbox.position is not None:
            await self._say(
                outbox, DeliveriesCancelled(seqs=seqs, reason=DELETED, after=outbox.position)
            )

    def obey(self, event: RecordedEvent) -> None:
        """Act on `event`, between two awaits."""
        if event.kind == Kind.DELIVERY:
            if event.seq > self._ledger.known:
                self._obey_fact(event)
            return
        outbox = self._deleted(event)
        if outbox is None:
            return
        if outbox.progress.settled < event.seq:
            self._ledger.forget(outbox)
        else:  # made again since, and this is read once more because `state.db` was lost
            outbox.forget_memory()
            self._ledger.touch(outbox)

    def _deleted(self, event: RecordedEvent) -> Outbox | None:
        if event.type != "entity_deleted" or not event.stream.startswith(HOOKS_PREFIX):
            return None
        return self._ledger.outboxes.get(event.stream.removeprefix(HOOKS_PREFIX))

    def _obey_fact(self, event: RecordedEvent) -> None:
        hook_id = event.stream.removeprefix(DELIVERIES_PREFIX)
        if self._hooks.current(hook_id) is None or event.seq <= self._hooks.over_until(hook_id):
            return  # said of a hook that is gone
        outbox = self._ledger.outbox(hook_id)
        match decode(event):
            case HookPaused(reason=reason) | HookSuspended(reason=reason):
                self._ledger.stop(outbox, reason)
            case HookResumed(skip_to=skip_to):
                self._resume(outbox, skip_to)
            case DeliveryResent(seq=seq, purpose=purpose):
                self._resend(outbox, (seq, purpose), event.seq)
            case DeliveryParked() as fact:
                self._learn(outbox, fact, event)
            case _:
                pass

    def _resume(self, outbox: Outbox, skip_to: int | None) -> None:
        outbox.stopped = None
        if skip_to is not None and outbox.position is not None:
            outbox.skip(skip_to)
            self._ledger.receipts_due.set()
        self._ledger.touch(outbox)
        outbox.wake()
        self._catch_up(outbox)

    def _resend(self, outbox: Outbox, item: Item, ordered: int) -> None:
        if outbox.resend(item, ordered):
            outbox.due.append(item)
            self._ledger.touch(outbox)
            outbox.wake()

    def _learn(self, outbox: Outbox, fact: DeliveryParked, event: RecordedEvent) -> None:
        item = (fact.seq, fact.purpose)
        if fact.copy_of is not None:
            outbox.copied(item, fact.copy_of, event.seq)
            self._ledger.touch(outbox)
            return
        parked = Parked(
            event.seq, fact.event_id, fact.attempts, fact.reason, fact.status, event.time_us
        )
        decided = self._ledger.live if outbox.position is None else outbox.position
        outbox.learn_parked(item, parked, decided)
        self._ledger.touch(outbox)

    async def _say(self, outbox: Outbox, fact: DeliveriesCancelled) -> None:
        event = new_event(fact, stream=DELIVERIES_PREFIX + outbox.hook_id, kind=Kind.DELIVERY)
        workspace = self._hooks.workspace(outbox.hook_id)
        try:
            await self._log.append(Append(events=(event,), workspace=workspace))
        except LogError as error:
            # The deletion itself is stored, and explains as much.
            _logger.warning("a cancellation is not in the log: %s", error)

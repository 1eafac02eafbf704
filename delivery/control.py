"""What the Admin API asks of delivery: why, what is left, stop, go on, send again.

Orders are events: they are stored first and obeyed when the live lane reaches them, so a restart
or a rebuild obeys them too.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import anyio
import msgspec

from eventstore.codec import new_event
from eventstore.events import (
    DELIVERIES_PREFIX,
    DeliveryResent,
    Event,
    HookPaused,
    HookResumed,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from projections.deliveries import Deliveries, Fact
from projections.hooks import Hooks
from projections.runner import Projections

from .explain import explain_hook, in_words
from .outcome import delivery_id as name_delivery
from .past import Past
from .service import DeliveryService
from .state import Item, Open, Parked

# How long an order waits to be obeyed before it is answered all the same (seconds).
_OBEYED: Final = 5.0
# How long an answer waits for the latest facts (seconds); it is given without them on a full disk.
_LOOKED_UP: Final = 2.0
_RESENT_AT_ONCE: Final = 10_000
_FACTS_OF_AN_EVENT: Final = 1000
_END: Final = "~"


class DeliveryControl:
    """Fills the API's needs from the consumer's memory and the folded delivery facts."""

    def __init__(
        self,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        deliveries: Deliveries,
        service: DeliveryService,
    ) -> None:
        self._log = log
        self._projections = projections
        self._hooks = hooks
        self._deliveries = deliveries
        self._service = service

    async def history(self, hook_id: str, before: int | None, size: int) -> list[dict[str, Any]]:
        """The hook's delivery facts, newest first, from below log position `before`."""
        await self._up_to_date()
        end = f"{hook_id}/fact/{before:020d}" if before is not None else f"{hook_id}/fact/{_END}"
        facts: list[Fact] = await self._projections.lookup(
            self._deliveries, f"{hook_id}/fact/", end, limit=size, reverse=True
        )
        return [in_words(fact) for fact in facts]

    def summary(self, hook_id: str) -> dict[str, Any]:
        """Where the hook stands now: its state, its position, and what it has not settled."""
        ledger = self._service.ledger
        outbox = ledger.outboxes.get(hook_id)
        position = ledger.live if outbox is None or outbox.position is None else outbox.position
        state = "live"
        if outbox is not None and outbox.stopped is not None:
            state = "stopped"
        elif outbox is not None and outbox.position is not None:
            state = "catching up"
        return {
            "state": state,
            "reason": outbox.stopped if outbox is not None else None,
            "position": position,
            "open": [_open(seq, purpose, o) for (seq, purpose), o in sorted(outbox.open.items())]
            if outbox is not None
            else [],
            "parked": len(outbox.parked) if outbox is not None else 0,
        }

    async def explain(self, event: RecordedEvent) -> list[dict[str, Any]]:
        """For every hook there ever was: what became of `event`, and why.

        Of an event that was compacted away, from the archive; that takes as long as reading it.
        """
        await self._up_to_date()
        hooks, lookup = self._hooks, self._lookup
        if event.seq < self._log.first:
            past = await Past.read(self._log, event.seq)
            hooks, lookup = past.hooks, partial(past.lookup, self._lookup)
        return [
            entry
            for hook_id in hooks.known()
            for entry in await explain_hook(event, hook_id, hooks, self._service.ledger, lookup)
        ]

    async def parked(self, hook_id: str, after: int, size: int) -> list[dict[str, Any]]:
        """Deliveries given up, oldest event first, from above event position `after`."""
        found = [item for item in self._parked(hook_id) if item[0] > after]
        return [self._parked_entry(hook_id, item) for item in sorted(found)[:size]]

    async def resend(self, hook_id: str, delivery_id: str | None, origin: Append) -> int:
        """Put one parked delivery, or the oldest 10,000, back to work; how many.

        `origin` says who asks, and under which idempotency key; it has no events of its own.
        """
        if origin.idempotency is not None:
            stored = await self._log.recall(origin.idempotency)
            if stored is not None:
                return len(stored.positions)
        items = sorted(
            item
            for item, parked in self._parked(hook_id).items()
            if delivery_id in (None, name_delivery(hook_id, parked.event_id, item[1]))
        )[:_RESENT_AT_ONCE]
        if items:
            orders = [DeliveryResent(seq=seq, purpose=purpose) for seq, purpose in items]
            await self._order(hook_id, orders, origin)
        return len(items)

    async def pause(self, hook_id: str, origin: Append) -> dict[str, Any]:
        """Send nothing more until resumed. Events wait in the log."""
        await self._order(hook_id, [HookPaused()], origin)
        return self.summary(hook_id)

    async def resume(self, hook_id: str, skip: bool, origin: Append) -> dict[str, Any]:
        """Go on with everything that waited or, with `skip`, with what comes from now on."""
        skip_to = self._log.head if skip else None
        await self._order(hook_id, [HookResumed(skip_to=skip_to)], origin)
        return self.summary(hook_id)

    async def _up_to_date(self) -> None:
        """What is looked up should know of everything that is in the log by now."""
        with anyio.move_on_after(_LOOKED_UP):
            await self._projections.wait_stored(self._log.head)

    async def _lookup(self, hook_id: str, seq: int) -> tuple[Fact | None, list[Fact]]:
        receipts: list[Fact] = await self._projections.lookup(
            self._deliveries,
            f"{hook_id}/settled/{seq:020d}",
            f"{hook_id}/settled/{_END}",
            limit=1,
        )
        covering = receipts[0] if receipts and receipts[0].body["after"] < seq else None
        prefix = f"{hook_id}/event/{seq:020d}/"
        facts: list[Fact] = await self._projections.lookup(
            self._deliveries, prefix, prefix + _END, limit=_FACTS_OF_AN_EVENT
        )
        return covering, facts

    async def _order(self, hook_id: str, facts: Sequence[Event], origin: Append) -> None:
        stream = DELIVERIES_PREFIX + hook_id
        events = tuple(new_event(fact, stream=stream, kind=Kind.DELIVERY) for fact in facts)
        workspace = self._hooks.workspace(hook_id)
        order = msgspec.structs.replace(origin, events=events, workspace=workspace)
        appended = await self._log.append(order)
        with anyio.move_on_after(_OBEYED):
            await self._service.wait_live(appended.positions[-1])

    def _parked(self, hook_id: str) -> dict[Item, Parked]:
        outbox = self._service.ledger.outboxes.get(hook_id)
        return outbox.parked if outbox is not None else {}

    def _parked_entry(self, hook_id: str, item: Item) -> dict[str, Any]:
        parked = self._parked(hook_id)[item]
        return {
            "id": name_delivery(hook_id, parked.event_id, item[1]),
            "event_id": parked.event_id,
            "position": item[0],
            "purpose": item[1] or "event",
            "attempts": parked.attempts,
            "reason": parked.reason,
            "status": parked.status,
            "parked_at": parked.at_us / 1e6,
        }


def _open(seq: int, purpose: str, opened: Open) -> dict[str, Any]:
    return {
        "position": seq,
        "purpose": purpose or "event",
        "attempts": opened.attempt,
        "reason": opened.reason,
        "status": opened.status,
        "next_attempt": opened.due_us / 1e6 if opened.due_us else None,
    }

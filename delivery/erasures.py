"""Acts on erasures: nothing is sent, kept or compared any more that was made of an erased body.

The record of an erasure is obeyed twice: as soon as it is stored, so that whoever asked for it can
be answered, and when a lane comes to it. The second time matters for the memory of on_change and
snooze, which is forgotten at that place of the log whoever folds it, and nowhere else for good.
"""

import logging
from collections.abc import Iterable
from typing import Final

import anyio
import msgspec

from eventstore.codec import decode, new_event
from eventstore.errors import LogError
from eventstore.events import (
    DELIVERIES_PREFIX,
    EMITTED_PREFIX,
    DeliveriesCancelled,
    EventsErased,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from eventstore.runs import Runs
from projections.hooks import Hook, Hooks

from .ledger import Ledger
from .outbox import Outbox
from .state import Item

_logger = logging.getLogger("hooktape.delivery")

ERASED: Final = "the event was erased"


class Erasures:
    """What was erased while this runs. Bodies that were read before may still be in some hand."""

    def __init__(self, log: EventLog, hooks: Hooks) -> None:
        self._log = log
        self._hooks = hooks
        self._gone = Runs()
        self._turn = anyio.Lock()

    def stripped(self, event: RecordedEvent) -> RecordedEvent:
        """The event as the log has it by now."""
        if event.body is None or event.seq not in self._gone:
            return event
        return msgspec.structs.replace(event, body=None)

    async def obey(self, seq: int, record: EventsErased, ledger: Ledger) -> None:
        """Cancel what was to be sent of it, and say so; forget what was remembered of it.

        The read models have applied the record.
        """
        self._gone.add(record.runs)
        async with self._turn:
            for outbox in list(ledger.outboxes.values()):
                await self._clear(seq, record, ledger, outbox)

    async def _clear(self, seq: int, record: EventsErased, ledger: Ledger, outbox: Outbox) -> None:
        gone, over = Runs(record.runs), self._over(outbox, seq, ledger.live)
        copies = {item: parked.position for item, parked in outbox.parked.items()}
        known = {item: opened.copy for item, opened in outbox.open.items()} | copies
        items = sorted(
            item
            for item, copy in known.items()
            if item[0] in gone or copy in gone or item[0] <= over
        )
        if items:
            await self._say(outbox, items)
        # No await from here on: what is flushed together belongs together.
        outbox.cancel(items)
        self.forget(seq, record, outbox)
        ledger.touch(outbox)
        if over == seq and ledger.outboxes.get(outbox.hook_id) is outbox:
            ledger.forget(outbox)

    def forget(self, seq: int, record: EventsErased, outbox: Outbox) -> None:
        """Start the memory of a hook anew that the record at `seq` concerns."""
        if concerned(self._hooks, outbox.hook_id, seq, record):
            outbox.forget_memory()

    def _over(self, outbox: Outbox, seq: int, live: int) -> int:
        """Up to where nothing concerns the hook: `seq` when the erasure took its configuration."""
        if not self._hooks.history(outbox.hook_id):
            return seq
        over = self._hooks.over_until(outbox.hook_id)
        if over > live:
            return 0  # its deletion, which the live lane comes to later
        return over if self._hooks.current(outbox.hook_id) is not None else seq

    async def _say(self, outbox: Outbox, items: Iterable[Item]) -> None:
        seqs = sorted({seq for seq, _ in items})
        stream = DELIVERIES_PREFIX + outbox.hook_id
        fact = DeliveriesCancelled(seqs=seqs, reason=ERASED)
        event = new_event(fact, stream=stream, kind=Kind.DELIVERY)
        workspace = self._hooks.workspace(outbox.hook_id)
        try:
            await self._log.append(Append(events=(event,), workspace=workspace))
        except LogError as error:
            # The erasure itself is stored, and explains as much.
            _logger.warning("a cancellation is not in the log: %s", error)


def record_of(event: RecordedEvent) -> EventsErased | None:
    """What an event says about an erasure, if anything."""
    body = decode(event) if event.type == "events_erased" else None
    return body if isinstance(body, EventsErased) else None


def concerned(hooks: Hooks, hook_id: str, seq: int, record: EventsErased) -> bool:
    """Whether a hook, as it is at the record, may remember something of what was erased."""
    hook = hooks.as_of(hook_id, seq)
    return hook is None or listens(hook, record.streams)


def listens(hook: Hook, streams: Iterable[str]) -> bool:
    """Whether a hook may have compared events of these streams (see `EventsErased.streams`)."""
    for stream in streams:
        if stream.startswith(EMITTED_PREFIX):
            source, _, name = stream.removeprefix(EMITTED_PREFIX).partition("/")
            if hook.source == source and hook.event in (None, name):
                return True
        elif hook.source == "dao:crud":
            return True
        elif hook.source == "crud":
            table = stream.rstrip("/")
            if hook.event is None or hook.event.partition(":")[0] == table:
                return True
    return False

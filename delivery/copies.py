"""What is to be sent when its event was compacted away: the copy in its `delivery_parked` fact."""

from typing import Final
from uuid import UUID

import msgspec

from eventstore.codec import decode, encode, new_event
from eventstore.events import (
    DELIVERIES_PREFIX,
    EMITTED_PREFIX,
    DeliveriesCancelled,
    DeliveryParked,
    Event,
    EventEmitted,
)
from eventstore.log import EventLog
from eventstore.records import Append, Kind, RecordedEvent
from projections.hooks import Hook, Hooks

from .ledger import Ledger
from .matching import Match
from .outbox import Outbox
from .state import Item

_ERASED: Final = "the event was erased"


async def read_back(
    log: EventLog, item: Item, copy: int, hook: Hook
) -> tuple[RecordedEvent, Match | None]:
    """The event of an open delivery. One that is only left as a copy comes with its names.

    Its payload and id are those of the event; its stream and times are not.
    """
    seq, purpose = item
    if seq >= log.first:
        (event,) = await log.read(seq - 1, limit=1)
        return event, None
    (parked,) = await log.read(copy - 1, limit=1)
    fact = decode(parked)
    source, name, event_id, body = "", "", bytes(16), None
    if isinstance(fact, DeliveryParked):
        source, name, event_id = fact.source, fact.event, UUID(fact.event_id).bytes
        readable = bytes(fact.data).startswith(b"{")
        body = encode(EventEmitted(data=fact.data))[2] if readable else bytes(fact.data)
    event = msgspec.structs.replace(
        parked,
        seq=seq,
        stream=f"{EMITTED_PREFIX}{source}/{name}",
        event_id=event_id,
        type="event_emitted",
        schema_version=1,
        kind=Kind.EMITTED,
        body=body,
    )
    return event, Match(hook, source, name, purpose)


async def carry(log: EventLog, hooks: Hooks, ledger: Ledger, floor: int) -> int:
    """Copy the facts below `floor` that hold what parked deliveries would send.

    Returns the position of the last copy. It counts once the live lane comes to it, in its turn
    among orders to send; it names the fact it stands for, so nothing goes wrong if the delivery
    goes on meanwhile. Raises what appending raises; done again, nothing is copied twice.
    """
    last = 0
    for outbox in list(ledger.outboxes.values()):
        for item, position in _below(outbox, floor):
            (event,) = await log.read(position - 1, limit=1)
            new = await _copy(log, outbox, item, event, hooks.workspace(outbox.hook_id))
            if new is None:
                outbox.cancel([item])
                ledger.touch(outbox)
            else:
                last = max(last, new)
    return last


def _below(outbox: Outbox, floor: int) -> list[tuple[Item, int]]:
    parked = [(item, parked.position) for item, parked in outbox.parked.items()]
    opened = [(item, opened.copy) for item, opened in outbox.open.items() if opened.copy]
    return [(item, position) for item, position in (*parked, *opened) if position < floor]


async def _copy(
    log: EventLog, outbox: Outbox, item: Item, event: RecordedEvent, workspace: str
) -> int | None:
    """The position of the copy; None when there is nothing left to copy, and that was said."""
    fact = decode(event)
    said: Event
    if isinstance(fact, DeliveryParked):
        at_us = event.time_us if fact.at_us is None else fact.at_us
        said = msgspec.structs.replace(fact, copy_of=event.seq, at_us=at_us)
    else:
        said = DeliveriesCancelled(seqs=[item[0]], reason=_ERASED)
    stored = new_event(
        said,
        stream=DELIVERIES_PREFIX + outbox.hook_id,
        kind=Kind.DELIVERY,
        subject=event.subject,
        identity=f"copy\0{outbox.hook_id}\0{event.seq}",
    )
    appended = await log.append(Append(events=(stored,), workspace=workspace))
    return appended.positions[0] if isinstance(said, DeliveryParked) else None

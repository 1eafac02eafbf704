"""What the log says about deliveries: receipts, failures, parking, by hook and by event.

Not resident: the items are looked up in `view.db` by key range, so their number costs no memory.

    <hook>/fact/<position>           every fact, in log order
    <hook>/settled/<upto>            receipts, by the end of their range unless it is empty
    <hook>/event/<seq>/<position>    what concerns one event: failed, parked, resent, late, ...
                                     (without the lists of other events)
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.codec import decode
from eventstore.events import (
    DELIVERIES_PREFIX,
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    DeliverySkipped,
    Event,
    RequestQueued,
)
from eventstore.records import Kind, RecordedEvent

from .model import Changes


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery event without the copy of what was to be sent, and without headers.

    `time_us` is the log's time.
    """

    position: int
    time_us: int
    type: str
    body: dict[str, Any]


def evolve(event: RecordedEvent) -> dict[str, Fact]:
    """The keys under which `event` is looked up; nothing for other kinds and erased bodies."""
    if event.kind != Kind.DELIVERY:
        return {}
    body = decode(event)
    if body is None:
        return {}
    hook_id = event.stream.removeprefix(DELIVERIES_PREFIX)
    # Through JSON, because the copy of a parked delivery is JSON already.
    public = msgspec.json.decode(msgspec.json.encode(body))
    for private in ("data", "headers"):
        public.pop(private, None)
    fact = Fact(position=event.seq, time_us=event.time_us, type=event.type, body=public)
    items = {f"{hook_id}/fact/{event.seq:020d}": fact}
    if isinstance(body, DeliveriesSettled) and body.after < body.upto:
        items[f"{hook_id}/settled/{body.upto:020d}"] = fact
    alone = msgspec.structs.replace(
        fact, body={name: value for name, value in public.items() if not isinstance(value, list)}
    )
    for seq in _concerned(body):
        items[f"{hook_id}/event/{seq:020d}/{event.seq:020d}"] = alone
    return items


def _concerned(body: Event) -> Iterable[int]:
    match body:
        case (
            DeliveryFailed(seq=seq)
            | DeliveryParked(seq=seq)
            | DeliveryResent(seq=seq)
            | DeliverySkipped(seq=seq)
            | RequestQueued(seq=seq)
        ):
            return (seq,)
        case DeliveriesSettled(late=late):
            return [seq for seq, _ in late]
        case DeliveriesCancelled(seqs=seqs):
            return seqs
        case _:
            return ()


class Deliveries:
    """The read model's name and shape for the runner; it keeps nothing itself."""

    name = "deliveries"
    version = 1
    item = Fact
    resident = False

    def evolve(self, event: RecordedEvent) -> dict[str, Fact]:
        return evolve(event)

    def apply(self, changes: Changes) -> None:
        """Nothing to do: lookups read the database."""

    def clear(self) -> None:
        """Nothing to do: the runner clears the database."""

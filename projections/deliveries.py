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
    """The keys under which `event` is looked up; nothing for other kinds, erased bodies
    and mere copies of facts."""
    if event.kind != Kind.DELIVERY:
        return {}
    body = decode(event)
    if body is None or (isinstance(body, DeliveryParked) and body.copy_of is not None):
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
        items[_concerning(hook_id, seq, event.seq)] = alone
    return items


def erase(event: RecordedEvent, fact: Fact | None) -> dict[str, None]:
    """The keys that go when a body that told of one event is gone. Receipts are never erased."""
    if fact is None:
        return {}
    hook_id = event.stream.removeprefix(DELIVERIES_PREFIX)
    keys = [f"{hook_id}/fact/{event.seq:020d}"]
    if "seq" in fact.body:
        keys.append(_concerning(hook_id, fact.body["seq"], event.seq))
    return dict.fromkeys(keys)


def _concerning(hook_id: str, seq: int, position: int) -> str:
    return f"{hook_id}/event/{seq:020d}/{position:020d}"


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

    def key(self, event: RecordedEvent) -> str:
        return f"{event.stream.removeprefix(DELIVERIES_PREFIX)}/fact/{event.seq:020d}"

    def erase(self, event: RecordedEvent, found: Fact | None) -> dict[str, None]:
        return erase(event, found)

    def apply(self, changes: Changes) -> None:
        """Nothing to do: lookups read the database."""

    def clear(self) -> None:
        """Nothing to do: the runner clears the database."""

"""Proof of single events: that each has its place in the log of a signed checkpoint.

A proof is a file of two lines. The first is a JSON object: format, log, checkpoint, keys, and for
each event its line (`segment.py`) and its audit path (RFC 6962, 2.1.1). The second is a signed note
with the SHA-256 of the first, without its newline. `scripts/audit_verify.py` checks it.

A delivery is proved by its event and the facts that the log has about it: failed, parked, resent,
skipped, cancelled, and the receipt whose range it is in. A receipt says of every event in (after,
upto] that matched the hook, and is not among `open` or `suppressed`, that it was delivered.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec

from eventstore import codec, evidence, reading, segment
from eventstore.audit_source import Source
from eventstore.errors import Truncated
from eventstore.events import (
    DELIVERIES_PREFIX,
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    DeliverySkipped,
    Event,
)
from eventstore.signing import PublicKey
from eventstore.withholding import Outgoing

FORMAT = "hooktape-audit-proof/1"

_PAGE: Final = 1000


class Proved(msgspec.Struct, frozen=True):
    """An event's line and the hashes that lead from its leaf to the root."""

    line: msgspec.Raw
    proof: list[bytes]


class Proof(msgspec.Struct, frozen=True):
    format: str
    log: str
    checkpoint: str
    keys: tuple[PublicKey, ...]
    events: list[Proved]


def prove(source: Source, seqs: Iterable[int]) -> bytes:
    """The proof of the events at these positions.

    Raises Truncated for what was compacted away, ValueError for what is beyond the checkpoint,
    LogDamaged.
    """
    outgoing = Outgoing(source.log)
    proof = Proof(
        format=FORMAT,
        log=source.signer.log_id,
        checkpoint=source.checkpoint,
        keys=source.signer.keys,
        events=[_proved(source, outgoing, seq) for seq in seqs],
    )
    text = msgspec.json.encode(proof)
    note = source.signer.statement(sha256(text).hexdigest())
    return text + b"\n" + msgspec.json.encode(note) + b"\n"


def position(source: Source, event: str) -> int:
    """Of an event given by its position or id. Raises ValueError for what is neither."""
    if event.isascii() and event.isdigit() and len(event) < 20:  # an id may be all digits
        return int(event)
    wanted = UUID(event).bytes
    found = reading.find(source.log, wanted, reading.first(source.log), source.size)
    if found is None:
        raise ValueError(f"there is no event {event} in the log")
    return found.seq


def facts(source: Source, hook: str, seq: int) -> list[int]:
    """Positions of what the log says about the deliveries of one event to one hook."""
    found: list[int] = []
    version = -1
    stream = DELIVERIES_PREFIX + hook
    first = reading.first(source.log)
    while page := reading.stream_page(source.log, stream, version, first, _PAGE):
        for event in page:
            fact = codec.decode(event)
            if event.seq <= source.size and fact is not None and _concerns(fact, seq):
                found.append(event.seq)
        version = page[-1].version
    return found


def _proved(source: Source, outgoing: Outgoing, seq: int) -> Proved:
    if not 0 < seq <= source.size:
        raise ValueError(f"there is no position {seq} in the checkpoint of {source.size} events")
    if seq < (first := reading.first(source.log)):
        raise Truncated(first)
    (found,) = evidence.page(source.log, seq - 1, seq)
    path = source.tree.inclusion(seq - 1, source.size)
    return Proved(
        msgspec.Raw(segment.encode_parts(found.envelope, outgoing.line(found.line)).rstrip()), path
    )


def _concerns(fact: Event, seq: int) -> bool:
    match fact:
        case DeliveriesSettled(after=after, upto=upto, late=late, open=waiting):
            in_range = after < seq <= upto and seq not in _seqs(waiting)
            return in_range or seq in _seqs(late)
        case DeliveriesCancelled(seqs=seqs):
            return seq in seqs
        case DeliveryFailed() | DeliveryParked() | DeliveryResent() | DeliverySkipped():
            return fact.seq == seq
        case _:
            return False


def _seqs(deliveries: Sequence[tuple[int, str]]) -> Collection[int]:
    return {seq for seq, _ in deliveries}

"""What goes into the log and what comes out of it: plain values, no behaviour.

Positions are opaque increasing integers (`seq`). In the embedded log they also have no holes.
Times are integer microseconds since the Unix epoch.
"""

import enum

import msgspec

NO_STREAM = -1
"""Expected version of a stream that must not exist yet."""


class Kind(enum.IntEnum):
    """What an event is about. Consumers filter by it without decoding anything."""

    CONFIG = 0  #: a hook, source, entity or workspace changed
    EMITTED = 1  #: somebody reported a fact
    DELIVERY = 2  #: what became of deliveries: receipts, failures, parked, paused
    SYSTEM = 3  #: the log about itself


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event somebody wants stored. `stream` and other names are opaque: nothing personal."""

    stream: str  #: `<category>/<id>`, e.g. `consumers/<uuid>` or `emitted/balancer/health`
    type: str
    kind: Kind
    body: bytes  #: JSON; the only part that can be erased, so secrets and personal data live here
    schema_version: int = 1
    identity: str | None = None  #: the caller's own id with its scope; stored only as a digest
    #: the person this is about, stored only as a keyed digest; or that digest, if it is known
    subject: str | bytes | None = None


class Idempotency(msgspec.Struct, frozen=True, gc=False):
    """A request that may be sent again: `key` (with its scope) names it, `request` is what it says.

    The log keeps both as digests only, for ever.
    """

    key: str
    request: bytes


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One request: all of its events are stored together, in order, or none is.

    `expect` maps streams to the version they must have (`NO_STREAM`: must not exist).
    `config_since` demands that no CONFIG event was stored after that position.
    Both are checked by the writer, inside the transaction; idempotency is checked before them.
    `erase` are runs of positions, first and last, whose bodies go in the same transaction: only
    with the one event that says so (see eraser.py).
    """

    events: tuple[NewEvent, ...]
    expect: dict[str, int] = {}
    config_since: int | None = None
    erase: tuple[tuple[int, int], ...] | None = None
    idempotency: Idempotency | None = None
    workspace: str = ""
    actor: str | None = None
    request_id: str | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The answer to an `Append`: it is on disk. `positions` follow the order of its events.

    `repeated` says that nothing new was stored: the request or all of its events were known.
    """

    positions: tuple[int, ...]
    repeated: bool = False


def uuid_text(raw: bytes | bytearray) -> str:
    """16 bytes in the usual form of a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as stored. `body` is None once it was erased; the rest never changes."""

    seq: int
    stream: str
    version: int
    event_id: bytes  #: 16 bytes, a UUIDv7 that increases with `seq`
    type: str
    schema_version: int
    kind: int
    time_us: int  #: the log's own clock, strictly increasing
    wall_us: int  #: the wall clock as it was read
    workspace: str
    actor: str | None
    request_id: str | None
    subject: bytes | None
    body: bytes | None

    @property
    def id(self) -> str:
        """The event's public id."""
        return uuid_text(self.event_id)


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """A position with proof: it fits only the log it was taken from."""

    log_id: str
    seq: int
    leaf: bytes  #: the leaf hash stored at `seq`; empty for position 0

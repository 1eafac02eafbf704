"""What one commit stores and what its callers are answered. Pure: no database in here.

The writer collects what is known on disk about the names in a batch of appends; `Batch` decides one
append after another, each as if those before it were stored already; the writer stores the rest.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from eventstore.errors import ConfigMoved, IdentityReused, Refused, WrongVersion
from eventstore.keys import Digests
from eventstore.records import NO_STREAM, Append, Appended, Idempotency, Kind, NewEvent

Answer = Appended | Refused

_CONFIG = int(Kind.CONFIG)


class Mark(msgspec.Struct, frozen=True, gc=False):
    """An idempotency key or a caller's event id, with the content it came with, as digests."""

    digest: bytes
    content: bytes


class Identity(msgspec.Struct, frozen=True, gc=False):
    """What is stored under a mark: `length` events from position `first` on."""

    content: bytes
    first: int
    length: int

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.length)


class Marked(msgspec.Struct, frozen=True, gc=False):
    """An append with its marks: of the request, and of its events if any of them carries an id."""

    append: Append
    request: Mark | None
    events: Sequence[Mark | None] | None

    def digests(self) -> Iterable[bytes]:
        if self.request is not None:
            yield self.request.digest
        for mark in self.events or ():
            if mark is not None:
                yield mark.digest


class Row(msgspec.Struct, frozen=True, gc=False):
    """An event that got its place in the log."""

    seq: int
    version: int
    event: NewEvent
    append: Append


def mark(append: Append, digests: Digests) -> Marked:
    request = None
    if append.idempotency is not None:
        request = mark_request(append.idempotency, digests)
    for event in append.events:
        if event.identity is not None:
            break
    else:
        return Marked(append, request, None)
    return Marked(append, request, [_mark_event(event, digests) for event in append.events])


def mark_request(idempotency: Idempotency, digests: Digests) -> Mark:
    return Mark(digests.request_key(idempotency.key), digests.content(idempotency.request))


def _mark_event(event: NewEvent, digests: Digests) -> Mark | None:
    if event.identity is None:
        return None
    content = digests.content(event.type.encode(), event.stream.encode(), event.body)
    return Mark(digests.event_id(event.identity), content)


class Batch:
    """Decides the appends of one commit in order, and holds what they add to the log.

    `known` and `versions` say what is on disk: identities by digest, and the version of every
    stream that an append of the batch names, NO_STREAM where there is none.
    """

    def __init__(
        self, seq: int, config: int, known: Mapping[bytes, Identity], versions: Mapping[str, int]
    ) -> None:
        self._known = known
        self._versions = versions
        self.seq = seq
        self.config = config
        self.rows: list[Row] = []
        self.streams: dict[str, tuple[int, int]] = {}  #: name -> new version, last position
        self.identities: dict[bytes, Identity] = {}

    @property
    def empty(self) -> bool:
        return not self.rows and not self.identities

    def decide(self, marked: Marked) -> Answer:
        """The append's answer once the batch is committed. A refused one adds nothing."""
        try:
            return self._repeated(marked) or self._stored(marked)
        except Refused as refusal:
            return refusal

    def _repeated(self, marked: Marked) -> Appended | None:
        """Idempotency comes before versions: the repetition of a success is a success."""
        if marked.request is not None:
            stored = self._identity(marked.request.digest)
            if stored is not None:
                if stored.content != marked.request.content:
                    raise IdentityReused(None)
                return Appended(self._positions(stored, marked.events), repeated=True)
        if marked.events is None:
            return None
        self._check_ids(marked.events)
        positions = [self._position(event) for event in marked.events]
        if None in positions:
            return None
        if marked.request is not None:
            self.identities[marked.request.digest] = Identity(marked.request.content, 0, 0)
        return Appended(tuple(filter(None, positions)), repeated=True)

    def _check_ids(self, events: Sequence[Mark | None]) -> None:
        seen: dict[bytes, bytes] = {}
        for index, event in enumerate(events):
            if event is None:
                continue
            stored = self._identity(event.digest)
            content = stored.content if stored else seen.setdefault(event.digest, event.content)
            if content != event.content:
                raise IdentityReused(index)

    def _stored(self, marked: Marked) -> Appended:
        append = marked.append
        if append.expect or append.config_since is not None:
            self._check_expected(append)
        first = self.seq + 1
        if marked.events is None:
            positions = [self._place(event, append) for event in append.events]
        else:
            positions = [
                self._place_once(event, event_mark, append)
                for event, event_mark in zip(append.events, marked.events, strict=True)
            ]
        if marked.request is not None:
            self.identities[marked.request.digest] = Identity(
                marked.request.content, first, self.seq + 1 - first
            )
        return Appended(tuple(positions))

    def _check_expected(self, append: Append) -> None:
        for stream, expected in append.expect.items():
            actual = self._version(stream)
            if actual != expected:
                raise WrongVersion(stream, expected, actual)
        if append.config_since is not None and self.config > append.config_since:
            raise ConfigMoved(append.config_since, self.config)

    def _place(self, event: NewEvent, append: Append) -> int:
        self.seq = seq = self.seq + 1
        version = self._version(event.stream) + 1
        self.streams[event.stream] = (version, seq)
        if event.kind == _CONFIG:
            self.config = seq
        self.rows.append(Row(seq, version, event, append))
        return seq

    def _place_once(self, event: NewEvent, event_mark: Mark | None, append: Append) -> int:
        if event_mark is None:
            return self._place(event, append)
        known = self._identity(event_mark.digest)
        if known is not None:
            return known.first
        seq = self._place(event, append)
        self.identities[event_mark.digest] = Identity(event_mark.content, seq, 1)
        return seq

    def _version(self, stream: str) -> int:
        moved = self.streams.get(stream)
        return self._versions.get(stream, NO_STREAM) if moved is None else moved[0]

    def _identity(self, digest: bytes) -> Identity | None:
        return self.identities.get(digest) or self._known.get(digest)

    def _position(self, event_mark: Mark | None) -> int | None:
        identity = event_mark and self._identity(event_mark.digest)
        return identity.first if identity else None

    def _positions(
        self, request: Identity, events: Sequence[Mark | None] | None
    ) -> tuple[int, ...]:
        """Where a repeated request's events are: ids know their own, the others fill the run."""
        run = request.positions
        if events is None:
            return tuple(run)
        known = [self._position(event) for event in events]
        rest = sorted({*run}.difference(known))
        if known.count(None) != len(rest):  # the caller decided on other events this time
            return tuple(run)
        places = iter(rest)
        return tuple([position or next(places) for position in known])

"""All state as of a position, as events: what a rebuild starts from when older ones are gone.

A snapshot is appended at the head and holds the state as of its floor: the state after everything
below. Whoever reads it goes on with the event at the floor, and passes the snapshot itself by. It
is one append: parts of about 256 KiB, then `snapshot_taken` with a digest over all of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from eventstore.codec import decode, new_event
from eventstore.errors import LogDamaged
from eventstore.events import SNAPSHOT_STREAM, Event, SnapshotPart, SnapshotTaken
from eventstore.log import EventLog
from eventstore.records import Kind, NewEvent, RecordedEvent

_PART: Final = 256 * 1024
_PAGE: Final = 64

Items = dict[str, bytes]
"""A section's items by key, each as JSON."""


class State(msgspec.Struct, frozen=True):
    """Items by section, and the version of the shape that the items of each section have."""

    versions: Mapping[str, int]
    sections: Mapping[str, Items]

    @property
    def digest(self) -> str:
        """Over all versions, keys and items: equal states have equal ones."""
        state = sha256()
        for name in sorted(self.sections):
            items = self.sections[name]
            state.update(_framed(name.encode(), b"%d %d" % (self.versions[name], len(items))))
            for key in sorted(items):
                state.update(_framed(key.encode(), items[key]))
        return state.hexdigest()

    @property
    def count(self) -> int:
        return sum(map(len, self.sections.values()))


class Snapshot(msgspec.Struct, frozen=True):
    """A state with its place: it is the state after everything below `floor`."""

    floor: int
    state: State


def events(compaction: str, floor: int, state: State) -> tuple[NewEvent, ...]:
    """The snapshot, ready to be appended in one piece."""
    parts = [
        SnapshotPart(id=compaction, section=name, items=items)
        for name in sorted(state.sections)
        for items in _parts(state.sections[name])
    ]
    taken = SnapshotTaken(
        id=compaction,
        floor=floor,
        parts=len(parts),
        items=state.count,
        sections=dict(state.versions),
        digest=state.digest,
    )
    whole: list[Event] = [*parts, taken]
    return tuple(new_event(each, stream=SNAPSHOT_STREAM, kind=Kind.SYSTEM) for each in whole)


async def load(log: EventLog, position: int) -> Snapshot:
    """The snapshot whose `snapshot_taken` is there. Raises LogDamaged if it is not whole."""
    (event,) = await log.read(position - 1, limit=1)
    parts: list[RecordedEvent] = []
    after = position - parts_of(event) - 1
    while after < position - 1:
        parts += await log.read(after, limit=min(_PAGE, position - 1 - after))
        after = parts[-1].seq
    return assemble(event, parts)


def parts_of(event: RecordedEvent) -> int:
    """How many events before this `snapshot_taken` are its parts. Raises LogDamaged."""
    taken = decode(event)
    if not isinstance(taken, SnapshotTaken):
        raise LogDamaged(f"there is no snapshot at position {event.seq}")
    return taken.parts


def assemble(event: RecordedEvent, parts: Iterable[RecordedEvent]) -> Snapshot:
    """The snapshot that ends with `event`. Raises LogDamaged if it is not whole."""
    taken = decode(event)
    if not isinstance(taken, SnapshotTaken):
        raise LogDamaged(f"there is no snapshot at position {event.seq}")
    sections: dict[str, Items] = {name: {} for name in taken.sections}
    for each in parts:
        part = decode(each)
        if not isinstance(part, SnapshotPart):
            raise LogDamaged(f"position {each.seq} is not a part of the snapshot it should be")
        sections[part.section].update({key: bytes(raw) for key, raw in part.items.items()})
    state = State(taken.sections, sections)
    if state.digest != taken.digest:
        raise LogDamaged(f"the snapshot at position {event.seq} is not what was taken")
    return Snapshot(taken.floor, state)


async def latest(log: EventLog) -> Snapshot | None:
    """The state of what the log has no longer; None when it begins at its beginning."""
    return None if log.snapshot is None else await load(log, log.snapshot)


def _framed(key: bytes, value: bytes) -> bytes:
    """So that no two lists of keys and values look the same."""
    return b"%d %d " % (len(key), len(value)) + key + value


def _parts(items: Items) -> Iterator[dict[str, msgspec.Raw]]:
    part: dict[str, msgspec.Raw] = {}
    size = 0
    for key in sorted(items):
        if part and size + len(items[key]) > _PART:
            yield part
            part, size = {}, 0
        part[key] = msgspec.Raw(items[key])
        size += len(key) + len(items[key])
    if part:
        yield part


async def stale(log: EventLog) -> list[int]:
    """The positions of all parts of other snapshots than the latest: they serve nobody."""
    needed: range = range(0)
    if log.snapshot is not None:
        (taken,) = await log.read(log.snapshot - 1, limit=1)
        needed = range(log.snapshot - parts_of(taken), log.snapshot)
    found, after = list[int](), log.first - 1
    while page := await log.read(after, limit=_PAGE, kinds=(Kind.SYSTEM,)):
        after = page[-1].seq
        found += [e.seq for e in page if e.type == "snapshot_part" and e.seq not in needed]
    return found

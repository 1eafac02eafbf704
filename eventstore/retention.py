"""How much of the log may go, by age, size and kind. The one physical means is a floor.

All questions are asked of a connection that only reads.
"""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from eventstore import reading, schema
from eventstore.records import Kind

_STEP: Final = 4096
_ROW_BYTES: Final = 300  # what an event takes beside its body, about
_SECOND: Final = 1_000_000


class Policy(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What may go: any of the first four is reason enough. Times are seconds, sizes bytes.

    `keep` is stronger: events of these kinds stay for so long, whatever else is asked for. As the
    log is cut at one position, all that follows such an event stays with it.
    """

    before: int | None = None  #: everything below this position
    older_than: float | None = None
    max_events: int | None = None  #: what is more than this goes, the oldest first
    max_bytes: int | None = None  #: of bodies and columns; the file is somewhat larger
    keep: Mapping[str, float] = {}  #: by the kind's name: config, emitted, delivery, system

    def __post_init__(self) -> None:
        unknown = self.keep.keys() - {kind.name.lower() for kind in Kind}
        if unknown:
            raise ValueError(f"no such kind of events: {', '.join(sorted(unknown))}")


def floor(connection: sqlite3.Connection, policy: Policy, now_us: int) -> int:
    """The position below which the policy lets everything go: from the first one, when nothing may,
    to the one after the newest event.
    """
    first = reading.first(connection)
    newest = connection.execute(schema.NEWEST).fetchone()
    if newest is None:
        return first
    head = int(newest[0])
    wanted = [first]
    if policy.before is not None:
        wanted.append(policy.before)
    if policy.older_than is not None:
        wanted.append(_since(connection, first, head, now_us - policy.older_than * _SECOND))
    if policy.max_events is not None:
        wanted.append(head + 1 - policy.max_events)
    if policy.max_bytes is not None:
        wanted.append(_lightest(connection, first, head, policy.max_bytes))
    kept = [head + 1]
    for name, seconds in policy.keep.items():
        since = _since(connection, first, head, now_us - seconds * _SECOND)
        kept.append(_first_of_kind(connection, Kind[name.upper()], since) or head + 1)
    return max(first, min(max(wanted), *kept))


def _since(connection: sqlite3.Connection, first: int, head: int, time_us: float) -> int:
    """The first event of the log's time `time_us` or later; above the head when there is none."""

    def later(seq: int) -> bool:
        found = reading.time_at(connection, seq)
        return found is not None and found >= time_us

    return _search(first, head + 1, later)


def _search(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The lowest position in [low, high) from which on it holds; `high` when it never does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _lightest(connection: sqlite3.Connection, first: int, head: int, most: int) -> int:
    """The lowest position from which on the events are not heavier than `most`, about."""
    weight, low = 0.0, head + 1
    while low > first:
        start = max(first, low - _STEP)
        (bodies,) = connection.execute(schema.WEIGHT, (start, low)).fetchone()
        weight += bodies + _ROW_BYTES * (low - start)
        if weight > most:
            break
        low = start
    return low


def weight(connection: sqlite3.Connection, first: int, floor: int) -> int:
    """Bytes of the events in [first, floor), about."""
    total = 0
    for start in range(first, floor, _STEP):
        end = min(floor, start + _STEP)
        (bodies,) = connection.execute(schema.WEIGHT, (start, end)).fetchone()
        total += int(bodies) + _ROW_BYTES * (end - start)
    return total


def _first_of_kind(connection: sqlite3.Connection, kind: Kind, since: int) -> int | None:
    if kind == Kind.EMITTED:
        row = connection.execute(schema.FIRST_EMITTED, (since,)).fetchone()
        return None if row is None else int(row[0])
    (found,) = connection.execute(schema.FIRST_OF_KIND, (int(kind), since)).fetchone()
    return None if found is None else int(found)


def only_system(connection: sqlite3.Connection, first: int, floor: int) -> bool:
    """Whether the log's own events are all there is in [first, floor)."""
    (count,) = connection.execute(schema.SYSTEM_EVENTS, (first, floor)).fetchone()
    return bool(count == floor - first)

"""What an erasure means in SQL: which positions it is about, and taking their bodies away.

Choosing reads only, in a reader's thread; the rest runs in the writer's.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eventstore import schema
from eventstore.codec import decode
from eventstore.events import ERASURE_STREAM, Erasable, EventsErased
from eventstore.records import RecordedEvent
from eventstore.runs import Run, Runs

_PIECE_EVENTS = 10_000
_PIECE_BYTES = 64 * 1024 * 1024


class Wanted(NamedTuple):
    """What is to be erased. `key` is the event's id, the subject's digest or the workspace's id.

    The digest is in hex digits. `seq` is the position of the one event, 0 for the others.
    """

    what: Erasable
    key: str
    seq: int = 0

    @property
    def value(self) -> int | str | bytes:
        """What the column of this name holds."""
        if self.what == "event":
            return self.seq
        return bytes.fromhex(self.key) if self.what == "subject" else self.key


class Found(NamedTuple):
    """A position that has a body still, its size, and what `EventsErased.streams` says of it."""

    seq: int
    size: int
    stream: str


def choose(connection: sqlite3.Connection, wanted: Wanted, chosen: Runs, upto: int) -> list[Found]:
    """The positions up to `upto` to erase now, in order. `chosen` grows by all that are meant.

    Erased ones are meant too: what was copied from them since must go as well.
    """
    found: list[Found] = []
    if wanted.what == "event":
        chosen.add([(wanted.seq, wanted.seq)])  # also when only copies of it are left
    rows = connection.execute(schema.CHOSEN[wanted.what], (wanted.value, upto))
    for each in map(Found._make, rows):
        chosen.add([(each.seq, each.seq)])
        if each.size is not None:
            found.append(each)
    return sorted({*found, *copies(connection, chosen, upto)})


def copies(connection: sqlite3.Connection, chosen: Runs, upto: int) -> list[Found]:
    """The positions that tell of chosen ones, or of such copies; `chosen` grows by them."""
    found: list[Found] = []
    if chosen:
        lowest = next(iter(chosen))[0]
        for *columns, source in connection.execute(schema.COPIES_AFTER, (lowest, upto)):
            if source in chosen:  # positions ascend, so copies of copies are found on the way
                found.append(Found(*columns))
                chosen.add([(found[-1].seq, found[-1].seq)])
    return found


def bodies(connection: sqlite3.Connection, some: Iterable[Run], upto: int) -> list[Found]:
    """The positions in some runs that have a body still."""
    return [Found(*row) for run in some for row in connection.execute(schema.BODIES, (*run, upto))]


def pieces(found: Iterable[Found]) -> Iterator[list[Found]]:
    """As much at a time as one transaction should rewrite."""
    piece: list[Found] = []
    size = 0
    for each in found:
        if piece and (len(piece) == _PIECE_EVENTS or size + each.size > _PIECE_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(each)
        size += each.size
    if piece:
        yield piece


def erase(connection: sqlite3.Connection, record: int, some: Iterable[Run]) -> None:
    """Within the transaction that stores `record`: its bodies and salts are gone.

    The mark says that files beside this table are still to follow.
    """
    connection.executemany(schema.ERASE, some)
    connection.execute(schema.MARK_ERASING, (record,))


def unfinished(connection: sqlite3.Connection) -> list[EventsErased]:
    """The erasures since the mark, the oldest first; empty when all were finished."""
    row = connection.execute(schema.META, ("erasing",)).fetchone()
    return [] if row is None else [body for _, body in records(connection, row[0] - 1)]


def finished(connection: sqlite3.Connection) -> None:
    connection.execute(schema.UNMARK_ERASING)


def records(connection: sqlite3.Connection, after: int = 0) -> list[tuple[int, EventsErased]]:
    """All erasures after a position that the log tells of, each with its own position."""
    rows = connection.execute(schema.STREAM_AFTER, (ERASURE_STREAM, after)).fetchall()
    events = [RecordedEvent(*row) for row in rows]
    bodies = [(event.seq, decode(event)) for event in events]
    return [(seq, body) for seq, body in bodies if isinstance(body, EventsErased)]

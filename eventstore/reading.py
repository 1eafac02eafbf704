"""What readers do in their threads: whole pages in one call, nothing left open afterwards."""

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from itertools import starmap
from typing import Any

import msgspec

from eventstore import schema
from eventstore.batch import Identity
from eventstore.records import Kind, RecordedEvent

_decode_page = msgspec.json.Decoder(list[list[Any]]).decode

_PAGE_BYTES = 8 * 1024 * 1024
_PACKED = 256
"""Pages up to this length are read beside a busy loop; longer ones by whoever has nothing else."""

_FETCH = 32
"""A page ends with the fetch that brings it over its bytes, so that large bodies stay few."""


class _NotTextError(Exception):
    """A body that JSON cannot carry: nothing we store, but somebody's bytes all the same."""


def page(
    connection: sqlite3.Connection,
    after: int,
    upto: int,
    limit: int,
    kinds: Collection[Kind] | None,
) -> list[RecordedEvent]:
    """Events in (after, upto], by position."""
    if kinds is None and limit <= _PACKED:
        return _packed(connection, after, upto, limit)
    if kinds is None:
        return _events(connection.execute(schema.READ, (after, upto, limit)))
    numbers = sorted({int(kind) for kind in kinds})
    if Kind.EMITTED in numbers:
        return _events(
            connection.execute(schema.READ_SOME_KINDS, (str(numbers), after, upto, limit))
        )
    if not numbers:
        return []
    bounds = [bound for number in numbers for bound in (number, after, upto)]
    return _events(connection.execute(schema.read_rare_kinds(len(numbers)), (*bounds, limit)))


def _packed(
    connection: sqlite3.Connection, after: int, upto: int, limit: int
) -> list[RecordedEvent]:
    """The page as one row of JSON, or row by row where that does not do.

    sqlite3 lets go of the interpreter's lock for every row, and a busy event loop then changes
    places with this thread as often: a page took 20 times as long, and slowed the loop by half.
    """
    (size,) = connection.execute(schema.PAGE_BYTES, (after, min(upto, after + limit))).fetchone()
    if size < _PAGE_BYTES:
        (packed,) = connection.execute(schema.READ_PACKED, (after, upto, limit)).fetchone()
        with suppress(msgspec.DecodeError, UnicodeDecodeError, _NotTextError):
            return [_unpacked(*row) for row in _decode_page(packed)]
    return _events(connection.execute(schema.READ, (after, upto, limit)))


def _unpacked(*row: Any) -> RecordedEvent:
    *columns, subject, text, size = row
    columns[3] = bytes.fromhex(columns[3])
    body = None if text is None else text.encode()
    if body is not None and len(body) != size:
        raise _NotTextError
    columns += (bytes.fromhex(subject) if subject else None, body)
    return RecordedEvent(*columns)


def stream_page(
    connection: sqlite3.Connection, stream: str, after: int, first: int, limit: int
) -> list[RecordedEvent]:
    return _events(connection.execute(schema.READ_STREAM, (stream, after, first, limit)))


def _events(cursor: sqlite3.Cursor) -> list[RecordedEvent]:
    """The rows, or as many as fit into a page; then the cursor is closed and pins no WAL."""
    events: list[RecordedEvent] = []
    size = 0
    while size < _PAGE_BYTES and (rows := cursor.fetchmany(_FETCH)):
        events += starmap(RecordedEvent, rows)
        size += sum([len(row[-1] or b"") for row in rows])
    cursor.close()
    return events


def find(
    connection: sqlite3.Connection, event_id: bytes, first: int, head: int
) -> RecordedEvent | None:
    """The event with this id in [first, head]. Ids increase with positions: a binary search."""
    low, high = first, head
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(schema.EVENT_ID_AT, (middle,)).fetchone()
        if row is None or row[0] < event_id:  # None: it was truncated just now
            low = middle + 1
        else:
            high = middle
    events = _events(connection.execute(schema.EVENT_AT, (low,)))
    return next((event for event in events if event.event_id == event_id), None)


def leaf(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """The leaf hash at a position, None if there is no event."""
    row = connection.execute(schema.LEAF_AT, (seq,)).fetchone()
    return row and bytes(row[0])


def identity(connection: sqlite3.Connection, digest: bytes) -> Identity | None:
    """What is stored under a digest."""
    rows = connection.execute(schema.IDENTITIES + " = ?", (digest,)).fetchall()
    return Identity(*rows[0][1:]) if rows else None


def first(connection: sqlite3.Connection) -> int:
    """The lowest position that was not truncated."""
    return int(connection.execute(schema.META, ("truncated_to",)).fetchone()[0]) + 1


def snapshot(connection: sqlite3.Connection) -> int | None:
    """The position of the snapshot that holds what was truncated; None when nothing was."""
    row = connection.execute(schema.META, ("snapshot",)).fetchone()
    return None if row is None else int(row[0])


def restored(connection: sqlite3.Connection) -> str | None:
    """The mark that a restore left."""
    row = connection.execute(schema.META, ("restored",)).fetchone()
    return None if row is None else str(row[0])


def accept_restored(connection: sqlite3.Connection) -> None:
    """Take the mark away. For the writer."""
    connection.execute("DELETE FROM meta WHERE key = 'restored'")


def time_at(connection: sqlite3.Connection, seq: int) -> int | None:
    """The log's time of an event, in microseconds; None when it is not there."""
    row = connection.execute(schema.TIME_AT, (seq,)).fetchone()
    return None if row is None else int(row[0])

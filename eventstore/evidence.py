"""Stored events with what proves them, read in pages and checked one by one."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from eventstore import reading
from eventstore.envelope import envelope, leaf_hash
from eventstore.errors import LogDamaged, LogError, Truncated
from eventstore.segment import Line

_COLUMNS = (
    "seq, stream, version, event_id, type, schema_version, kind, time_us, wall_us, "
    "workspace, actor, request_id, subject, salt, body_digest, body, leaf"
)
_READ = f"SELECT {_COLUMNS} FROM event WHERE seq > ? AND seq <= ?"  # noqa: S608 - a constant
_PAGE = " ORDER BY seq LIMIT ?"

_FETCH = 32
_PAGE_BYTES = 8 * 1024 * 1024
PAGE = 2048


class Evidence(NamedTuple):
    """An event that is what its leaf says, the bytes of its envelope, and the leaf."""

    line: Line
    envelope: bytes
    leaf: bytes


def page(connection: sqlite3.Connection, after: int, upto: int) -> list[Evidence]:
    """Events after a position, all of them intact and none missing; empty at the end.

    A page ends early when bodies are large. Raises LogDamaged, with the position named, and
    Truncated where events were compacted away.
    """
    found: list[Evidence] = []
    for row in _rows(connection, after, upto):
        found.append(check(row))
        if found[-1].line.seq != after + len(found):
            raise _missing(connection, after + len(found))
    if not found and after < upto:
        raise _missing(connection, after + 1)
    return found


def leaves(connection: sqlite3.Connection, after: int, upto: int) -> list[bytes]:
    """Of the events of a `page`."""
    return [each.leaf for each in page(connection, after, upto)]


def matching(
    connection: sqlite3.Connection, after: int, upto: int, where: str, values: Sequence[Any]
) -> list[Evidence]:
    """Like `page`, for events in (after, upto] of which the SQL `where` is true."""
    return [check(row) for row in _rows(connection, after, upto, f" AND {where}", values)]


def check(row: Sequence[Any]) -> Evidence:
    """Raises LogDamaged unless leaf, digest and body of the row belong together."""
    seq, (salt, digest, body, leaf) = row[0], row[13:]
    try:
        line = Line(columns=tuple(row[:13]), body_digest=digest, salt=salt, body=body)
        head = envelope(line.columns)
        if leaf_hash(head, digest) != leaf:
            raise LogDamaged(f"position {seq}: the leaf is not the hash of the event")
        if not line.intact:
            raise LogDamaged(f"position {seq}: the body is not the one of its digest")
    except (TypeError, ValueError, AttributeError) as error:
        raise LogDamaged(f"position {seq}: a column holds what was never stored") from error
    return Evidence(line, head, leaf)


def _missing(connection: sqlite3.Connection, seq: int) -> LogError:
    first = reading.first(connection)
    return (
        Truncated(first) if seq < first else LogDamaged(f"position {seq} is missing from the log")
    )


def _rows(
    connection: sqlite3.Connection,
    after: int,
    upto: int,
    condition: str = "",
    values: Sequence[Any] = (),
) -> Iterator[Sequence[Any]]:
    """The rows of one page, read whole: nothing stays open while they are looked at."""
    rows: list[Sequence[Any]] = []
    size = 0
    try:
        cursor = connection.execute(_READ + condition + _PAGE, (after, upto, *values, PAGE))
        while size < _PAGE_BYTES and (fetched := cursor.fetchmany(_FETCH)):
            rows += fetched
            size += sum([len(row[15] or b"") for row in fetched])
        cursor.close()
    except (sqlite3.Error, TypeError) as error:
        if _is_damage(error):
            raise _located(connection, after, upto, error) from error
        raise
    return iter(rows)


def _is_damage(error: Exception) -> bool:
    """What SQLite says of a file it cannot make sense of, or of text that is none."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith("Could not decode to UTF-8")
    return isinstance(error, TypeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _located(connection: sqlite3.Connection, after: int, upto: int, error: Exception) -> LogDamaged:
    """The first position of a page that cannot be read."""
    for seq in range(after + 1, min(upto, after + PAGE) + 1):
        try:
            connection.execute(_READ, (seq - 1, seq)).fetchall()
        except sqlite3.Error as again:
            return LogDamaged(f"position {seq} cannot be read: {again}")
    return LogDamaged(f"a position after {after} cannot be read: {error}")

"""Taking the oldest events out of the file. Functions for the writer's thread, a chunk each.

`decide` is the moment: from then on the positions are gone for every reader, whatever becomes of
their rows. The rest can be interrupted anywhere and goes on where it was.
"""

import sqlite3

from eventstore import schema, wal

CHUNK = 5000
"""Rows deleted in one transaction. Appends take turns with them."""

_VACUUM_PAGES = 2000


def decide(connection: sqlite3.Connection, floor: int, snapshot: int | None) -> None:
    """Nothing below `floor` can be read any more; a rebuild starts at `snapshot`.

    Raises ValueError for a floor above the newest event, which always stays.
    """
    newest = connection.execute(schema.NEWEST).fetchone()
    if newest is None or floor > newest[0]:
        raise ValueError(f"the newest event must stay: {floor} is above it")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(schema.MOVE_META, (floor - 1, "truncated_to"))
    if snapshot is not None:
        connection.execute(schema.PUT_META, ("snapshot", snapshot))
    connection.execute("COMMIT")


def delete(connection: sqlite3.Connection) -> int:
    """Delete a chunk of truncated rows; how many."""
    connection.execute("BEGIN IMMEDIATE")
    deleted = connection.execute(schema.DELETE_TRUNCATED, (CHUNK,)).rowcount
    connection.execute("COMMIT")
    wal.checkpoint(connection)
    return deleted


def reclaim(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system; whether there may be more."""
    before = _free(connection)
    # Not `execute`: it takes one step of a statement without columns, and that is one page.
    connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
    wal.checkpoint(connection)
    return 0 < _free(connection) < before


def _free(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages)

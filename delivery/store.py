"""`state.db`: how far delivery has come. It can be deleted; the log then says it again.

    cursor   the live position, with proof of the log it belongs to
    lane     a lagging hook's own position, and why a stopped one is
    open     deliveries decided and not settled: waiting, in flight or to be retried
    parked   deliveries given up; their content is in the log's `delivery_parked` event
    fired    the memory of on_change and snooze
    progress what the next receipt of a hook will say

One transaction (`save`) writes whatever changed since the last one, so all of it belongs together.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from eventstore import wal
from eventstore.database import Database
from eventstore.records import Checkpoint

from .state import Item, Lane, Loaded, Open, Parked, Progress

T = TypeVar("T")

SCHEMA: Final = (
    """
    CREATE TABLE cursor (
      id     INTEGER PRIMARY KEY CHECK (id = 0),
      log_id TEXT NOT NULL,
      seq    INTEGER NOT NULL,
      leaf   BLOB NOT NULL,
      known  INTEGER NOT NULL -- orders up to here were obeyed, perhaps before seq got there
    ) STRICT;
    CREATE TABLE lane (
      hook     TEXT PRIMARY KEY,
      position INTEGER,         -- NULL: it follows the live position
      stopped  TEXT             -- why nothing is sent
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE open (
      hook    TEXT NOT NULL,
      seq     INTEGER NOT NULL,
      purpose TEXT NOT NULL,
      value   BLOB NOT NULL,    -- Open, as JSON
      PRIMARY KEY (hook, seq, purpose)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parked (
      hook    TEXT NOT NULL,
      seq     INTEGER NOT NULL,
      purpose TEXT NOT NULL,
      value   BLOB NOT NULL,    -- Parked, as JSON
      PRIMARY KEY (hook, seq, purpose)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fired (
      hook    TEXT NOT NULL,
      key     BLOB NOT NULL,
      digest  BLOB NOT NULL,
      wall_us INTEGER NOT NULL,
      PRIMARY KEY (hook, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE progress (
      hook  TEXT PRIMARY KEY,
      value BLOB NOT NULL       -- Progress, as JSON
    ) STRICT, WITHOUT ROWID;
    """,
)

Columns = tuple[Any, ...]


class Changes:
    """What one transaction writes, by table and key: the other columns, or None to delete a row."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Columns, Columns | None]] = {table: {} for table in _PUT}

    def __bool__(self) -> bool:
        return any(self.rows.values())

    def put(self, table: str, key: Columns, *values: Any) -> None:
        self.rows[table][key] = values

    def delete(self, table: str, key: Columns) -> None:
        self.rows[table][key] = None


def encode(value: Open | Parked | Progress) -> bytes:
    """The form in which a value is stored."""
    return msgspec.json.encode(value)


_PUT: Final = {
    "lane": "INSERT OR REPLACE INTO lane VALUES (?, ?, ?)",
    "open": "INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?)",
    "parked": "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?)",
    "fired": "INSERT OR REPLACE INTO fired VALUES (?, ?, ?, ?)",
    "progress": "INSERT OR REPLACE INTO progress VALUES (?, ?)",
}
_DELETE: Final = {
    "lane": "DELETE FROM lane WHERE hook = ?",
    "open": "DELETE FROM open WHERE hook = ? AND seq = ? AND purpose = ?",
    "parked": "DELETE FROM parked WHERE hook = ? AND seq = ? AND purpose = ?",
    "fired": "DELETE FROM fired WHERE hook = ? AND key = ?",
    "progress": "DELETE FROM progress WHERE hook = ?",
}
_PUT_CURSOR: Final = "INSERT OR REPLACE INTO cursor VALUES (0, ?, ?, ?, ?)"

# Errors after which the file is as it was before, and that pass.
_PASSING: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_AUTOCHECKPOINT_PAGES: Final = 1000


class StateUnavailable(Exception):
    """`state.db` cannot be written now, e.g. because the disk is full."""


class StateStore:
    """Owner of `state.db`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path) -> AsyncIterator["StateStore"]:
        """Open or create the file. Raises `LogTooNew` for a file of a newer program."""
        opening = Database.open(
            directory / "state.db",
            migrations=SCHEMA,
            autocheckpoint_pages=_AUTOCHECKPOINT_PAGES,
        )
        async with opening as database:
            await database.run(wal.empty)  # of what a killed process may have left there
            yield cls(database)

    async def load(self) -> Loaded:
        """Read everything."""
        return await self._database.run(_load)

    async def scrub(self) -> bool:
        """Leave nothing in the files of what was overwritten; False while somebody reads them."""
        return await self._database.run(wal.empty)

    async def reopen(self) -> None:
        """Start afresh from what is on disk, after an error that leaves it open what that is."""
        await self._database.reopen()

    async def save(self, changes: Changes, cursor: Checkpoint, known: int) -> None:
        """Write durably, all or nothing.

        Raises `StateUnavailable`, with the reason, when nothing was written; after another
        sqlite3.Error that is unknown.
        """
        try:
            await self._database.transact(_save, changes, cursor, known)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in _PASSING:
                raise StateUnavailable(str(error)) from error
            raise


def _load(connection: sqlite3.Connection) -> Loaded:
    read = connection.execute
    cursor = read("SELECT log_id, seq, leaf, known FROM cursor").fetchone()
    progress = msgspec.json.Decoder(Progress)
    return Loaded(
        cursor=Checkpoint(*cursor[:3]) if cursor else None,
        known=cursor[3] if cursor else 0,
        lanes={hook: Lane(*rest) for hook, *rest in read("SELECT * FROM lane")},
        open=_by_hook(read("SELECT * FROM open"), msgspec.json.Decoder(Open)),
        parked=_by_hook(read("SELECT * FROM parked"), msgspec.json.Decoder(Parked)),
        fired=read("SELECT * FROM fired").fetchall(),
        progress={h: progress.decode(v) for h, v in read("SELECT * FROM progress")},
    )


def _by_hook(
    rows: Iterable[tuple[str, int, str, bytes]], decoder: msgspec.json.Decoder[T]
) -> dict[str, dict[Item, T]]:
    found: dict[str, dict[Item, T]] = {}
    for hook, seq, purpose, value in rows:
        found.setdefault(hook, {})[seq, purpose] = decoder.decode(value)
    return found


def _save(connection: sqlite3.Connection, changes: Changes, cursor: Checkpoint, known: int) -> None:
    for table, rows in changes.rows.items():
        gone = [key for key, values in rows.items() if values is None]
        connection.executemany(_DELETE[table], gone)
        there = [(*key, *values) for key, values in rows.items() if values is not None]
        connection.executemany(_PUT[table], there)
    connection.execute(_PUT_CURSOR, (cursor.log_id, cursor.seq, cursor.leaf, known))

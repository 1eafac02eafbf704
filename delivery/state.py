"""`state.db`: how far delivery has come. It can be deleted; the log then says it again.

    cursor   the live position, with proof of the log it belongs to
    lane     a lagging or stopped hook's own position
    open     deliveries decided and not settled: waiting, in flight or to be retried
    parked   deliveries given up; their content is in the log's `delivery_parked` event
    fired    the memory of on_change and snooze
    progress what the next receipt of a hook will say

One transaction (`save`) writes whatever changed since the last one, so all of it belongs together.
"""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from eventstore.database import Database
from eventstore.events import DeliveriesSettled, Suppressed
from eventstore.records import Checkpoint

SCHEMA: Final = (
    """
    CREATE TABLE cursor (
      id     INTEGER PRIMARY KEY CHECK (id = 0),
      log_id TEXT NOT NULL,
      seq    INTEGER NOT NULL,
      leaf   BLOB NOT NULL
    ) STRICT;
    CREATE TABLE lane (
      hook     TEXT PRIMARY KEY,
      position INTEGER NOT NULL,
      stopped  TEXT             -- why nothing is sent; NULL: it is catching up
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

Item = tuple[int, str]
"""(position of the event, purpose): names a delivery of one hook."""

Key = tuple[str, int, str]
"""(hook id, position of the event, purpose): what names a delivery."""


class Open(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is not settled. `attempt` counts those made; `due_us` is wall time."""

    attempt: int = 0
    due_us: int = 0
    reason: str | None = None
    status: int | None = None
    hook_version: int | None = None


class Parked(msgspec.Struct, frozen=True, gc=False):
    """A delivery given up. Its `delivery_parked` event, at `position`, holds a copy."""

    position: int
    event_id: str
    attempts: int
    reason: str
    status: int | None
    at_us: int


class Progress(msgspec.Struct):
    """What happened to a hook's deliveries since its last receipt, which ended at `settled`.

    `late`: settled now, but listed as open by an earlier receipt. `intent` is a receipt that was
    decided on and perhaps not stored yet: it is stored word for word before the next one.
    """

    settled: int
    delivered: int = 0
    late: list[tuple[int, str]] = []
    suppressed: list[Suppressed] = []
    intent: DeliveriesSettled | None = None


class Lane(msgspec.Struct, frozen=True, gc=False):
    """A hook's own place in the log: everything up to `position` was decided for it."""

    position: int
    stopped: str | None = None


class Loaded(msgspec.Struct):
    """Everything in `state.db`. A missing `cursor` means that the file is new."""

    cursor: Checkpoint | None
    lanes: dict[str, Lane]
    open: dict[Key, Open]
    parked: dict[Key, Parked]
    fired: list[tuple[str, bytes, bytes, int]]
    progress: dict[str, Progress]


Rows = list[tuple[Any, ...]]


class Changes(msgspec.Struct):
    """What one transaction writes: rows to put and keys to delete, by table."""

    puts: dict[str, Rows] = {}
    deletes: dict[str, Rows] = {}

    def put(self, table: str, *row: Any) -> None:
        self.puts.setdefault(table, []).append(row)

    def delete(self, table: str, *key: Any) -> None:
        self.deletes.setdefault(table, []).append(key)

    @staticmethod
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
_PUT_CURSOR: Final = "INSERT OR REPLACE INTO cursor VALUES (0, ?, ?, ?)"


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
        async with Database.open(directory / "state.db", migrations=SCHEMA) as database:
            yield cls(database)

    async def load(self) -> Loaded:
        """Read everything."""
        return await self._database.run(_load)

    async def save(self, changes: Changes, cursor: Checkpoint) -> None:
        """Write durably, all or nothing. Raises `StateUnavailable`, with the reason."""
        try:
            await self._database.transact(_save, changes, cursor)
        except sqlite3.Error as error:
            raise StateUnavailable(str(error)) from error


def _load(connection: sqlite3.Connection) -> Loaded:
    read = connection.execute
    cursor = read("SELECT log_id, seq, leaf FROM cursor").fetchone()
    opened = msgspec.json.Decoder(Open)
    parked = msgspec.json.Decoder(Parked)
    progress = msgspec.json.Decoder(Progress)
    return Loaded(
        cursor=Checkpoint(*cursor) if cursor else None,
        lanes={hook: Lane(*rest) for hook, *rest in read("SELECT * FROM lane")},
        open={(h, s, p): opened.decode(v) for h, s, p, v in read("SELECT * FROM open")},
        parked={(h, s, p): parked.decode(v) for h, s, p, v in read("SELECT * FROM parked")},
        fired=read("SELECT * FROM fired").fetchall(),
        progress={h: progress.decode(v) for h, v in read("SELECT * FROM progress")},
    )


def _save(connection: sqlite3.Connection, changes: Changes, cursor: Checkpoint) -> None:
    _write(connection, _DELETE, changes.deletes)
    _write(connection, _PUT, changes.puts)
    connection.execute(_PUT_CURSOR, (cursor.log_id, cursor.seq, cursor.leaf))


def _write(
    connection: sqlite3.Connection, statements: Mapping[str, str], rows: Mapping[str, Rows]
) -> None:
    for table, values in rows.items():
        connection.executemany(statements[table], values)

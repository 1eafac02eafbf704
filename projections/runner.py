"""Folds the log into the read models, and keeps their items where a cold start finds them.

Promises: an event is applied to memory before anyone waiting for its position goes on; changed
items and the checkpoint reach `view.db` in one transaction; a file that is missing, damaged, from
another program version or from another log is rebuilt from the log. Folding never has an effect.
Not promised: that `view.db` is up to date. It is a snapshot, nothing reads it but the next start
and lookups of models that are not resident; while the disk is full it falls behind.
"""

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec

from eventstore.database import Database
from eventstore.errors import LogDamaged, LogDiverged, LogTooNew
from eventstore.log import EventLog
from eventstore.records import Checkpoint, Kind

from .model import ReadModel

_logger = logging.getLogger("hooktape.projections")

# Emitted events change no read model, and a partial index skips them.
_FOLDED: Final = (Kind.CONFIG, Kind.DELIVERY, Kind.SYSTEM)
_PAGE: Final = 1000
# How long delivery facts may stay unfolded when no configuration changes, in seconds.
_LAG: Final = 0.2
# How long until a snapshot that could not be written is tried again, in seconds.
_RETRY_SAVE: Final = 1.0
_AUTOCHECKPOINT_PAGES: Final = 1000

# What says that a file is of no use. The log has everything that is in there.
_UNUSABLE: Final = (sqlite3.DatabaseError, LogDamaged, LogTooNew, msgspec.DecodeError)

SCHEMA: Final = (
    """
    CREATE TABLE item (
      model TEXT NOT NULL,
      key   TEXT NOT NULL,
      value BLOB NOT NULL,
      PRIMARY KEY (model, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoint (
      id     INTEGER PRIMARY KEY CHECK (id = 0),
      log_id TEXT NOT NULL,
      seq    INTEGER NOT NULL,
      leaf   BLOB NOT NULL,
      models TEXT NOT NULL  -- names and versions the items were made by
    ) STRICT;
    """,
)

_READ_ITEMS = "SELECT key, value FROM item WHERE model = ? ORDER BY key"
_READ_CHECKPOINT = "SELECT log_id, seq, leaf, models FROM checkpoint"
_PUT_ITEM = "INSERT OR REPLACE INTO item (model, key, value) VALUES (?, ?, ?)"
_DELETE_ITEM = "DELETE FROM item WHERE model = ? AND key = ?"
_PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (0, ?, ?, ?, ?)"
_RANGE = "SELECT value FROM item WHERE model = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
_RANGE_BACK = (
    "SELECT value FROM item WHERE model = ? AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
)


class Projections:
    """The runner. `position`: every event up to here that can change a model has been applied."""

    def __init__(self, log: EventLog, database: Database, models: Sequence[ReadModel]) -> None:
        self._log = log
        self._database = database
        self._models = models
        self.position = 0
        self._stored = 0  # view.db has what was changed up to here
        self._moved = anyio.Event()
        # Changed items not yet in view.db.
        self._unsaved: dict[tuple[str, str], bytes | None] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, log: EventLog, directory: Path, models: Sequence[ReadModel]
    ) -> AsyncIterator["Projections"]:
        """Load the snapshot, or rebuild, and fold the rest of the log before yielding."""
        path = directory / "view.db"
        async with AsyncExitStack() as stack:
            try:
                projections = await cls._load(stack, log, path, models)
            except _UNUSABLE as error:
                if isinstance(error, sqlite3.OperationalError):  # the disk's fault, not the file's
                    raise
                _logger.warning("view.db cannot be used and is made anew: %s", error)
                await stack.aclose()
                await anyio.to_thread.run_sync(_discard, directory)
                projections = await cls._load(stack, log, path, models)
            await projections._catch_up()
            yield projections

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            with anyio.move_on_after(_RETRY_SAVE if self._unsaved else None):
                await self._log.wait(self.position)
                with anyio.move_on_after(_LAG):
                    await self._log.wait_config(self.position)
            await self._catch_up()

    async def wait_applied(self, seq: int) -> None:
        """Return once the event at `seq` has been applied."""
        while self.position < seq:
            await self._moved.wait()

    async def wait_stored(self, seq: int) -> None:
        """Return once `lookup` finds what the event at `seq` changed."""
        while self._stored < seq:
            await self._moved.wait()

    async def lookup(
        self, model: ReadModel, start: str, end: str, *, limit: int, reverse: bool = False
    ) -> list[Any]:
        """Stored items with start <= key < end, in key order."""
        query = _RANGE_BACK if reverse else _RANGE
        rows = await self._database.run(_select, query, (model.name, start, end, limit))
        return [msgspec.json.decode(value, type=model.item) for (value,) in rows]

    @classmethod
    async def _load(
        cls, stack: AsyncExitStack, log: EventLog, path: Path, models: Sequence[ReadModel]
    ) -> "Projections":
        """Take over the snapshot, or an empty one when it does not fit the log or the models."""
        opening = Database.open(
            path,
            migrations=SCHEMA,
            synchronous="NORMAL",
            autocheckpoint_pages=_AUTOCHECKPOINT_PAGES,
        )
        projections = cls(log, await stack.enter_async_context(opening), models)
        if await projections._fits():
            await projections._take_over()
        else:
            await projections._forget()
        return projections

    async def _fits(self) -> bool:
        row = await self._database.run(_read_checkpoint)
        if row is None or row[3] != self._signature():
            return False
        try:
            await self._log.verify(Checkpoint(row[0], row[1], row[2]))
        except LogDiverged as error:
            _logger.warning("view.db does not belong to this log and is rebuilt: %s", error)
            return False
        self.position = row[1]
        return True

    async def _take_over(self) -> None:
        for model in self._models:
            if model.resident:
                rows = await self._database.run(_select, _READ_ITEMS, (model.name,))
                decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(model.item)
                model.clear()
                model.apply({key: decoder.decode(value) for key, value in rows})

    async def _forget(self) -> None:
        await self._database.transact(_clear)
        for model in self._models:
            model.clear()
        self.position = self._log.first - 1

    async def _catch_up(self) -> None:
        while self.position < self._log.head:
            head = self._log.head
            page = await self._log.read(self.position, limit=_PAGE, kinds=_FOLDED)
            for event in page:
                for model in self._models:
                    self._fold(model, model.evolve(event))
            self.position = page[-1].seq if page else head
            self._announce()
            await self._save()
        await self._save()

    def _fold(self, model: ReadModel, changes: Any) -> None:
        if not changes:
            return
        for key, item in changes.items():
            self._unsaved[model.name, key] = None if item is None else msgspec.json.encode(item)
        model.apply(changes)

    async def _save(self) -> None:
        """Write the snapshot; what a full disk does not take is kept for the next time."""
        position = self.position
        if self._unsaved:
            checkpoint = await self._log.checkpoint(position)
            puts = [(m, k, v) for (m, k), v in self._unsaved.items() if v is not None]
            deletes = [key for key, value in self._unsaved.items() if value is None]
            try:
                await self._database.transact(_store, puts, deletes, checkpoint, self._signature())
            except sqlite3.OperationalError as error:
                _logger.warning("view.db cannot be written now: %s", error)
                return
            self._unsaved.clear()
        self._stored = position
        self._announce()

    def _announce(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def _signature(self) -> str:
        return " ".join(f"{model.name}:{model.version}" for model in self._models)


def _discard(directory: Path) -> None:
    for leftover in directory.glob("view.db*"):
        leftover.unlink()


def _read_checkpoint(connection: sqlite3.Connection) -> tuple[str, int, bytes, str] | None:
    row: tuple[str, int, bytes, str] | None = connection.execute(_READ_CHECKPOINT).fetchone()
    return row


def _select(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> list[Any]:
    return connection.execute(query, values).fetchall()


def _clear(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM item")
    connection.execute("DELETE FROM checkpoint")


def _store(
    connection: sqlite3.Connection,
    puts: Sequence[tuple[str, str, bytes]],
    deletes: Sequence[tuple[str, str]],
    checkpoint: Checkpoint,
    signature: str,
) -> None:
    connection.executemany(_PUT_ITEM, puts)
    connection.executemany(_DELETE_ITEM, deletes)
    values = (checkpoint.log_id, checkpoint.seq, checkpoint.leaf, signature)
    connection.execute(_PUT_CHECKPOINT, values)

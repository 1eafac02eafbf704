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

from eventstore import snapshots, wal
from eventstore.codec import decode
from eventstore.database import Database
from eventstore.erased import folded
from eventstore.errors import LogDamaged, LogDiverged, LogTooNew, Truncated
from eventstore.events import EventsErased
from eventstore.log import EventLog
from eventstore.plans import Hold
from eventstore.records import Checkpoint, Kind, RecordedEvent

from . import view
from .model import ReadModel, floor

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
        self._folding = anyio.Lock()
        self._overwritten = False  # and the WAL may hold what was

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
                await anyio.to_thread.run_sync(view.discard, directory)
                projections = await cls._load(stack, log, path, models)
            await projections._catch_up()
            yield projections

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            with anyio.move_on_after(_RETRY_SAVE if self._unsaved or self._overwritten else None):
                await self._log.wait(self.position)
                with anyio.move_on_after(_LAG):
                    await self._log.wait_config(self.position)
            await self._catch_up()

    async def holds(self) -> list[Hold]:
        """What is not folded by now is needed."""
        await self._catch_up()
        return [Hold(self.position + 1, "the projections")]

    async def ready(self, floor: int) -> None:
        """Make view.db remember how far it is, so that the next start needs nothing below.

        Raises sqlite3.OperationalError while the disk is full.
        """
        await self.wait_applied(floor - 1)
        async with self._folding:
            await self._store()

    async def wait_applied(self, seq: int) -> None:
        """Return once the event at `seq` has been applied."""
        while self.position < seq:
            await self._moved.wait()

    async def wait_stored(self, seq: int) -> None:
        """Return once `lookup` finds what the event at `seq` changed, and view.db has nothing of
        what it erased.
        """
        while self._stored < seq:
            await self._moved.wait()

    async def lookup(
        self, model: ReadModel, start: str, end: str, *, limit: int, reverse: bool = False
    ) -> list[Any]:
        """Stored items with start <= key < end, in key order."""
        query = view.RANGE_BACK if reverse else view.RANGE
        rows = await self._database.run(view.select, query, (model.name, start, end, limit))
        return [msgspec.json.decode(value, type=model.item) for (value,) in rows]

    @classmethod
    async def _load(
        cls, stack: AsyncExitStack, log: EventLog, path: Path, models: Sequence[ReadModel]
    ) -> "Projections":
        """Take over the snapshot, or an empty one when it does not fit the log or the models."""
        opening = Database.open(
            path,
            migrations=view.SCHEMA,
            synchronous="NORMAL",
            autocheckpoint_pages=_AUTOCHECKPOINT_PAGES,
        )
        projections = cls(log, await stack.enter_async_context(opening), models)
        await projections._database.run(wal.empty)  # of what a killed process may have left there
        if await projections._fits():
            await projections._take_over()
        else:
            await projections._forget()
        return projections

    async def _fits(self) -> bool:
        row = await self._database.run(view.read_checkpoint)
        if row is None or row[3] != self._signature():
            return False
        try:
            await self._log.verify(Checkpoint(row[0], row[1], row[2]))
        except (LogDiverged, Truncated) as error:
            _logger.warning("view.db does not belong to this log and is rebuilt: %s", error)
            return False
        self.position = row[1]
        return True

    async def _take_over(self) -> None:
        for model in self._models:
            if model.resident:
                rows = await self._database.run(view.select, view.READ_ITEMS, (model.name,))
                decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(model.item)
                model.clear()
                model.apply({key: decoder.decode(value) for key, value in rows})

    async def _forget(self) -> None:
        await self._database.transact(view.clear)
        for model in self._models:
            model.clear()
        self.position = 0
        snapshot = await snapshots.latest(self._log)
        if snapshot is not None:
            for model in self._models:
                if model.resident:
                    self._fold(model, view.restored(model, snapshot.state))
            self.position = snapshot.floor - 1

    async def _catch_up(self) -> None:
        async with self._folding:
            while self.position < self._log.head:
                head = self._log.head
                page = await self._log.read(self.position, limit=_PAGE, kinds=_FOLDED)
                for event in page:
                    for model in self._models:
                        self._fold(model, model.evolve(event))
                    if event.type == "compaction_finished":
                        await self._drop_facts(floor(event))
                    elif event.type == "events_erased":
                        await self._erase(event)
                self.position = page[-1].seq if page else head
                self._announce()
                await self._save()
            await self._save()

    async def _erase(self, record: RecordedEvent) -> None:
        """What was folded from bodies that are gone becomes what a rebuild would make of them."""
        body = decode(record)
        if not isinstance(body, EventsErased):
            return
        self._overwritten = True
        async for event in folded(self._log, body):
            for model in self._models:
                found = None if model.resident else await self._item(model, model.key(event))
                self._fold(model, model.erase(event, found))

    async def _item(self, model: ReadModel, key: str) -> Any:
        value = self._unsaved.get((model.name, key), b"")
        if value == b"":
            value = await self._database.run(view.select_one, model.name, key)
        return None if value is None else msgspec.json.decode(value, type=model.item)

    def _fold(self, model: ReadModel, changes: Any) -> None:
        if not changes:
            return
        for key, item in changes.items():
            self._unsaved[model.name, key] = None if item is None else msgspec.json.encode(item)
        model.apply(changes)

    async def _save(self) -> None:
        """Write the snapshot; what a full disk does not take is kept for the next time."""
        position = self.position
        if self._unsaved or self._overwritten:
            try:
                await self._store()
                if self._overwritten:
                    self._overwritten = not await self._database.run(wal.empty)
            except sqlite3.OperationalError as error:
                _logger.warning("view.db cannot be written now: %s", error)
                return
        if self._overwritten:
            return
        self._stored = position
        self._announce()

    async def _store(self) -> None:
        if self.position == self._log.first - 1:
            return  # a snapshot and nothing after it: made again as easily
        checkpoint = await self._log.checkpoint(self.position)
        puts = [(m, k, v) for (m, k), v in self._unsaved.items() if v is not None]
        deletes = [key for key, value in self._unsaved.items() if value is None]
        await self._database.transact(view.store, puts, deletes, checkpoint, self._signature())
        self._unsaved.clear()

    async def _drop_facts(self, floor: int) -> None:
        """A rebuild would not find what is below the floor, so the live file forgets it too."""
        for model in self._models:
            if model.resident:
                continue
            for (name, key), value in list(self._unsaved.items()):
                if name == model.name and value and msgspec.json.decode(value)["position"] < floor:
                    del self._unsaved[name, key]
            after = ""
            while after != view.LAST_KEY:
                after = await self._database.transact(view.delete_below, model.name, after, floor)

    def _announce(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def _signature(self) -> str:
        return view.signature(self._models)

"""Read models folded into a file of their own, beside the live one. Everything here blocks."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from eventstore.errors import LogError
from eventstore.migrations import migrate
from eventstore.records import Checkpoint

from . import view
from .history import History
from .model import ReadModel, floor

Start = Literal["zero", "snapshot"] | Path
"""From the first event ever, from the log's snapshot, or from a file that was saved before."""

Progress = Callable[[int, int], None]
"""`progress(done, total)`, in positions."""

_PAGE: Final = 1000


class Fresh:
    """Models folded into a file of its own. Close it; the file stays."""

    def __init__(self, path: Path, models: Sequence[ReadModel]) -> None:
        self.position = 0
        self._models = models
        self._unsaved: dict[tuple[str, str], bytes | None] = {}
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "secure_delete = 1"):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(self.connection, view.SCHEMA)

    def close(self) -> None:
        self.connection.close()

    def begin(self, history: History, start: Start) -> None:
        """Take over what is known at the start. Raises LogError when that does not fit."""
        if start == "snapshot":
            found = history.snapshot()
            if found is None:
                raise LogError("there is no snapshot: the log is whole, so start from zero")
            for model in self._models:
                if model.resident:
                    self._take(model, view.restored(model, found.state))
            self.position = found.floor - 1
        elif start != "zero":
            self._continue(history)

    def fold(self, history: History, upto: int, progress: Progress) -> None:
        """Fold on up to a position, and write everything down."""
        begun = self.position
        for number, event in enumerate(history.events(begun, upto), start=1):
            for model in self._models:
                self._take(model, model.evolve(event))
            if event.type == "compaction_finished":
                self._drop_facts(floor(event))
            if number % _PAGE == 0:
                self._save()
                progress(event.seq - begun, upto - begun)
        self._save()
        self.position = max(self.position, upto)
        progress(upto - begun, upto - begun)

    def stamp(self, history: History) -> None:
        """Say in the file which position it belongs to."""
        checkpoint = history.checkpoint(self.position)
        self._transact(view.store, (), (), checkpoint, view.signature(self._models))

    def items(self, only: Iterable[str]) -> Iterator[tuple[str, str, bytes]]:
        """(model, key, item) in order, of the models named."""
        for name in sorted(only):
            query = "SELECT model, key, value FROM item WHERE model = ? ORDER BY key"
            yield from self.connection.execute(query, (name,))

    def _continue(self, history: History) -> None:
        row = view.read_checkpoint(self.connection)
        if row is None or row[3] != view.signature(self._models):
            raise LogError("the checkpoint was made by another version of the read models")
        history.verify(Checkpoint(*row[:3]))
        for model in self._models:
            if model.resident:
                rows = view.select(self.connection, view.READ_ITEMS, (model.name,))
                model.apply({key: msgspec.json.decode(raw, type=model.item) for key, raw in rows})
        self.position = row[1]

    def _take(self, model: ReadModel, changes: Any) -> None:
        for key, item in changes.items():
            self._unsaved[model.name, key] = None if item is None else msgspec.json.encode(item)
        model.apply(changes)

    def _drop_facts(self, floor: int) -> None:
        self._save()
        for model in self._models:
            after = "" if not model.resident else view.LAST_KEY
            while after != view.LAST_KEY:
                after = self._transact(view.delete_below, model.name, after, floor)

    def _save(self) -> None:
        puts = [(m, k, v) for (m, k), v in self._unsaved.items() if v is not None]
        deletes = [key for key, value in self._unsaved.items() if value is None]
        self._transact(view.write, puts, deletes)
        self._unsaved.clear()

    def _transact(self, function: Callable[..., Any], *args: Any) -> Any:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = function(self.connection, *args)
            self.connection.execute("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.rollback()
        return result

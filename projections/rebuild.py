"""Read models made anew from the log, beside the live ones: compare, then swap, never an effect.

The new items go into a file of their own, `rebuild.db`, and from there into `view.db` in one
transaction; a crash before that leaves `view.db` as it was. Everything here blocks, and reads
through connections of its own, so it works beside a running service as long as nothing is swapped.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from eventstore import files
from eventstore.errors import LogError
from eventstore.migrations import migrate
from eventstore.records import Checkpoint

from . import view
from .fresh import Fresh, Progress, Start
from .history import History
from .model import ReadModel

FRESH: Final = "rebuild.db"
_SHOWN: Final = 20


class Difference(NamedTuple):
    """An item that is not in both, or not the same in both."""

    model: str
    key: str
    live: bool
    rebuilt: bool


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild came to. `compared` is None when there was nothing to compare with."""

    position: int
    items: dict[str, int]
    compared: int | None
    differences: list[Difference]  #: the first few
    swapped: bool


def rebuild(
    directory: Path,
    models: Sequence[ReadModel],
    *,
    start: Start,
    only: Sequence[str] = (),
    swap: bool = True,
    save: Path | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Rebuilt:
    """Fold the models anew, compare those named in `only` (or all) with the live ones, swap them.

    To swap, whoever calls holds the directory's lock. Raises LogError, sqlite3.Error, OSError.
    """
    names = list(only) or [model.name for model in models]
    with (
        closing(History(directory)) as history,
        closing(fresh_from(directory, models, history, start)) as fresh,
        closing(_Live(directory / "view.db", models, history)) as live,
    ):
        if not live.usable and len(names) < len(models):
            raise LogError("view.db cannot be used: rebuild all of the read models")
        upto = live.position if live.usable else history.head
        fresh.fold(history, max(upto, fresh.position), progress)
        with live.standing_still():
            fresh.fold(history, max(live.position, fresh.position), lambda _done, _total: None)
            comparable = live.usable and live.position == fresh.position
            differences = live.differences(fresh, names) if comparable else []
        fresh.stamp(history)
        count = "SELECT model, count(*) FROM item GROUP BY model"
        counted = dict(fresh.connection.execute(count).fetchall())
        if save is not None:
            _save_copy(fresh.connection, save)
        if swap:
            fresh.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            _swap(directory, names, usable=live.usable)
    discard(directory)
    return Rebuilt(
        position=fresh.position,
        items={name: counted.get(name, 0) for name in names},
        compared=fresh.position if comparable else None,
        differences=differences[:_SHOWN],
        swapped=swap,
    )


@contextmanager
def past(
    directory: Path, models: Sequence[ReadModel], *, start: Start, until: int, progress: Progress
) -> Iterator[Fresh]:
    """The read models as they were after the event at `until`. Nothing else is touched."""
    with closing(History(directory)) as history:
        if not 0 <= until <= history.head:
            raise LogError(f"there is no position {until}: the log ends at {history.head}")
        with closing(fresh_from(directory, models, history, start)) as fresh:
            if fresh.position > until:
                raise LogError(f"position {until} is before where this starts: start from zero")
            fresh.fold(history, until, progress)
            yield fresh
    discard(directory)


def fresh_from(
    directory: Path, models: Sequence[ReadModel], history: History, start: Start
) -> Fresh:
    """A new file, or a copy of a saved one, ready to be folded on."""
    discard(directory)
    if isinstance(start, Path):
        if not start.exists():
            raise LogError(f"there is no checkpoint {start}")
        shutil.copyfile(start, directory / FRESH)
    fresh = Fresh(directory / FRESH, models)
    try:
        fresh.begin(history, start)
    except BaseException:
        fresh.close()
        discard(directory)
        raise
    return fresh


def discard(directory: Path) -> None:
    """Delete what a rebuild leaves behind."""
    for leftover in directory.glob(f"{FRESH}*"):
        leftover.unlink()


class _Live:
    """view.db for reading. Not `usable`: missing, damaged, or not of this log or these models."""

    def __init__(self, path: Path, models: Sequence[ReadModel], history: History) -> None:
        self.position = 0
        self._signature = view.signature(models)
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self.usable = path.exists() and self._fits(path, history)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Whoever writes the file meanwhile, here it stays as it is now."""
        self._connection.execute("BEGIN")
        try:
            if self.usable and (row := view.read_checkpoint(self._connection)):
                self.position = row[1]
            yield
        finally:
            self._connection.rollback()

    def differences(self, fresh: Fresh, names: Sequence[str]) -> list[Difference]:
        """The first items that differ, in the order of their keys."""
        return list(islice(self._differing(fresh, names), _SHOWN))

    def _differing(self, fresh: Fresh, names: Sequence[str]) -> Iterator[Difference]:
        for name in sorted(names):
            live = self._connection.execute(view.READ_ITEMS, (name,))
            rebuilt = fresh.connection.execute(view.READ_ITEMS, (name,))
            mine, theirs = live.fetchone(), rebuilt.fetchone()
            while mine or theirs:
                if theirs is None or (mine is not None and mine[0] < theirs[0]):
                    yield Difference(name, mine[0], live=True, rebuilt=False)
                    mine = live.fetchone()
                elif mine is None or theirs[0] < mine[0]:
                    yield Difference(name, theirs[0], live=False, rebuilt=True)
                    theirs = rebuilt.fetchone()
                else:
                    if not _same(mine[1], theirs[1]):
                        yield Difference(name, mine[0], live=True, rebuilt=True)
                    mine, theirs = live.fetchone(), rebuilt.fetchone()

    def _fits(self, path: Path, history: History) -> bool:
        try:
            self._connection = files.read_only(path)
            row = view.read_checkpoint(self._connection)
            if row is None or row[3] != self._signature or row[1] < history.first - 1:
                return False
            history.verify(Checkpoint(*row[:3]))
        except (sqlite3.DatabaseError, LogError):
            return False
        self.position = row[1]
        return True


def _same(one: bytes, other: bytes) -> bool:
    """Equal values may be written in another order."""
    return one == other or msgspec.json.decode(one) == msgspec.json.decode(other)


def _save_copy(connection: sqlite3.Connection, path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(draft),))
    draft.chmod(0o600)
    draft.rename(path)
    files.sync(path.parent)


def _swap(directory: Path, names: Sequence[str], *, usable: bool) -> None:
    """These models' items, and the position, from the fresh file into view.db: all or nothing."""
    if not usable:
        view.discard(directory)
    with closing(sqlite3.connect(directory / "view.db", isolation_level=None)) as live:
        (directory / "view.db").chmod(0o600)
        for pragma in ("auto_vacuum = 2", "journal_mode = WAL", "secure_delete = 1"):
            live.execute(f"PRAGMA {pragma}").fetchall()
        migrate(live, view.SCHEMA)
        live.execute("ATTACH ? AS fresh", (str(directory / FRESH),))
        live.execute("BEGIN IMMEDIATE")
        marks = ",".join("?" * len(names))
        live.execute(f"DELETE FROM item WHERE model IN ({marks})", names)  # noqa: S608 - of marks
        live.execute(
            f"INSERT INTO item SELECT * FROM fresh.item WHERE model IN ({marks})",  # noqa: S608
            names,
        )
        live.execute("DELETE FROM checkpoint")
        live.execute("INSERT INTO checkpoint SELECT * FROM fresh.checkpoint")
        live.execute("COMMIT")

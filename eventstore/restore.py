"""A back-up becomes a data directory again.

What was erased after the back-up was made is in it still. So a restore takes the list of erasures,
from the directory that was lost or as `GET /erasures` gave it, and erases again before the
directory gets its name. Deliveries made after the back-up are not known to it: the log carries a
mark, and the service delivers nothing until somebody accepts that some are repeated.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import msgspec

from eventstore import backup as backups, erasing, files, reading, schema
from eventstore.backup import Manifest
from eventstore.errors import LogDamaged, LogDiverged
from eventstore.events import EventsErased
from eventstore.log import EventLog
from eventstore.records import Append, RecordedEvent

_AGAIN: Final = Append(events=(), actor="restore")


class Listed(msgspec.Struct, frozen=True):
    """An erasure as `GET /erasures` shows it."""

    position: int
    id: str
    fact: EventsErased


class Listing(msgspec.Struct, frozen=True):
    """The answer of `GET /erasures`. It must be all of them: `next` is null."""

    data: list[Listed]
    log: str
    next: str | None = None


class Restored(msgspec.Struct, frozen=True):
    """The last position that came back, and how many bodies were erased again."""

    head: int
    erased: int


def restore(backup: Path, target: Path, erasures: Path | None) -> Restored:
    """Make `target`, which is empty or not there yet, out of a back-up; all of it or nothing.

    `erasures` is a file with a listing, or the data directory that is to be replaced. Raises
    FileExistsError, LogDamaged, LogDiverged when the erasures are those of another log, LogTooNew,
    OSError and sqlite3.Error.
    """
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty: restore into a new directory")
    manifest = backups.load(backup)
    with files.new_directory(target) as draft:
        backups.copy_out(backup, manifest, draft)
        again = [] if erasures is None else _later(erasures, manifest, draft)
        _mark(draft / "log.db", manifest)
        erased = anyio.run(_opened, draft, again)
        (draft / "lock").unlink()
        files.sync(draft)
    return Restored(manifest.head, erased)


async def _opened(draft: Path, again: Sequence[EventsErased]) -> int:
    """Open it as a service would, so that what cannot be served is not restored."""
    async with EventLog.open(draft) as log:
        if not again:
            return 0
        return (await log.eraser.again(again, _AGAIN)).count


def _later(erasures: Path, manifest: Manifest, draft: Path) -> list[EventsErased]:
    """The erasures that came after the back-up, if they are of the same log."""
    listing = _from_directory(erasures, manifest) if erasures.is_dir() else _from_file(erasures)
    if listing.log != manifest.log:
        raise LogDiverged(f"{erasures} is of log {listing.log}, the back-up of {manifest.log}")
    if listing.next is not None:
        raise LogDamaged(f"{erasures} is not the whole list: ask with ?size=1000, page by page")
    with closing(backups.checked(draft, "log.db")) as log:
        known = {seq for seq, _ in erasing.records(log)}
        for each in listing.data:
            if manifest.first <= each.position <= manifest.head and (
                each.position not in known or _id_at(log, each.position) != each.id
            ):
                raise LogDiverged(
                    f"the back-up has another event at position {each.position} than {erasures}"
                )
    return [each.fact for each in listing.data if each.position > manifest.head]


def _from_file(path: Path) -> Listing:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Listing)
    except msgspec.DecodeError as error:
        raise LogDamaged(f"{path} is not what GET /erasures answers: {error}") from error


def _from_directory(directory: Path, manifest: Manifest) -> Listing:
    """From the log that is to be replaced, if the back-up is a former state of it."""
    try:
        with closing(files.read_only(directory / "log.db")) as log:
            log_id = str(log.execute(schema.META, ("log_id",)).fetchone()[0])
            leaf = reading.leaf(log, manifest.head)
            if log_id == manifest.log and leaf is not None and leaf.hex() != manifest.leaf:
                raise LogDiverged(
                    f"{directory} has another event at position {manifest.head} than the back-up"
                )
            listed = [Listed(seq, _id_at(log, seq), body) for seq, body in erasing.records(log)]
    except sqlite3.Error as error:
        raise LogDamaged(f"the log in {directory} cannot be read: {error}") from error
    return Listing(listed, log_id)


def _id_at(log: sqlite3.Connection, seq: int) -> str:
    (row,) = log.execute(schema.EVENT_AT, (seq,)).fetchall()
    return RecordedEvent(*row).id


def _mark(path: Path, manifest: Manifest) -> None:
    mark = f"position {manifest.head}, from the back-up of {manifest.made}"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(schema.PUT_META, ("restored", mark))

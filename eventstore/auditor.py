"""Follows the log and keeps its Merkle tree and signed checkpoints in audit.db.

Every event is checked on the way: its leaf is the hash of envelope and body digest, and the digest
that of salt and body. A checkpoint says that so many events were like this.

audit.db may be deleted while the log is whole: the tree is then made again, with new checkpoints.
Once positions were compacted away their leaves are in the tree alone: from then on audit.db belongs
into every backup, and nothing in the log can replace it.
"""

import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import anyio
import anyio.to_thread

from eventstore import evidence, reading, signing, tiles
from eventstore.database import Database
from eventstore.errors import LogDamaged, LogDiverged, LogError
from eventstore.log import EventLog
from eventstore.merkle import Tree
from eventstore.signing import Signer

APPLICATION_ID = 0x486B5461
"""`HkTa` in the header of audit.db."""

_CHECKPOINTS = """
CREATE TABLE meta(
  key   TEXT PRIMARY KEY,  -- log_id
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoint(
  size INTEGER PRIMARY KEY,
  note TEXT NOT NULL
) STRICT;
"""
MIGRATIONS = (tiles.SCHEMA + _CHECKPOINTS,)
"""One script per `user_version`. Scripts that were released never change."""

_LOG_ID = "SELECT value FROM meta WHERE key = 'log_id'"
_NEWEST = "SELECT size, CAST(note AS BLOB) FROM checkpoint ORDER BY size DESC LIMIT 1"
_THIN = "DELETE FROM checkpoint WHERE size > ? AND size < ?"
_PUT = "INSERT INTO checkpoint VALUES (?, ?)"

_EVERY: Final = 1.0
_RETRY: Final = 10.0
_AUTOCHECKPOINT_PAGES: Final = 1000

_logger = logging.getLogger("hooktape.eventstore")


class Auditor:
    """The tree over positions 1..`size`. Everything up to there was checked, and is on disk.

    `problem` says in one line what is wrong. The auditor then goes no further; the service does.
    Build it with `open`, in the process that owns the directory.
    """

    def __init__(self, log: EventLog, signer: Signer, rows: Database, audit: Database) -> None:
        self.size = 0
        self.problem: str | None = None
        self._log = log
        self._signer = signer
        self._rows = rows
        self._audit = audit
        self._working = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, log: EventLog, directory: Path) -> AsyncIterator[Self]:
        """Open audit.db beside the log in `directory`, made if need be.

        An audit.db of another log, of a later state of this one, or that lacks positions which the
        log has no longer, is a `problem`. Raises LogTooNew, LogDamaged and sqlite3.Error.
        """
        signer = await anyio.to_thread.run_sync(signing.load, directory / "keys.db", log.log_id)
        async with (
            Database.open(directory / "log.db", readonly=True) as rows,
            Database.open(
                directory / "audit.db",
                application_id=APPLICATION_ID,
                migrations=MIGRATIONS,
                autocheckpoint_pages=_AUTOCHECKPOINT_PAGES,
            ) as audit,
        ):
            auditor = cls(log, signer, rows, audit)
            await auditor._begin()
            yield auditor

    async def run(self) -> None:
        """Keep up with the log, at most once a second; nothing happens while nothing is stored.

        Damage is reported in the service's log and in `problem`, and ends this.
        """
        while self.problem is None:
            await self._log.wait(self.size)
            pause = _EVERY
            try:
                await self.catch_up()
            except LogError as error:
                self._stop(error)
            except sqlite3.Error as error:
                _logger.warning("the audit waits until it can go on: %s", error)
                pause = _RETRY
            await anyio.sleep(pause)

    async def catch_up(self) -> None:
        """Check and add what was stored until now, and sign the new size.

        Raises LogDamaged, with the position or the `problem` named. What is before it is kept.
        """
        if self.problem is not None:
            raise LogDamaged(self.problem)
        async with self._working:
            upto = self._log.head
            while self.size < upto:
                leaves = await self._rows.run(evidence.leaves, self.size, upto)
                self.size = await self._audit.transact(_extend, leaves)
            await self._audit.transact(_sign, self._signer)

    async def root(self, size: int) -> bytes:
        """The root over positions 1..size. Raises ValueError beyond `self.size`."""
        return await self._audit.run(lambda audit: _tree(audit, size).root(size))

    async def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Proof that the event at a position is in the tree of a size (`merkle.included`)."""
        return await self._audit.run(lambda audit: _tree(audit, size).inclusion(seq - 1, size))

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """Proof that nothing up to `old` was changed until `new` (`merkle.consistent`)."""
        return await self._audit.run(lambda audit: _tree(audit, new).consistency(old, new))

    async def checkpoint(self) -> str:
        """A signed checkpoint of the log as it is now: a C2SP note. Raises like `catch_up`."""
        await self.catch_up()
        _, note = await self._audit.run(newest_checkpoint)
        return note

    async def _begin(self) -> None:
        try:
            self.size, last = await self._audit.transact(_load, self._log.log_id)
            await self._rows.run(_compare, self.size, last)
        except LogError as error:
            self._stop(error)

    def _stop(self, error: LogError) -> None:
        self.problem = str(error)
        _logger.critical("the audit cannot go on: %s", error)


def newest_checkpoint(audit: sqlite3.Connection) -> tuple[int, str]:
    """Its size and note; -1 while there is none."""
    row = audit.execute(_NEWEST).fetchone()
    return (-1, "") if row is None else (row[0], row[1].decode(errors="replace"))


def _load(audit: sqlite3.Connection, log_id: str) -> tuple[int, bytes]:
    """The size of the tree and its last leaf. Raises LogDiverged for another log's."""
    row = audit.execute(_LOG_ID).fetchone()
    if row is None:
        audit.execute("INSERT INTO meta VALUES ('log_id', ?)", (log_id,))
    elif row[0] != log_id:
        raise LogDiverged(f"audit.db is of log {row[0]}, not {log_id}: restore both together")
    size = tiles.size(audit)
    return size, tiles.hashes(audit, 0, (size - 1) // tiles.WIDTH)[-1] if size else b""


def _compare(log: sqlite3.Connection, size: int, last: bytes) -> None:
    """Whether the tree ends where the log can be read on, and with the same event."""
    first = reading.first(log)
    if size < first - 1:
        raise LogDamaged(
            f"audit.db ends at position {size}, and those before {first} were compacted away: "
            "restore it from a backup, nothing in the log can replace it"
        )
    if size < first:
        return
    leaf = reading.leaf(log, size)
    if leaf is None:
        raise LogDiverged(
            f"audit.db has {size} positions and the log fewer: it was restored without audit.db"
        )
    if leaf != last:
        raise LogDiverged(f"audit.db holds another event at position {size} than the log")


def _extend(audit: sqlite3.Connection, leaves: Sequence[bytes]) -> int:
    tiles.extend(audit, leaves)
    return tiles.size(audit)


def _sign(audit: sqlite3.Connection, signer: Signer) -> None:
    """Sign the size the tree has now. The newest checkpoint is kept, and one per 256 events."""
    size = tiles.size(audit)
    if newest_checkpoint(audit)[0] == size:
        return
    audit.execute(_THIN, (size - size % tiles.WIDTH, size))
    audit.execute(_PUT, (size, signer.checkpoint(size, Tree(tiles.nodes(audit)).root(size))))


def _tree(audit: sqlite3.Connection, size: int) -> Tree:
    if not 0 <= size <= tiles.size(audit):
        raise ValueError(f"no tree of {size} events: there are {tiles.size(audit)}")
    return Tree(tiles.nodes(audit))

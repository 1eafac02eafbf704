"""Commits a batch of appends: checks, BEGIN IMMEDIATE ... COMMIT, all in one synchronous function.

It runs in the writer connection's thread. Nobody else changes the log, so what it remembers of the
log's end holds from one commit to the next.
"""

import logging
import os
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eventstore import schema, statements
from eventstore.batch import Answer, Batch, Identity, Marked, Row, mark
from eventstore.database import PAGE_SIZE, WAL_LIMIT
from eventstore.envelope import body_digest, envelope, leaf_hash, uuid7
from eventstore.errors import LogUnavailable
from eventstore.keys import Digests
from eventstore.records import Append

_log = logging.getLogger("hooktape.eventstore")

_STREAMS_REMEMBERED = 20_000
_RANDOM = struct.Struct("Q32s")
"""What an event needs of chance: for its id, and to salt its body digest."""
_CHECKPOINT_PAGES = 1000

_COMMIT_PAGES, _ROW_BYTES = 4, 300
"""What a commit and a row take in the WAL beside the bodies. Estimates, within a factor of two:
SQLite tells the true size only as a by-product of a checkpoint."""

_NOT_STORED: Mapping[int, str] = {
    # SQLite writes the commit mark last: what ran out of space on the way cannot be on disk.
    sqlite3.SQLITE_FULL: "no room left for the log",
    sqlite3.SQLITE_BUSY: "another program holds the log's write lock",
    sqlite3.SQLITE_CONSTRAINT: "another program wrote into the log",
}
"""Errors that prove a batch was not stored. After any other error it may be."""


class _Sealed(NamedTuple):
    """All columns of all rows in order, and the newest one's time and leaf."""

    values: list[object]
    time_us: int
    leaf: bytes
    size: int  #: bytes, about


class Writer:
    """The end of the log: read from disk when this is built, moved on by every commit."""

    def __init__(
        self, connection: sqlite3.Connection, digests: Digests, max_page_count: int | None
    ) -> None:
        self._digests = digests
        self._wal_pages = 0  # about as many were written since the last checkpoint
        if max_page_count is not None:
            connection.execute(f"PRAGMA max_page_count = {max_page_count}")
        self._load(connection)

    def commit(
        self, connection: sqlite3.Connection, appends: Sequence[Append], wall_us: int
    ) -> list[Answer]:
        """Store the appends, and return the answer to each. By then they are on disk.

        Raises sqlite3.Error when it is unknown whether they are: then reopen the database, and
        build a new Writer.
        """
        marked = [mark(append, self._digests) for append in appends]
        known, versions = _known(connection, marked), self._stream_versions(connection, appends)
        batch = Batch(self.seq, self.config, known, versions)
        answers = [batch.decide(append) for append in marked]
        if batch.empty:
            return answers
        try:
            self._store(connection, batch, wall_us)
        except sqlite3.Error as error:
            refusal = _refusal(error)
            connection.rollback()
            answers = [
                _without_writing(Batch(self.seq, self.config, known, versions), append, refusal)
                for append in marked
            ]
            self._load(connection)
        return answers

    def wants_checkpoint(self, *, idle: bool) -> bool:
        """Whether the WAL is long enough to be moved into the file: later when callers wait."""
        return self._wal_pages >= (_CHECKPOINT_PAGES if idle else 4 * _CHECKPOINT_PAGES)

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Move the WAL into the file as far as readers allow; the rest waits for the next time.

        Raises sqlite3.Error. A full disk is no error here: the events stay where they are, in the
        WAL, and the next checkpoint tries again.
        """
        self._wal_pages = 0
        try:
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages * PAGE_SIZE > WAL_LIMIT:
                _truncate_wal(connection)
        except sqlite3.Error as error:
            if _primary(error) != sqlite3.SQLITE_FULL:
                raise
            _log.warning("the WAL cannot be moved into log.db: %s", error)

    def _load(self, connection: sqlite3.Connection) -> None:
        newest: tuple[int, int, bytes] | None = connection.execute(schema.NEWEST).fetchone()
        self.seq, self.time_us, self.leaf = newest or (0, 0, b"")
        (config,) = connection.execute(schema.NEWEST_CONFIG).fetchone()
        self.config = config or 0
        self._versions: dict[str, int] = {}

    def _stream_versions(
        self, connection: sqlite3.Connection, appends: Sequence[Append]
    ) -> dict[str, int]:
        streams = {event.stream for append in appends for event in append.events}
        for append in appends:
            streams.update(append.expect)
        forgotten = streams - self._versions.keys()
        versions = {stream: self._versions[stream] for stream in streams - forgotten}
        versions.update(statements.select_in(connection, schema.STREAM_VERSIONS, forgotten))
        return versions

    def _store(self, connection: sqlite3.Connection, batch: Batch, wall_us: int) -> None:
        sealed = self._seal(batch.rows, wall_us)
        connection.execute("BEGIN IMMEDIATE")
        statements.insert(connection, schema.INSERT_EVENT, 17, sealed.values)
        streams = [value for name, end in batch.streams.items() for value in (name, *end)]
        statements.insert(connection, schema.INSERT_STREAM, 3, streams, schema.MOVE_STREAM)
        identities = [
            value
            for digest, known in batch.identities.items()
            for value in (digest, known.content, known.first, known.length)
        ]
        statements.insert(connection, schema.INSERT_IDENTITY, 4, identities)
        connection.execute("COMMIT")
        self._advance(batch, sealed)

    def _seal(self, rows: Sequence[Row], wall_us: int) -> _Sealed:
        """The rows as they are stored, with times, ids and hashes."""
        time_us, leaf = self.time_us, self.leaf
        values: list[object] = []
        size = 0
        random = _RANDOM.iter_unpack(os.urandom(_RANDOM.size * len(rows)))
        for row, (id_bits, salt) in zip(rows, random, strict=True):
            event, append = row.event, row.append
            time_us = max(time_us + 1, wall_us)
            columns = (
                row.seq,
                event.stream,
                row.version,
                uuid7(time_us, id_bits),
                event.type,
                event.schema_version,
                int(event.kind),
                time_us,
                wall_us,
                append.workspace,
                append.actor,
                append.request_id,
                None if event.subject is None else self._digests.subject(event.subject),
            )
            digest = body_digest(salt, event.body)
            leaf = leaf_hash(envelope(columns), digest)
            values += columns
            values += (salt, digest, leaf, event.body)
            size += _ROW_BYTES + len(event.body)
        return _Sealed(values, time_us, leaf, size)

    def _advance(self, batch: Batch, sealed: _Sealed) -> None:
        self.seq, self.time_us, self.leaf = batch.seq, sealed.time_us, sealed.leaf
        self.config = batch.config
        self._wal_pages += _COMMIT_PAGES + sealed.size // PAGE_SIZE
        for stream, (version, _) in batch.streams.items():
            self._versions.pop(stream, None)  # so that the ones written last stay longest
            self._versions[stream] = version
        while len(self._versions) > _STREAMS_REMEMBERED:
            del self._versions[next(iter(self._versions))]


def _primary(error: sqlite3.Error) -> int:
    return error.sqlite_errorcode & 0xFF


def _truncate_wal(connection: sqlite3.Connection) -> None:
    """Empty a WAL that kept growing because some reader was always in it. Waits for them briefly:
    this stands in the way of appends.
    """
    connection.execute("PRAGMA busy_timeout = 100")
    busy, pages, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute("PRAGMA busy_timeout = 5000")
    if busy:
        _log.warning("a reader keeps the WAL from being emptied: %d pages", pages)


def _known(connection: sqlite3.Connection, marked: Sequence[Marked]) -> dict[bytes, Identity]:
    digests = {digest for append in marked for digest in append.digests()}
    rows = statements.select_in(connection, schema.IDENTITIES, digests)
    return {digest: Identity(*identity) for digest, *identity in rows}


def _refusal(error: sqlite3.Error) -> LogUnavailable:
    """What a caller is told when nothing was stored. Raises the error if that is not certain."""
    code = _primary(error)
    if code not in _NOT_STORED:
        raise error
    return LogUnavailable(f"{_NOT_STORED[code]} ({error})", full=code == sqlite3.SQLITE_FULL)


def _without_writing(batch: Batch, append: Marked, refusal: LogUnavailable) -> Answer:
    """The answer of an append for itself if it needs no room, else the refusal."""
    answer = batch.decide(append)
    return answer if batch.empty else refusal

"""Commits a batch of appends: checks, BEGIN IMMEDIATE ... COMMIT, all in one synchronous function.

It runs in the writer connection's thread. Nobody else changes the log, so what it remembers of the
log's end holds from one commit to the next.
"""

import os
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from eventstore import schema, statements
from eventstore.batch import Answer, Batch, Identity, Marked, Row, mark
from eventstore.envelope import body_digest, envelope, leaf_hash, uuid7
from eventstore.errors import LogUnavailable
from eventstore.keys import Digests
from eventstore.records import Append

_STREAMS_REMEMBERED = 20_000
_SALT = 32
_CHECKPOINT_PAGES = 1000

_NOT_STORED: Mapping[int, str] = {
    # SQLite writes the commit mark last: what ran out of space on the way cannot be on disk.
    sqlite3.SQLITE_FULL: "no room left for the log",
    sqlite3.SQLITE_BUSY: "another program holds the log's write lock",
    sqlite3.SQLITE_CONSTRAINT: "another program wrote into the log",
}
"""Errors that prove a batch was not stored. After any other error it may be."""


class _Sealed(NamedTuple):
    """Rows as they are stored, and the newest one's time and leaf."""

    rows: list[tuple[object, ...]]
    time_us: int
    leaf: bytes


class Writer:
    """The end of the log: read from disk when this is built, moved on by every commit."""

    def __init__(
        self, connection: sqlite3.Connection, digests: Digests, max_page_count: int | None
    ) -> None:
        self._digests = digests
        self._unsettled = 0
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

    def wants_checkpoint(self, idle: bool) -> bool:
        """Whether the WAL is long enough to be moved into the file, best while nobody waits."""
        return self._unsettled >= (_CHECKPOINT_PAGES if idle else 4 * _CHECKPOINT_PAGES)

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Move the WAL into the file as far as readers allow."""
        self._unsettled = 0
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

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
        statements.insert(connection, schema.INSERT_EVENT, sealed.rows)
        streams = [(stream, *end) for stream, end in batch.streams.items()]
        statements.insert(connection, schema.INSERT_STREAM, streams, schema.MOVE_STREAM)
        identities = [(digest, *identity) for digest, identity in batch.identities.items()]
        statements.insert(connection, schema.INSERT_IDENTITY, identities)
        connection.execute("COMMIT")
        self._advance(batch, sealed)

    def _seal(self, rows: Sequence[Row], wall_us: int) -> _Sealed:
        """The rows as they are stored, with times, ids and hashes."""
        time_us, leaf = self.time_us, self.leaf
        sealed: list[tuple[object, ...]] = []
        random = iter(struct.iter_unpack(f"8s{_SALT}s", os.urandom((8 + _SALT) * len(rows))))
        for seq, version, event, append in rows:
            time_us = max(time_us + 1, wall_us)
            id_random, salt = next(random)
            columns = (
                seq,
                event.stream,
                version,
                uuid7(time_us, id_random),
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
            sealed.append((*columns, salt, digest, leaf, event.body))
        return _Sealed(sealed, time_us, leaf)

    def _advance(self, batch: Batch, sealed: _Sealed) -> None:
        self.seq, self.time_us, self.leaf = batch.seq, sealed.time_us, sealed.leaf
        self.config = batch.config
        for stream, (version, _) in batch.streams.items():
            self._versions.pop(stream, None)  # so that the ones written last stay longest
            self._versions[stream] = version
        while len(self._versions) > _STREAMS_REMEMBERED:
            del self._versions[next(iter(self._versions))]


def _known(connection: sqlite3.Connection, marked: Sequence[Marked]) -> dict[bytes, Identity]:
    digests = {digest for append in marked for digest in append.digests()}
    rows = statements.select_in(connection, schema.IDENTITIES, digests)
    return {digest: Identity(*identity) for digest, *identity in rows}


def _refusal(error: sqlite3.Error) -> LogUnavailable:
    """What a caller is told when nothing was stored. Raises the error if that is not certain."""
    code = error.sqlite_errorcode & 0xFF
    if code not in _NOT_STORED:
        raise error
    return LogUnavailable(f"{_NOT_STORED[code]} ({error})", full=code == sqlite3.SQLITE_FULL)


def _without_writing(batch: Batch, append: Marked, refusal: LogUnavailable) -> Answer:
    """The answer of an append for itself if it needs no room, else the refusal."""
    answer = batch.decide(append)
    return answer if batch.empty else refusal

"""Commits a batch of appends: checks, BEGIN IMMEDIATE ... COMMIT, all in one synchronous function.

It runs in the writer connection's thread. Nobody else changes the log, so what it remembers of the
log's end holds from one commit to the next.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from eventstore import erasing, schema, statements
from eventstore.batch import Answer, Batch, Identity, Marked, mark
from eventstore.database import PAGE_SIZE
from eventstore.errors import LogUnavailable
from eventstore.keys import Digests
from eventstore.records import Append
from eventstore.sealing import Sealed, seal

_STREAMS_REMEMBERED = 20_000

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


class Writer:
    """The end of the log: read from disk when this is built, moved on by every commit."""

    def __init__(
        self, connection: sqlite3.Connection, digests: Digests, max_page_count: int | None
    ) -> None:
        self.committed = False  #: since this was built
        self._digests = digests
        self._wal_pages = 0  # written since the last checkpoint, about
        if max_page_count is not None:
            limit_pages(connection, max_page_count)
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
            if error.sqlite_errorcode & 0xFF not in _NOT_STORED:
                raise
            connection.rollback()
            before = [Batch(self.seq, self.config, known, versions) for _ in marked]
            answers = [_alone(*each, error) for each in zip(before, marked, strict=True)]
            self._load(connection)
        return answers

    def wants_checkpoint(self, *, idle: bool) -> bool:
        """Whether the WAL is long enough to be moved into the file: later if appends wait."""
        return self._wal_pages >= (_CHECKPOINT_PAGES if idle else 4 * _CHECKPOINT_PAGES)

    def checkpointed(self) -> None:
        self._wal_pages = 0

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
        sealed = seal(batch.rows, self.time_us, self.leaf, wall_us, self._digests)
        connection.execute("BEGIN IMMEDIATE")
        statements.insert(connection, schema.INSERT_EVENT, schema.EVENT_WIDTH, sealed.values)
        streams = [value for name, end in batch.streams.items() for value in (name, *end)]
        statements.insert(connection, schema.INSERT_STREAM, 3, streams, schema.MOVE_STREAM)
        identities = [
            value
            for digest, known in batch.identities.items()
            for value in (digest, known.content, known.first, known.length)
        ]
        statements.insert(connection, schema.INSERT_IDENTITY, 4, identities)
        for row in batch.rows:
            if row.append.erase is not None:
                erasing.erase(connection, row.seq, row.append.erase)
        connection.execute("COMMIT")
        self._advance(batch, sealed)

    def _advance(self, batch: Batch, sealed: Sealed) -> None:
        self.committed = True
        self.seq, self.time_us, self.leaf = batch.seq, sealed.time_us, sealed.leaf
        self.config = batch.config
        for stream, (version, _) in batch.streams.items():
            self._versions.pop(stream, None)  # so that the ones written last stay longest
            self._versions[stream] = version
        while len(self._versions) > _STREAMS_REMEMBERED:
            del self._versions[next(iter(self._versions))]
        size = sum([_ROW_BYTES + len(row.event.body) for row in batch.rows])
        self._wal_pages += _COMMIT_PAGES + size // PAGE_SIZE


def limit_pages(connection: sqlite3.Connection, max_page_count: int) -> None:
    """Let the file grow to so many pages; not below what it has already."""
    connection.execute(f"PRAGMA max_page_count = {max_page_count}").fetchall()


def _known(connection: sqlite3.Connection, marked: Sequence[Marked]) -> dict[bytes, Identity]:
    digests = {digest for append in marked for digest in append.digests()}
    rows = statements.select_in(connection, schema.IDENTITIES, digests)
    return {digest: Identity(*identity) for digest, *identity in rows}


def _alone(before: Batch, append: Marked, error: sqlite3.Error) -> Answer:
    """The answer to an append whose batch was not stored: still final if it needs no writing."""
    answer = before.decide(append)
    if before.empty:
        return answer
    code = error.sqlite_errorcode & 0xFF
    return LogUnavailable(f"{_NOT_STORED[code]} ({error})", full=code == sqlite3.SQLITE_FULL)

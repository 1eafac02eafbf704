"""One SQLite file, one connection, one thread. The only module that knows aiosqlite.

A connection that tasks share does not isolate them, so there are no statements to await here: a
caller hands over a function, and the whole of it runs in the connection's thread in one hop.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, Self, TypeVar

import aiosqlite
import anyio

from eventstore.errors import LogDamaged
from eventstore.migrations import migrate

P = ParamSpec("P")
T = TypeVar("T")

Synchronous = Literal["FULL", "NORMAL"]
_SYNCHRONOUS: Mapping[Synchronous, int] = {"NORMAL": 1, "FULL": 2}

PAGE_SIZE = 4096
WAL_LIMIT = 64 * 1024 * 1024

_PRAGMAS: Mapping[str, int] = {
    "busy_timeout": 5000,  # ms; nobody else writes, but somebody may look with another tool
    "mmap_size": 0,  # an I/O error on a mapped page is a signal, not an error code
    "trusted_schema": 0,
    "cell_size_check": 1,  # notice damage when a page is read, not later
    "foreign_keys": 1,
}
_WRITER_PRAGMAS: Mapping[str, int] = {
    "page_size": PAGE_SIZE,
    "auto_vacuum": 2,  # incremental; only takes effect before the first table
    "cache_size": -32 * 1024,  # KiB; a batch must fit, or it spills into the WAL before COMMIT
    "journal_size_limit": WAL_LIMIT,
    "secure_delete": 1,  # what is erased is overwritten
    "temp_store": 2,  # and its old pages go into no temporary file
    "fullfsync": 1,  # macOS: fsync alone does not reach the disk
}


class Database:
    """A file with its connection. Build it with `open`.

    A writer sees its file in WAL mode with the settings above, each set and read back: a SQLite
    that ignores one is refused at start. Files are created readable by their owner only.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._sqlite: sqlite3.Connection
        self._refusal: Exception | None = None  # why the file could not be opened
        self._thread: aiosqlite.Connection

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        *,
        readonly: bool = False,
        synchronous: Synchronous = "FULL",
        application_id: int = 0,
        migrations: Sequence[str] = (),
        autocheckpoint_pages: int = 0,
    ) -> AsyncIterator[Self]:
        """Open `path`, bring its schema up to date, close it at the end whatever happens.

        `readonly` opens an existing file for reading only, and leaves it unmigrated. Commits move
        a WAL of `autocheckpoint_pages` into the file; with 0 that is left to the caller.
        Raises LogTooNew, LogDamaged when the file is no database or another application's, and
        sqlite3.Error.
        """
        if readonly:
            database = cls(partial(_open_reader, path))
        else:
            settings: dict[str, int | str] = {
                "journal_mode": "wal",
                "synchronous": _SYNCHRONOUS[synchronous],
                "wal_autocheckpoint": autocheckpoint_pages,
            }
            database = cls(partial(_open_writer, path, settings, application_id, migrations))
        with anyio.CancelScope(shield=True):
            await database._start()
        try:
            yield database
        finally:
            with anyio.CancelScope(shield=True):
                await database._thread.close()

    async def run(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `function(connection, ...)` in the connection's thread and return its result.

        Calls run one after another. Cancelling the caller does not stop a function that was handed
        over. The connection is in autocommit mode; a transaction that the function leaves open is
        rolled back. Whatever the function raises is raised here.
        """
        call = partial(_finish, self._sqlite, partial(function, self._sqlite, *args, **kwargs))
        with anyio.CancelScope(shield=True):
            # aiosqlite's public calls are one hop per statement; a batch in many hops is four times
            # slower and can be interrupted between BEGIN and COMMIT. Hence its private method, and
            # the upper bound on its version in pyproject.toml.
            result: T = await self._thread._execute(call)  # type: ignore[no-untyped-call]
        return result

    async def transact(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like `run`, with everything the function does in one transaction.

        It is committed before this returns, and rolled back if the function raises.
        """

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            result = function(connection, *args, **kwargs)
            connection.execute("COMMIT")
            return result

        return await self.run(transaction)

    async def reopen(self) -> None:
        """Close the file and open it again: after an I/O error nothing the connection believes
        about it can be trusted. Raises what `open` raises; then the database stays closed.
        """
        with anyio.CancelScope(shield=True):
            await self._thread.close()
            await self._start()

    async def _start(self) -> None:
        self._thread = aiosqlite.Connection(self._open, iter_chunk_size=64)
        await self._thread
        if self._refusal is not None:
            await self._thread.close()
            raise self._refusal

    def _open(self) -> sqlite3.Connection:
        # An error is kept until the thread is up: aiosqlite leaves a thread that failed to connect
        # behind, to report to an event loop that may be gone by then.
        self._refusal = None
        try:
            self._sqlite = self._connect()
        except Exception as error:
            self._refusal = error
            self._sqlite = sqlite3.connect(":memory:")
        return self._sqlite


def _finish(connection: sqlite3.Connection, call: Callable[[], T]) -> T:
    try:
        return call()
    finally:
        if connection.in_transaction:
            connection.rollback()


def _open_reader(path: Path) -> sqlite3.Connection:
    return _configured(path, "ro", lambda connection: _pragmas(connection, {"query_only": 1}))


def _open_writer(
    path: Path,
    settings: Mapping[str, int | str],
    application_id: int,
    migrations: Sequence[str],
) -> sqlite3.Connection:
    # Not for an existing file: closing a second descriptor of it would drop SQLite's locks.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def prepare(connection: sqlite3.Connection) -> None:
        empty = _is_empty(connection, path, application_id)
        _pragmas(connection, _WRITER_PRAGMAS)
        _pragmas(connection, settings)
        if empty:
            _pragmas(connection, {"application_id": application_id})
        migrate(connection, migrations)

    return _configured(path, "rw", prepare)


def _is_empty(connection: sqlite3.Connection, path: Path, application_id: int) -> bool:
    """Whether nothing is in the file yet. Raises LogDamaged for a file of somebody else's."""
    try:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise
        raise LogDamaged(f"{path}: {error}, restore it from a backup") from error
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and found != application_id:
        raise LogDamaged(f"{path} belongs to another application (id {found:#x})")
    return not tables


def _configured(
    path: Path, mode: str, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=256,
    )
    try:
        _pragmas(connection, _PRAGMAS)
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _pragmas(connection: sqlite3.Connection, wanted: Mapping[str, int | str]) -> None:
    for name, value in wanted.items():
        # Only where it differs: some of them write to the file even if nothing changes.
        if _pragma(connection, name) == value:
            continue
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        if (found := _pragma(connection, name)) != value:
            raise sqlite3.NotSupportedError(f"PRAGMA {name} is {found}, {value} was asked for")


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return row[0] if row else 0  # a SQLite built without a feature has it switched off

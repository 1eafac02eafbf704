"""Moving the write-ahead log into the file. Only the writer's connection may: before SQLite 3.51.3,
checkpoints on two connections can corrupt the file.
"""

import logging
import sqlite3

from eventstore.database import PAGE_SIZE, WAL_LIMIT

_log = logging.getLogger("hooktape.eventstore")


def checkpoint(connection: sqlite3.Connection, limit: int = WAL_LIMIT) -> None:
    """Move as much as readers allow; the rest waits for the next time. Raises sqlite3.Error.

    A WAL of more than `limit` bytes is emptied, if readers let it be. A full disk is no error here:
    everything stays readable in the WAL.
    """
    try:
        _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages * PAGE_SIZE > limit:
            empty(connection)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise
        _log.warning("the WAL cannot be moved into the file: %s", error)


def empty(connection: sqlite3.Connection) -> bool:
    """Move the whole WAL into the file and cut it to nothing; False while some reader is in it.

    It waits for readers, while appends wait for it, so not for long.
    """
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 100")
    busy, pages, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {patience}")
    if busy:
        _log.warning("a reader keeps the WAL from being emptied, it has %d pages", pages)
    return not busy

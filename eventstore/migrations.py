"""Numbered scripts bring a database file up to date; `PRAGMA user_version` says how far it is."""

import sqlite3
from collections.abc import Sequence

from eventstore.errors import LogTooNew


def migrate(connection: sqlite3.Connection, scripts: Sequence[str]) -> None:
    """Run the scripts the file has not seen, each in a transaction of its own.

    A crash leaves the file at the last complete script. Raises LogTooNew when the file has seen
    more scripts than there are: an older program must not touch it.
    """
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(scripts):
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        raise LogTooNew(
            f"{path} has schema version {done}, this program knows {len(scripts)}: upgrade it"
        )
    for number, script in enumerate(scripts[done:], start=done + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {number};\nCOMMIT;"
            )
        finally:
            if connection.in_transaction:
                connection.rollback()

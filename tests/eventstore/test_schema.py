"""The file protects itself, and every query uses the index made for it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from eventstore import EventLog, Kind, schema
from eventstore.statements import insert, select_in
from tests.eventstore.samples import created, emitted, failed, of


async def fill(directory: Path) -> None:
    async with EventLog.open(directory) as log:
        for _ in range(10):
            await log.append(of(emitted(), created(), failed()))


@pytest.fixture
def database(directory: Path) -> Iterator[sqlite3.Connection]:
    """The file of a log with some events, opened by another program."""
    anyio.run(fill, directory)
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as connection:
        yield connection


def plan(connection: sqlite3.Connection, sql: str, parameters: int) -> list[str]:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * parameters).fetchall()
    return [row[3].replace("seq", "rowid") for row in rows]  # versions of SQLite differ in this


@pytest.mark.parametrize(
    ("sql", "parameters", "steps"),
    [
        (schema.READ, 3, ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        (
            schema.READ_SOME_KINDS,
            4,
            [
                "SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
                "LIST SUBQUERY 1",
                "SCAN json_each VIRTUAL TABLE INDEX 1:",
            ],
        ),
        (
            schema.read_rare_kinds(1),
            4,
            ["SEARCH event USING INDEX event_kind (kind=? AND rowid>? AND rowid<?)"],
        ),
        (
            schema.read_rare_kinds(2),
            7,
            [
                "MERGE (UNION ALL)",
                "LEFT",
                "SEARCH event USING INDEX event_kind (kind=? AND rowid>? AND rowid<?)",
                "RIGHT",
                "SEARCH event USING INDEX event_kind (kind=? AND rowid>? AND rowid<?)",
            ],
        ),
        (
            schema.READ_STREAM,
            4,
            ["SEARCH event USING INDEX event_stream (stream=? AND version>?)"],
        ),
        (schema.EVENT_AT, 1, ["SEARCH event USING INTEGER PRIMARY KEY (rowid=?)"]),
        (schema.EVENT_ID_AT, 1, ["SEARCH event USING INTEGER PRIMARY KEY (rowid=?)"]),
        (schema.LEAF_AT, 1, ["SEARCH event USING INTEGER PRIMARY KEY (rowid=?)"]),
        (schema.NEWEST, 0, ["SCAN event"]),
        (schema.NEWEST_CONFIG, 0, ["SEARCH event USING COVERING INDEX event_kind (kind=?)"]),
        (f"{schema.STREAM_VERSIONS} IN (?, ?)", 2, ["SEARCH stream USING PRIMARY KEY (name=?)"]),
        (f"{schema.IDENTITIES} IN (?, ?)", 2, ["SEARCH identity USING PRIMARY KEY (digest=?)"]),
        (schema.META, 1, ["SEARCH meta USING PRIMARY KEY (key=?)"]),
    ],
)
def test_queries_use_their_index(
    database: sqlite3.Connection, sql: str, parameters: int, steps: list[str]
) -> None:
    """No query sorts, none scans but the one that takes the last row."""
    assert plan(database, sql, parameters) == steps


def test_emitted_events_are_in_no_secondary_index(database: sqlite3.Connection) -> None:
    """Their appends pay for the table alone: that is what makes them fast."""
    indexes = database.execute("SELECT sql FROM sqlite_schema WHERE tbl_name = 'event'").fetchall()
    partial = [sql for (sql,) in indexes if sql and "INDEX" in sql]

    assert len(partial) == 2
    assert all(sql.endswith(f"WHERE kind <> {int(Kind.EMITTED)}") for sql in partial)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET body = x'00'",
        "UPDATE event SET body = NULL",
        "UPDATE event SET salt = NULL",
        "UPDATE event SET body = NULL, salt = NULL, type = 'other'",
        *[
            f"UPDATE event SET body = NULL, salt = NULL, {column} = 7"  # noqa: S608
            for column in schema.RECORD.split(", ")
            if column != "body"
        ],
        "UPDATE event SET body = NULL, salt = NULL, leaf = x'00'",
        "UPDATE event SET body = NULL, salt = NULL, body_digest = x'00'",
        "DELETE FROM event",
        "DELETE FROM event WHERE seq = 1",
    ],
)
def test_the_log_is_append_only(database: sqlite3.Connection, change: str) -> None:
    """Nothing but erasing a body with its salt is possible, by whatever program."""
    before = database.execute("SELECT * FROM event").fetchall()
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(change)

    assert database.execute("SELECT * FROM event").fetchall() == before


def test_only_truncated_positions_can_be_deleted(database: sqlite3.Connection) -> None:
    """Up to the floor, and never the newest event."""
    database.execute("UPDATE meta SET value = 5 WHERE key = 'truncated_to'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute("DELETE FROM event WHERE seq <= 6")
    database.execute("DELETE FROM event WHERE seq <= 5")
    database.execute("UPDATE meta SET value = 1000 WHERE key = 'truncated_to'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute("DELETE FROM event")
    database.execute("DELETE FROM event WHERE seq < 30")

    assert database.execute("SELECT seq FROM event").fetchall() == [(30,)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 256, 257, 1000])
def test_rows_of_any_number_are_written_and_found(count: int) -> None:
    """Statements come in a few sizes; together they fit any number of rows."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE item(n INTEGER PRIMARY KEY, square INTEGER)")
        values = [value for n in range(count) for value in (n, n * n)]
        insert(connection, "INSERT INTO item", 2, values)
        insert(connection, "INSERT INTO item", 2, values, " ON CONFLICT DO UPDATE SET square = -1")
        found = select_in(connection, "SELECT n, square FROM item WHERE n", range(-1, count + 1))

    assert sorted(found) == [(n, -1) for n in range(count)]

"""One connection in one thread: settings, transactions, cancellation."""

import sqlite3
import stat
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import aiosqlite
import anyio
import pytest

from eventstore import LogDamaged, LogTooNew
from eventstore.database import Database, Synchronous

TABLE = "CREATE TABLE item(n INTEGER PRIMARY KEY) STRICT;"


def insert(connection: sqlite3.Connection, *numbers: int) -> int:
    for number in numbers:
        connection.execute("INSERT INTO item VALUES (?)", (number,))
    return len(numbers)


def items(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT n FROM item ORDER BY n")]


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
async def test_settings_are_in_force(tmp_path: Path, synchronous: Synchronous, level: int) -> None:
    """The file is a WAL database with the durability that was asked for."""
    async with Database.open(tmp_path / "x.db", synchronous=synchronous) as database:
        found = {
            name: await database.run(pragma, name)
            for name in (
                "journal_mode",
                "synchronous",
                "wal_autocheckpoint",
                "auto_vacuum",
                "secure_delete",
                "mmap_size",
                "trusted_schema",
                "cell_size_check",
                "foreign_keys",
                "fullfsync",
            )
        }

    assert found == {
        "journal_mode": "wal",
        "synchronous": level,
        "wal_autocheckpoint": 0,
        "auto_vacuum": 2,
        "secure_delete": 1,
        "mmap_size": 0,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "foreign_keys": 1,
        "fullfsync": 1,
    }


async def test_a_setting_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """A file made without auto_vacuum cannot be given it, so it is not opened."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.executescript(TABLE)
    with pytest.raises(sqlite3.NotSupportedError, match="auto_vacuum is 0"):
        async with Database.open(tmp_path / "x.db"):
            pass


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Bodies hold secrets: neither the file nor its WAL can be read by others."""
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == {"x.db": 0o600, "x.db-wal": 0o600, "x.db-shm": 0o600}


async def test_a_transaction_is_committed_or_rolled_back(tmp_path: Path) -> None:
    """What a function in `transact` did is stored whole; nothing of it when it raises."""
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        stored = await database.transact(insert, 1, 2)
        with pytest.raises(sqlite3.IntegrityError):
            await database.transact(insert, 3, 1)
        found = await database.run(items)

    assert stored == 2
    assert found == [1, 2]


async def test_an_open_transaction_is_rolled_back(tmp_path: Path) -> None:
    """A function that forgets its transaction does not hand it to the next one."""

    def forget(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        insert(connection, 1)

    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        await database.run(forget)
        await database.transact(insert, 2)

        assert await database.run(items) == [2]


async def test_cancelling_a_caller_does_not_stop_its_function(tmp_path: Path) -> None:
    """What was handed over runs to its end, and the connection stays usable."""
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        for number in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(database.transact, insert, number)
                for _ in range(number % 5):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await database.transact(insert, 100 + number)
        found = await database.run(items)

    assert set(range(100, 120)) <= set(found)
    assert set(range(1, 20)) - set(range(0, 20, 5)) <= set(found)


async def test_readers_cannot_write(tmp_path: Path) -> None:
    """A read-only database refuses to change anything, and does not make its file."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        async with Database.open(tmp_path / "none.db", readonly=True):
            pass
    async with (
        Database.open(tmp_path / "x.db", migrations=[TABLE]),
        Database.open(tmp_path / "x.db", readonly=True) as reader,
    ):
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await reader.run(insert, 1)


async def test_reopening_gives_a_working_connection(tmp_path: Path) -> None:
    """After `reopen` everything stored is there, with the same settings."""
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        await database.transact(insert, 1)
        await database.reopen()
        await database.transact(insert, 2)

        assert await database.run(items) == [1, 2]
        assert await database.run(pragma, "synchronous") == 2


async def test_scripts_run_once_each(tmp_path: Path) -> None:
    """Opening again runs only the scripts that are new."""
    second = "ALTER TABLE item ADD COLUMN note TEXT;"
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        await database.transact(insert, 1)
    for _ in range(2):
        async with Database.open(tmp_path / "x.db", migrations=[TABLE, second]) as database:
            assert await database.run(pragma, "user_version") == 2
            assert await database.run(items) == [1]


async def test_a_failing_script_leaves_the_last_version(tmp_path: Path) -> None:
    """A script is applied whole or not at all."""
    broken = "CREATE TABLE half(n INTEGER); CREATE TABLE item(n INTEGER);"
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        async with Database.open(tmp_path / "x.db", migrations=[TABLE, broken]):
            pass
    async with Database.open(tmp_path / "x.db", migrations=[TABLE]) as database:
        tables = await database.run(
            lambda connection: connection.execute("SELECT name FROM sqlite_schema").fetchall()
        )

    assert tables == [("item",)]


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """An older program says so and changes nothing."""
    async with Database.open(tmp_path / "x.db", migrations=[TABLE, "SELECT 1"]):
        pass
    before = (tmp_path / "x.db").read_bytes()
    with pytest.raises(LogTooNew, match="schema version 2, this program knows 1"):
        async with Database.open(tmp_path / "x.db", migrations=[TABLE]):
            pass

    assert (tmp_path / "x.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 20])
async def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Neither garbage nor another program's database is taken for ours."""
    (tmp_path / "garbage.db").write_bytes(content)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.executescript(f"PRAGMA application_id = 7; {TABLE}")
    with pytest.raises(LogDamaged, match="not a database"):
        async with Database.open(tmp_path / "garbage.db"):
            pass
    with pytest.raises(LogDamaged, match="another application"):
        async with Database.open(tmp_path / "other.db", application_id=8):
            pass

    assert (tmp_path / "garbage.db").read_bytes() == content


def test_the_private_method_in_use_is_there() -> None:
    """database.py calls one private method of aiosqlite; a new minor version must be looked at."""
    assert version("aiosqlite").startswith("0.22.")
    assert callable(aiosqlite.Connection._execute)

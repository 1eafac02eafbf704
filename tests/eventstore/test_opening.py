"""What belongs together is opened together, by one process."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from eventstore import (
    Checkpoint,
    EventLog,
    LogDamaged,
    LogDiverged,
    LogLocked,
    LogTooNew,
)
from eventstore.schema import APPLICATION_ID
from tests.eventstore.samples import created, emitted, of

OWNER = """
import json, sys, anyio
from pathlib import Path
from eventstore import EventLog, LogLocked

async def main():
    try:
        async with EventLog.open(Path(sys.argv[1])):
            print(json.dumps("open"), flush=True)
            sys.stdin.readline()
    except LogLocked as locked:
        print(json.dumps(str(locked)), flush=True)

anyio.run(main)
"""


def owner(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def say(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline()))


async def restart(directory: Path) -> None:
    async with EventLog.open(directory):
        pass


async def test_a_second_process_is_turned_away(directory: Path) -> None:
    """It says who has the log; the owner is not disturbed."""
    async with EventLog.open(directory) as log:
        with owner(directory) as second:
            answer = say(second)
        await log.append(of(emitted()))

    assert f"in use by process {os.getpid()}" in answer
    assert str(directory) in answer


async def test_a_killed_owner_leaves_no_lock(directory: Path) -> None:
    """The lock ends with its process, however that ends."""
    with owner(directory) as first:
        assert say(first) == "open"
        with pytest.raises(LogLocked, match=f"in use by process {first.pid}"):
            await restart(directory)
        first.kill()
    await restart(directory)


async def test_one_process_cannot_open_it_twice(directory: Path) -> None:
    """The lock holds within a process too, and is let go at the end."""
    async with EventLog.open(directory):
        with pytest.raises(LogLocked):
            await restart(directory)
    await restart(directory)


async def test_everything_is_for_the_owner_only(directory: Path) -> None:
    """The directory and each file in it are closed to others."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))
        paths = [directory, *directory.iterdir()]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths}

    assert set(modes) >= {"data", "log.db", "keys.db", "lock"}
    assert set(modes.values()) == {0}


async def test_an_existing_directory_keeps_its_mode(directory: Path) -> None:
    """A directory somebody made is taken as it is."""
    directory.mkdir(mode=0o750)
    await restart(directory)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o750


async def test_lost_keys_are_refused(directory: Path) -> None:
    """Without its keys the log does not start, and no new ones are made in their place."""
    await restart(directory)
    (directory / "keys.db").rename(directory / "elsewhere")
    with pytest.raises(LogDamaged, match=r"keys\.db is missing"):
        await restart(directory)
    assert not (directory / "keys.db").exists()

    (directory / "elsewhere").rename(directory / "keys.db")
    await restart(directory)


async def test_swapped_keys_are_refused(directory: Path, tmp_path: Path) -> None:
    """The keys of another log do not open this one."""
    await restart(directory)
    await restart(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "keys.db", directory / "keys.db")
    with pytest.raises(LogDamaged, match="belongs to another log"):
        await restart(directory)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"garbage" * 1000), "damaged"),
        (lambda path: _execute(path, "DELETE FROM key"), "no usable key"),
        (lambda path: _execute(path, "UPDATE key SET secret = x'00'"), "no usable key"),
        (lambda path: _execute(path, "DROP TABLE key; CREATE TABLE other(x)"), "damaged"),
    ],
    ids=["garbage", "empty", "short", "foreign"],
)
async def test_damaged_keys_are_refused(directory: Path, damage, message) -> None:  # type: ignore[no-untyped-def]
    """Whatever happened to the key file, the message says which file it is."""
    await restart(directory)
    damage(directory / "keys.db")
    with pytest.raises(LogDamaged, match=rf"keys\.db .*{message}"):
        await restart(directory)


def _execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


async def test_a_first_start_that_crashed_is_finished(directory: Path) -> None:
    """An empty key file, or keys without a log, are what a crash leaves; the next start goes on."""
    directory.mkdir()
    (directory / "keys.db").touch()
    await restart(directory)
    for path in directory.glob("log.db*"):
        path.unlink()
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))


async def test_a_newer_log_is_refused(directory: Path) -> None:
    """A log with a schema from the future is not touched."""
    await restart(directory)
    _execute(directory / "log.db", "PRAGMA user_version = 99")
    with pytest.raises(LogTooNew, match=r"log\.db has schema version 99"):
        await restart(directory)


async def test_another_programs_file_is_refused(directory: Path) -> None:
    """A database that is no log is refused, whatever its name."""
    directory.mkdir()
    _execute(directory / "log.db", "CREATE TABLE event(x)")
    with pytest.raises(LogDamaged, match="another application"):
        await restart(directory)


async def test_the_file_says_what_it_is(directory: Path) -> None:
    """The SQLite header carries our application id, for `file` and for backups."""
    await restart(directory)

    assert (directory / "log.db").read_bytes()[68:72] == APPLICATION_ID.to_bytes(4)


async def test_digests_last_for_the_life_of_the_log(directory: Path, tmp_path: Path) -> None:
    """The same text has the same digest after a restart, and another one in another log."""
    async with EventLog.open(directory) as log:
        digest, log_id = log.digest("text"), log.log_id
    async with EventLog.open(directory) as log:
        assert (log.digest("text"), log.log_id) == (digest, log_id)
        assert log.digest("texT") != digest
    async with EventLog.open(tmp_path / "other") as other:
        assert other.digest("text") != digest
        assert other.log_id != log_id
    assert len(digest) == 16


async def test_checkpoints_fit_their_log(directory: Path) -> None:
    """A checkpoint is accepted at any position of its log, after a restart too."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(), created()))
        checkpoints = [await log.checkpoint(seq) for seq in (0, 1, 2)]
        with pytest.raises(ValueError, match="position 3"):
            await log.checkpoint(3)
    async with EventLog.open(directory) as log:
        for checkpoint in checkpoints:
            await log.verify(checkpoint)

    assert [checkpoint.seq for checkpoint in checkpoints] == [0, 1, 2]
    assert len({checkpoint.leaf for checkpoint in checkpoints}) == 3


async def test_a_restored_backup_is_noticed(directory: Path, tmp_path: Path) -> None:
    """A checkpoint from after the backup does not fit: neither at once, nor when the log has grown
    past it with other events.
    """
    async with EventLog.open(directory) as log:
        await log.append(of(emitted()))
        old = await log.checkpoint(1)
    shutil.copytree(directory, tmp_path / "backup")
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(), emitted()))
        new = await log.checkpoint(3)
    shutil.rmtree(directory)
    shutil.copytree(tmp_path / "backup", directory)
    async with EventLog.open(directory) as log:
        await log.verify(old)
        with pytest.raises(LogDiverged, match="the log ends at 1, before position 3"):
            await log.verify(new)
        await log.append(of(emitted(), emitted(), emitted()))
        with pytest.raises(LogDiverged, match="another event is at position 3"):
            await log.verify(new)


async def test_a_swapped_log_is_noticed(directory: Path, tmp_path: Path) -> None:
    """A checkpoint of another log does not fit, not even at the beginning."""
    async with EventLog.open(directory) as log, EventLog.open(tmp_path / "other") as other:
        with pytest.raises(LogDiverged, match=f"of log {other.log_id}"):
            await log.verify(Checkpoint(other.log_id, 0, b""))

"""What a look over a data directory finds, and that it finds nothing in a sound one."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from eventstore import EventLog
from eventstore.checkup import Finding, State, _file_system, examine
from tests.eventstore.samples import created, emitted, failed, of


async def fill(directory: Path) -> None:
    async with EventLog.open(directory) as log:
        for n in range(100):
            named = created(f"consumers/{n}")
            await log.append(of(emitted(b"%d" % n * 50, identity=f"{n}"), named, failed()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log with a few hundred events, closed."""
    directory = tmp_path / "data"
    anyio.run(fill, directory)
    return directory


def states(directory: Path) -> dict[str, State]:
    return {finding.check: finding.state for finding in examine(directory)}


def failures(directory: Path) -> list[Finding]:
    return [finding for finding in examine(directory) if finding.state == "failure"]


def test_a_sound_directory_has_no_failures(data: Path) -> None:
    """Every check says ok, but for the version of SQLite where that is old."""
    found = states(data)
    version = found.pop("sqlite")

    assert set(found.values()) == {"ok"}
    assert version == ("ok" if sqlite3.sqlite_version_info >= (3, 51, 3) else "warning")
    assert {"integrity of log.db", "integrity of keys.db", "log and keys", "log"} <= found.keys()


async def test_it_may_run_beside_the_service(directory: Path, log: EventLog) -> None:
    """A log that is open, with its WAL, is looked over all the same."""
    await log.append(of(emitted()))

    assert await anyio.to_thread.run_sync(failures, directory) == []


def test_a_directory_without_a_log_is_no_failure(tmp_path: Path) -> None:
    """Before the first start there is nothing to check."""
    assert states(tmp_path)["files"] == "warning"
    assert states(tmp_path / "none")["files"] == "warning"


def _put(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)


def _execute(directory: Path, sql: str) -> None:
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute(sql)


HARM: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a stream's end": (
        "log",
        lambda data: _execute(data, "UPDATE stream SET version = 7 WHERE name = 'consumers/5'"),
    ),
    "a stream that is gone": (
        "log",
        lambda data: _execute(data, "UPDATE stream SET last_seq = 299 WHERE name = 'deliveries/1'"),
    ),
    "an idempotency key": ("log", lambda data: _execute(data, "UPDATE identity SET first = 999")),
    "no keys": ("log and keys", lambda data: (data / "keys.db").unlink()),
    "no secret": ("log and keys", lambda data: (data / "keys.db").write_bytes(b"")),
    "no database": ("integrity of keys.db", lambda data: (data / "keys.db").write_text("x" * 99)),
    "a manifest": (
        "archive",
        lambda data: _put(data / "archive" / "1.json", "{}"),
    ),
}


@pytest.mark.parametrize(("check", "harm"), HARM.values(), ids=list(HARM))
def test_harm_is_found(data: Path, check: str, harm: Callable[[Path], object]) -> None:
    """Each check fails when what it is about is wrong, and says what to do."""
    harm(data)
    found = {finding.check: finding for finding in failures(data)}

    assert check in found
    assert "restore the directory from a back-up" in found[check].text


def test_a_page_that_is_not_what_it_was_is_found(data: Path) -> None:
    """A flipped bit in the head of any page of log.db fails the check of its integrity."""
    path = data / "log.db"
    whole = path.read_bytes()
    missed = []
    for page in range(2, len(whole) // 4096):  # the first is the file's header, see test_opening
        if whole[page * 4096] not in (2, 5, 10, 13):
            continue  # no page of a tree: its neighbours name it
        damaged = bytearray(whole)
        damaged[page * 4096] ^= 1
        path.write_bytes(damaged)
        if "integrity of log.db" not in {finding.check for finding in failures(data)}:
            missed.append(page)
    path.write_bytes(whole)

    assert missed == []
    assert failures(data) == []


def test_files_that_others_can_read_are_a_warning(data: Path) -> None:
    """Bodies hold secrets."""
    data.chmod(0o755)
    (data / "keys.db").chmod(0o644)
    (found,) = [finding for finding in examine(data) if finding.check == "permissions"]

    assert found.state == "warning"
    assert "keys.db" in found.text


def test_a_mark_is_a_warning(data: Path) -> None:
    """A restored log waits for somebody, and doctor says so."""
    _execute(data, "INSERT INTO meta VALUES ('restored', 'position 3')")

    assert states(data)["marks"] == "warning"


def test_a_clock_that_was_set_back_is_a_warning(data: Path) -> None:
    """The log's time goes on from the newest event, but retries are planned by the clock."""
    _execute(data, "DROP TRIGGER event_only_erase")
    _execute(data, "UPDATE event SET time_us = time_us + 1e9 WHERE seq = 300")

    assert states(data)["log"] == "warning"


@pytest.mark.parametrize(
    ("kind", "state"), [("ext4", "ok"), ("nfs4", "failure"), ("fuse.sshfs", "failure")]
)
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str, state: State) -> None:
    """SQLite's locks do not hold there."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {tmp_path} {kind} rw 0 0\nc /proc proc rw 0 0\n")

    assert _file_system(tmp_path / "data", mounts).state == state

"""SIGKILL at every change of a file: an erasure is whole or not there, back-ups likewise."""

import json
import shutil
import subprocess
from pathlib import Path

import anyio
import msgspec
import pytest

from api.offline import at_rest
from eventstore import EventLog
from eventstore.backup import load
from eventstore.codec import new_event
from eventstore.events import EventEmitted
from eventstore.records import Kind
from tests.delivery.world import REFUSED, Receiver, delivering
from tests.faults import dying, tracing
from tests.service import COMMAND, environment

SECRET = b"ada.lovelace@example.com"
FILES = ("log.db", "log.db-wal", "view.db", "view.db-wal", "state.db", "state.db-wal", "keys.db")
POINTS = 12
"""How many of the changes are tried, evenly spread, with the first and the last few."""


@pytest.fixture
def strace() -> str:
    return tracing.find()


async def _fill(directory: Path) -> None:
    """Events about somebody, with parked copies, in all files; killed, so that WALs are left."""
    receiver = Receiver()
    receiver.answer = lambda _: REFUSED
    async with delivering(directory, receiver) as world:
        await world.hook(on_change=True)
        for n in range(3):
            body = EventEmitted(data=json_raw({"mail": SECRET.decode(), "n": n, "x": "x" * 5000}))
            event = new_event(body, stream="emitted/s/e", kind=Kind.EMITTED, subject="ada")
            await world.append(event)
        await world.quiet()


def json_raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with somebody in it."""
    directory = tmp_path_factory.mktemp("original") / "data"
    anyio.run(_fill, directory)
    return directory


def points(count: int) -> list[int]:
    spread = {1 + n * (count - 1) // (POINTS - 1) for n in range(POINTS)}
    return sorted(spread | {1, 2, 3} | set(range(max(1, count - 3), count + 1)))


def holding(directory: Path) -> list[str]:
    """The files with the secret in them."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(path.name for path in found if SECRET in path.read_bytes())


async def _started(directory: Path) -> int:
    """What every start does before anything is served; how many erasures the log tells of."""
    async with at_rest(directory) as rest:
        return len(await rest.log.eraser.records())


def test_a_kill_at_every_change_of_an_erasure(strace: str, original: Path, tmp_path: Path) -> None:
    """After the next start it is either finished or never was; asked again, it is finished."""
    asked = ["erase", "--subject", "ada", "--reason", "x", "--data-dir", "data"]
    data = tmp_path / "data"
    files = [data / name for name in FILES]
    shutil.copytree(original, data)
    assert holding(data) != []
    count = dying.changes(strace, tmp_path, asked, *files)
    assert holding(data) == []
    outcomes = set()
    for at in points(count):
        shutil.rmtree(data)
        shutil.copytree(original, data)
        dying.killed(strace, tmp_path, asked, at, *files)
        stored = anyio.run(_started, data)
        outcomes.add(stored > 0)

        assert (holding(data) == []) == (stored > 0), f"killed at change {at} of {count}"
        done = subprocess.run(
            [*COMMAND, *asked], cwd=tmp_path, env=environment(), check=True, capture_output=True
        )
        assert json.loads(done.stdout)["erased"] == (0 if stored else 6)
        assert holding(data) == []

    assert outcomes == {True, False}


def test_a_kill_at_every_change_of_a_backup(strace: str, original: Path, tmp_path: Path) -> None:
    """There is a whole back-up under the name, or none; and the next one succeeds."""
    shutil.copytree(original, tmp_path / "data")
    asked = ["backup", "saved", "--data-dir", "data"]
    count = dying.changes(strace, tmp_path, asked)
    for at in points(count):
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        dying.killed(strace, tmp_path, asked, at)
        if (tmp_path / "saved").exists():
            load(tmp_path / "saved")
        else:
            subprocess.run(
                [*COMMAND, *asked], cwd=tmp_path, env=environment(), check=True, capture_output=True
            )
    restored = subprocess.run(
        [*COMMAND, "restore", "saved", "again"],
        cwd=tmp_path,
        env=environment(),
        check=True,
        capture_output=True,
    )

    assert json.loads(restored.stdout)["head"] > 3


def test_a_kill_at_every_change_of_a_restore(strace: str, original: Path, tmp_path: Path) -> None:
    """The directory has everything, with later erasures, or is not there."""
    shutil.copytree(original, tmp_path / "data")
    for arguments in (
        ["backup", "saved", "--data-dir", "data"],
        ["erase", "--subject", "ada", "--reason", "x", "--data-dir", "data"],
    ):
        subprocess.run(
            [*COMMAND, *arguments], cwd=tmp_path, env=environment(), check=True, capture_output=True
        )
    asked = ["restore", "saved", "again", "--erasures", "data"]
    count = dying.changes(strace, tmp_path, asked)
    assert holding(tmp_path / "again") == []
    for at in points(count):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        dying.killed(strace, tmp_path, asked, at)
        if (tmp_path / "again").exists():
            assert holding(tmp_path / "again") == []
            assert anyio.run(_mark, tmp_path / "again") is not None
        else:
            subprocess.run(
                [*COMMAND, *asked], cwd=tmp_path, env=environment(), check=True, capture_output=True
            )
            assert holding(tmp_path / "again") == []


async def _mark(directory: Path) -> str | None:
    async with EventLog.open(directory) as log:
        return log.restored

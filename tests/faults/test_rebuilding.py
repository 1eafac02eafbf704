"""SIGKILL at every change of a file: read models are swapped whole, or stay as they were."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from tests.delivery.world import REFUSED, Receiver, delivering
from tests.faults import dying, tracing
from tests.service import COMMAND, environment

FILES = ("view.db", "view.db-wal", "view.db-shm", "rebuild.db", "rebuild.db-wal")
POINTS = 12
"""How many of the changes are tried, evenly spread, with the first and the last few."""

REBUILD = ["rebuild", "--data-dir", "data"]
DIFFERED = 1
"""The exit code when something was swapped in."""


@pytest.fixture
def strace() -> str:
    return tracing.find()


async def _fill(directory: Path) -> None:
    """Hooks and facts about deliveries, enough for the read models to take several pages."""
    receiver = Receiver()
    receiver.answer = lambda _: REFUSED
    async with delivering(directory, receiver) as world:
        for name in range(20):
            await world.hook(str(name))
        await world.emit(*({"n": n} for n in range(10)))
        await world.quiet()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose read models have lost something: there is a difference to swap in."""
    directory = tmp_path_factory.mktemp("original") / "data"
    anyio.run(_fill, directory)
    rebuild(directory.parent, *REBUILD)
    with closing(sqlite3.connect(directory / "view.db")) as connection:
        connection.execute("DELETE FROM item WHERE model = 'hooks' AND key > '1'")
        connection.commit()
    return directory


def rebuild(directory: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*COMMAND, *arguments], cwd=directory, env=environment(), check=False, capture_output=True
    )


def items(data: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(data / "view.db")) as connection:
        query = "SELECT model, key FROM item ORDER BY model, key"
        return [(str(model), str(key)) for model, key in connection.execute(query)]


def points(count: int) -> list[int]:
    spread = {1 + n * (count - 1) // (POINTS - 1) for n in range(POINTS)}
    return sorted(spread | {1, 2, 3} | set(range(max(1, count - 3), count + 1)))


def test_a_kill_at_every_change_of_a_swap(strace: str, damaged: Path, tmp_path: Path) -> None:
    """Afterwards there are the old items or the new ones, and a second rebuild makes it good."""
    data = tmp_path / "data"
    files = [data / name for name in FILES]
    old = items(damaged)
    shutil.copytree(damaged, data)
    count = dying.changes(strace, tmp_path, REBUILD, *files, code=DIFFERED)
    new = items(data)
    seen = set()
    for at in points(count):
        shutil.rmtree(data)
        shutil.copytree(damaged, data)
        dying.killed(strace, tmp_path, REBUILD, at, *files)
        left = items(data)
        seen.add(left == new)

        assert left in (old, new), f"killed at change {at} of {count}"
        assert rebuild(tmp_path, *REBUILD).returncode == (0 if left == new else DIFFERED)
        assert rebuild(tmp_path, *REBUILD, "--verify").returncode == 0

    assert seen == {False, True}

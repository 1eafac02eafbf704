"""SIGKILL at every step of a compaction, and at random moments: it is finished, nothing is lost."""

import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from api.offline import compacting
from delivery.outcome import Outcome
from eventstore import EventLog, decode
from eventstore.archive import Archive
from eventstore.events import COMPACTION_STREAM, CompactionFinished
from tests.delivery.world import (
    REFUSED,
    Receiver,
    World,
    delivering,
    lose_state,
    lose_view,
    until,
)
from tests.service import environment

SCRIPT = Path(__file__).parent / "compacting.py"
EVENTS = 6_000
RANDOM = 6


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped service with settled, parked and remembered deliveries, some thousand events."""
    directory = tmp_path_factory.mktemp("original") / "data"
    anyio.run(_fill, directory)
    return directory


async def _fill(directory: Path) -> None:
    receiver = Receiver()
    receiver.answer = lambda delivery: REFUSED if delivery.data["n"] == 3 else Outcome(ok=True)
    async with delivering(directory, receiver) as world:
        await world.hook(on_change=True)
        await world.hook("gone")
        await world.emit(*({"n": n} for n in (1, 1, 2, 3, 4)))
        await world.quiet()
        await world.delete("gone")
        for _ in range(0, EVENTS, 1000):
            await world.emit(*[{}] * 1000, source="unheard")
        await world.quiet()
        await world.stop()


def killed(directory: Path, count: int) -> list[str]:
    """What a compaction reported until it killed itself, or ended."""
    done = subprocess.run(
        [sys.executable, SCRIPT, directory, str(count)],
        env=environment(),
        capture_output=True,
        check=False,
    )

    assert done.returncode in (0, -9), done.stderr.decode()
    return done.stdout.decode().splitlines()


def killed_after(directory: Path, seconds: float) -> None:
    """A compaction that gets so long after its first report."""
    with subprocess.Popen(
        [sys.executable, SCRIPT, directory, "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()


async def survives(directory: Path, expected: dict[str, Any]) -> None:
    """Resumed, with all that can be rebuilt deleted, it comes to the same as if never killed."""
    with anyio.fail_after(60):
        async with compacting(directory) as compaction:
            await compaction.resume(lambda *_: None)
    lose_state(directory)
    lose_view(directory)
    found = await essence(directory)

    assert found == expected


async def essence(directory: Path) -> dict[str, Any]:
    """Everything that must not depend on where a compaction was interrupted."""
    receiver = Receiver()
    async with delivering(directory, receiver) as world:
        await world.quiet()
        outbox = world.outbox()
        await until(lambda: not outbox.running)
        bodies = await whole(world)
        return {
            "memory": dict(outbox.memory),
            "parked": sorted(outbox.parked),
            "open": sorted(outbox.open),
            "hooks": [hook.id for hook in world.hooks.all()],
            "sent again": receiver.seqs(),
            "history": [b for b in bodies if b[1] != "system" and b[2] != "delivery_parked"],
        }


async def whole(world: World) -> list[tuple[int, str, str, bytes | None]]:
    """The archive and the log together, without a hole."""
    log = world.log
    archive = Archive(log.path.parent / "archive", log.log_id)
    events = await anyio.to_thread.run_sync(lambda: list(archive.events()))
    events = [event for event in events if event.seq < log.first]
    while page := await log.read(events[-1].seq if events else 0):
        events += page

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [(e.seq, e.stream.partition("/")[0], e.type, e.body) for e in events]


async def finished(directory: Path) -> list[CompactionFinished]:
    async with EventLog.open(directory) as log:
        bodies = [decode(event) for event in await log.read_stream(COMPACTION_STREAM)]
        return [body for body in bodies if isinstance(body, CompactionFinished)]


async def test_a_kill_at_every_step(original: Path, tmp_path: Path) -> None:
    """Each report of the compaction is its last one once."""
    expected = await essence(shutil.copytree(original, tmp_path / "never"))
    reports = killed(shutil.copytree(original, tmp_path / "whole"), 0)
    steps = {report.partition(" ")[0] for report in reports}

    assert steps == {"ready", "archive", "snapshot", "prove", "truncate", "finish"}
    assert len(reports) > len(steps) + 3, "several chunks are archived and truncated"
    for count in range(1, len(reports) + 1):
        directory = shutil.copytree(original, tmp_path / str(count))
        assert len(killed(directory, count)) == count
        await survives(directory, expected)
        assert len(await finished(directory)) == 1
        shutil.rmtree(directory)


async def test_kills_at_random_moments(original: Path, tmp_path: Path) -> None:
    """Also several times in a row, on the way of resuming."""
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)  # noqa: S311
    expected = await essence(shutil.copytree(original, tmp_path / "never"))
    directory = shutil.copytree(original, tmp_path / "killed")
    for _ in range(RANDOM):
        killed_after(directory, chance.random() / 3)

    await survives(directory, expected)

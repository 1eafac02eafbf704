"""The process is killed or its disk fails: nothing acknowledged is lost, nothing is doubled."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from eventstore import EventLog, RecordedEvent
from tests.eventstore.appending import request
from tests.eventstore.checker import Story, faults

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "appending.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
KILLS = 12

Line = tuple[str, str, tuple[int, ...]]


def story_of(lines: Iterable[Line]) -> Story:
    story = Story(set(), {})
    for word, name, positions in lines:
        if word == "try":
            story.tried.add(name)
        elif word == "ack":
            story.acknowledged[name] = list(positions)
    return story


def lines_of(output: bytes) -> list[Line]:
    """The last line may be cut by the kill."""
    return [tuple(json.loads(line)) for line in output.splitlines(keepends=True) if b"]\n" in line]


async def whole(log: EventLog) -> list[RecordedEvent]:
    events: list[RecordedEvent] = []
    while page := await log.read(len(events)):
        events += page
    return events


def killed(directory: Path, seconds: float) -> list[Line]:
    """What a process said that was killed so long after its first word."""
    with subprocess.Popen(
        [sys.executable, SCRIPT, directory, "16", "100000"],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.readline()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            output += process.stdout.readline()
        process.kill()
        return lines_of(output + process.stdout.read())


async def test_kills_lose_and_double_nothing(directory: Path) -> None:
    """SIGKILL at random moments under load. Afterwards every request is sent again: all is there
    exactly once, whole, without a hole, in order.
    """
    seed = random.randrange(2**32)  # noqa: S311 - it only has to be repeatable
    chance = random.Random(seed)  # noqa: S311
    story = story_of(line for _ in range(KILLS) for line in killed(directory, chance.random() / 3))
    async with EventLog.open(directory) as log:
        after_kills = faults(story, await whole(log))
        for name in story.tried:
            story.acknowledged[name] = list((await log.append(request(name))).positions)
        after_retries = faults(story, await whole(log))

    assert (after_kills, after_retries) == ([], []), f"seed {seed}"
    assert len(story.acknowledged) == len(story.tried) > KILLS


def without(events: list[RecordedEvent], seq: int) -> list[RecordedEvent]:
    return [event for event in events if event.seq != seq]


def swapped(events: list[RecordedEvent]) -> list[RecordedEvent]:
    return [*events[:4], events[5], events[4], *events[6:]]


def doubled(events: list[RecordedEvent]) -> list[RecordedEvent]:
    copies = enumerate(events[:2], start=len(events) + 1)
    return events + [msgspec.structs.replace(event, seq=seq) for seq, event in copies]


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda events: without(events, 5), "position 6 where 5 was expected"),
        (lambda events: events[:-2], "acknowledged at 19 and is not there"),
        (swapped, "time or id goes back"),
        (doubled, "is stored 2 times"),
        (lambda events: events[:-1], "is stored in part"),
        (lambda events: without(events, 7), "emitted/source/event: version 4 where 3 was expected"),
    ],
)
async def test_the_checker_can_fail(
    log: EventLog, harm: Callable[[list[RecordedEvent]], list[RecordedEvent]], complaint: str
) -> None:
    """An event lost, doubled or moved is reported, and a healthy log is not."""
    names = [f"0/0/{number}" for number in range(10)]
    story = Story(set(names), {})
    for name in names:
        story.acknowledged[name] = list((await log.append(request(name))).positions)
    events = await whole(log)

    assert faults(story, events) == []
    assert any(complaint in fault for fault in faults(story, harm(events)))


async def test_the_checker_knows_what_was_never_tried(log: EventLog) -> None:
    """An event nobody asked for is reported."""
    await log.append(request("0/0/0"))

    assert faults(Story(set(), {}), await whole(log)) == ["0/0/0 was never tried"]


def with_failing_disk(directory: Path, when: str, count: int) -> list[Line]:
    """Appends one after another while fdatasync fails as `when` says: see strace(1). It counts
    in each thread, and the log makes a new one when it reopens its file.
    """
    if shutil.which("strace") is None:
        assert "CI" not in os.environ, "strace is needed to prove what a failing disk does"
        pytest.skip("strace is not installed")
    trace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fdatasync"]
    inject = ["-e", f"inject=fdatasync:error=EIO:when={when}"]
    completed = subprocess.run(
        [*trace, *inject, sys.executable, SCRIPT, directory, "1", str(count)],
        capture_output=True,
        env=ENVIRONMENT,
        check=True,
        timeout=60,
    )
    return lines_of(completed.stdout)


async def test_a_failed_fsync_is_an_unknown_outcome(directory: Path) -> None:
    """Neither acknowledged nor refused; sent again it is stored exactly once, in the same process,
    and the appends after it are none the wiser.
    """
    lines = with_failing_disk(directory, "25", 25)
    async with EventLog.open(directory) as log:
        found = faults(story_of(lines), await whole(log))

    assert Counter(word for word, _, _ in lines) == {"try": 26, "unknown": 1, "ack": 25}
    assert found == []


async def test_a_disk_that_keeps_failing_stops_the_log(directory: Path) -> None:
    """After the second failure in a row appends are refused, and reading goes on. A restart finds
    all that was acknowledged, and takes the doubtful request again, once.
    """
    before = with_failing_disk(directory, "1000", 5)
    failing = with_failing_disk(directory, "1+", 5)
    story = story_of(before + failing)
    doubtful = failing[0][1]
    async with EventLog.open(directory) as log:
        after_restart = faults(story, await whole(log))
        story.acknowledged[doubtful] = list((await log.append(request(doubtful))).positions)
        after_retry = faults(story, await whole(log))

    assert [word for word, _, _ in failing if word != "try"] == [
        *["unknown"] * 2,
        *["unavailable"] * 4,
    ]
    assert (after_restart, after_retry) == ([], [])

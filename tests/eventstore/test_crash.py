"""The process is killed or its disk fails: nothing acknowledged is lost, nothing is doubled."""

import json
import os
import random
import re
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
        elif word == "unavailable":
            story.refused.add(name)
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


async def test_the_checker_knows_what_should_not_be_there(log: EventLog) -> None:
    """An event nobody asked for, or that was refused, is reported."""
    await log.append(request("0/0/0"))
    await log.append(request("0/0/1"))

    assert faults(Story({"0/0/1"}, {}, {"0/0/1"}), await whole(log)) == [
        "0/0/0 was never tried",
        "0/0/1 was refused and is there",
    ]


def traced(directory: Path, count: int, *options: str | Path) -> tuple[list[Line], bytes]:
    """What a process says and logs that appends one request after another under strace(1)."""
    if shutil.which("strace") is None:
        assert "CI" not in os.environ, "strace is needed to prove what a failing disk does"
        pytest.skip("strace is not installed")
    completed = subprocess.run(
        ["strace", "-f", "-qq", *options, sys.executable, SCRIPT, directory, "1", str(count)],
        capture_output=True,
        env=ENVIRONMENT,
        check=True,
        timeout=60,
    )
    return lines_of(completed.stdout), completed.stderr


def with_failing_disk(
    directory: Path, fault: str, count: int, file: str = ""
) -> tuple[list[Line], bytes]:
    """The same while system calls fail as `fault` says: it counts calls in each thread, and the log
    makes a new thread when it reopens its file. With `file`, only calls on that file fail.
    """
    options = ["-o", os.devnull, f"-etrace={fault.partition(':')[0]}", f"-einject={fault}"]
    return traced(directory, count, *options, *(["-P", str(directory / file)] if file else []))


async def test_every_answer_comes_after_an_fsync(directory: Path, tmp_path: Path) -> None:
    """Between two acknowledgements the WAL was synced to the disk, and successfully."""
    traced(directory, 20, "-o", tmp_path / "trace", "-y", "-etrace=fdatasync,write")
    trace = (tmp_path / "trace").read_text(errors="replace").splitlines()
    steps = [
        "ack" if "write(1<" in line else "sync"
        for line in trace
        if ("write(1<" in line and "ack" in line)
        or re.search(r"fdatasync(\(.*log\.db-wal>| resumed>)\) += 0", line)
    ]
    between = "".join(step[0] for step in steps).split("a")

    assert len(between) == 21
    assert all("s" in syncs for syncs in between[:-1])


async def test_a_failed_fsync_is_an_unknown_outcome(directory: Path) -> None:
    """Neither acknowledged nor refused; sent again it is stored exactly once, in the same process,
    and the appends after it are none the wiser.
    """
    lines, _ = with_failing_disk(directory, "fdatasync:error=EIO:when=25", 25)
    async with EventLog.open(directory) as log:
        found = faults(story_of(lines), await whole(log))

    assert Counter(word for word, _, _ in lines) == {"try": 26, "unknown": 1, "ack": 25}
    assert found == []


async def test_a_disk_that_keeps_failing_stops_the_log(directory: Path) -> None:
    """After the second failure in a row appends are refused, and reading goes on. A restart finds
    all that was acknowledged, and takes the doubtful request again, once.
    """
    before, _ = with_failing_disk(directory, "fdatasync:error=EIO:when=1000", 5)
    failing, _ = with_failing_disk(directory, "fdatasync:error=EIO:when=1+", 5)
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


async def test_a_disk_that_fills_up_and_empties_is_survived(directory: Path) -> None:
    """No space for the WAL in the middle of COMMIT: refused, not stored, and stored again as soon
    as there is space, in the same process.
    """
    lines, _ = with_failing_disk(
        directory, "pwrite64:error=ENOSPC:when=60..75", 60, file="log.db-wal"
    )
    story = story_of(lines)
    async with EventLog.open(directory) as log:
        found = faults(story, await whole(log))

    assert found == []
    assert story.refused
    assert len(story.refused) + len(story.acknowledged) == 60
    assert lines[-1][0] == "ack"


@pytest.mark.parametrize(
    ("fault", "report"),
    [
        ("pwrite64:error=ENOSPC:when=1+", b"the WAL cannot be moved into the file"),
        ("fdatasync:error=EIO:when=1+", b"the log could not be written"),
    ],
    ids=["full", "broken"],
)
async def test_a_checkpoint_that_fails_loses_nothing(
    directory: Path, fault: str, report: bytes
) -> None:
    """When the file itself cannot be written, the WAL holds everything, and appends go on."""
    async with EventLog.open(directory) as log:
        await log.append(request("0/0/0"))
    lines, reports = with_failing_disk(directory, fault, 600, file="log.db")
    story = story_of([("try", "0/0/0", ()), *lines])
    async with EventLog.open(directory) as log:
        found = faults(story, await whole(log))

    assert found == []
    assert report in reports
    assert len(story.acknowledged) == 600
    assert "unknown" not in {word for word, _, _ in lines}

"""Archived segments: what they hold, that they can be read back, and that nothing false is."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from eventstore import EventLog, LogDamaged, RecordedEvent, Truncated, archive as archives
from eventstore.archive import Archive
from tests.eventstore.samples import created, emitted, of

COUNT = 50


class Stored:
    """A log's events, and its archive with two segments of them."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "log.db"
        self.folder = directory / "archive"
        self.events: list[RecordedEvent] = []
        anyio.run(self._fill, directory)
        self.archive = Archive(self.folder, self.log_id)
        self.archive.write(self.path, 0, 30)
        self.archive.write(self.path, 30, 40)

    async def _fill(self, directory: Path) -> None:
        async with EventLog.open(directory) as log:
            self.log_id = log.log_id
            body = '{"data":{"text":"żółć \\n 你"}}'.encode()
            pair = (emitted(body, subject="ada"), created())
            await log.append(of(*pair * (COUNT // 2)))
            self.events = await log.read(0)


@pytest.fixture
def stored(directory: Path) -> Stored:
    return Stored(directory)


def test_it_reads_back_what_the_log_held(stored: Stored) -> None:
    """Whole, from anywhere, in pages, and no further than it goes."""
    archive = stored.archive

    assert list(archive.events()) == stored.events[:40]
    assert list(archive.events(35)) == stored.events[35:40]
    assert archive.read(25, 10) == stored.events[25:35]
    assert archive.read(39, 10) == stored.events[39:40]
    assert archive.read(40) == []


def test_a_segment_is_what_the_manifest_says(stored: Stored) -> None:
    """By position, with names that sort like positions."""
    names = sorted(path.name for path in stored.folder.iterdir())

    assert [(each.first, each.last) for each in stored.archive.segments()] == [(1, 30), (31, 40)]
    assert names == [
        "000000000001.json",
        "000000000001.jsonl.gz",
        "000000000031.json",
        "000000000031.jsonl.gz",
    ]
    assert {path.stat().st_mode & 0o777 for path in stored.folder.iterdir()} == {0o600}


def test_writing_again_writes_nothing(stored: Stored) -> None:
    """What a crash left complete is kept, after it was compared with the log."""
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in stored.folder.iterdir()}
    again = stored.archive.write(stored.path, 0, 30)

    assert again == stored.archive.segments()[0]
    assert before == {
        path: (path.read_bytes(), path.stat().st_ino) for path in stored.folder.iterdir()
    }


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [cut, flip, remove])
def test_half_a_segment_is_not_accepted(stored: Stored, harm: Callable[[Path], None]) -> None:
    """Reading refuses it, and writing again mends it while the log still has the events."""
    harm(stored.folder / "000000000031.jsonl.gz")
    with pytest.raises(LogDamaged, match="000000000031"):
        list(stored.archive.events())
    stored.archive.write(stored.path, 30, 40)

    assert list(stored.archive.events()) == stored.events[:40]


def test_an_intact_archive_has_no_problems(stored: Stored) -> None:
    """Every event in it is the one that the audit knows, as far as it knows any."""
    leaves = {line.seq: line.leaf for line in stored.archive.lines()}

    assert list(stored.archive.check(leaves.get)) == []
    assert list(stored.archive.check(lambda _seq: None)) == []


@pytest.mark.parametrize("harm", [cut, flip, remove])
def test_a_harmed_segment_is_named_with_its_positions(
    stored: Stored, harm: Callable[[Path], None]
) -> None:
    """And the others are checked all the same."""
    harm(stored.folder / "000000000001.jsonl.gz")
    problems = list(stored.archive.check(lambda seq: b"other" if seq == 35 else None))

    assert problems[0].endswith("(positions 1 to 30)")
    assert problems[1:] == ["position 35: the archive holds another event"]


def test_a_harmed_manifest_is_a_problem(stored: Stored) -> None:
    """Without it nobody knows what the file should be."""
    (stored.folder / "000000000031.json").write_text("{}")
    (problem,) = stored.archive.check(lambda _seq: None)

    assert "is no manifest" in problem


def test_a_segment_without_a_manifest_does_not_count(stored: Stored) -> None:
    """It is written last: before that, nothing was promised."""
    (stored.folder / "000000000031.json").unlink()

    assert list(stored.archive.events()) == stored.events[:30]


def test_a_damaged_manifest_is_refused(stored: Stored) -> None:
    """Nobody guesses what it said."""
    (stored.folder / "000000000031.json").write_text("{}")

    with pytest.raises(LogDamaged, match="no manifest"):
        stored.archive.segments()


def test_another_logs_segments_are_refused(stored: Stored) -> None:
    """Its positions mean something else."""
    with pytest.raises(LogDamaged, match="is of log"):
        Archive(stored.folder, "another").segments()


def test_a_gap_is_no_silent_skip(stored: Stored) -> None:
    """Whoever moved the older segments away is told where the rest begins."""
    (stored.folder / "000000000001.json").unlink()

    with pytest.raises(Truncated) as refused:
        stored.archive.read(0)
    assert refused.value.first == 31
    assert stored.archive.read(30) == stored.events[30:40]


def test_what_was_not_truncated_is_taken_back(stored: Stored) -> None:
    """Older segments stay."""
    stored.archive.discard(31)

    assert list(stored.archive.events()) == stored.events[:30]
    assert len(list(stored.folder.iterdir())) == 2


def test_a_damaged_log_is_not_archived(stored: Stored) -> None:
    """There must be as many events as positions."""
    with pytest.raises(LogDamaged):
        stored.archive.write(stored.path, 40, COUNT + 1)


@pytest.mark.parametrize(
    ("first", "floor", "expected"),
    [
        (1, 1, []),
        (1, 2, [(0, 1)]),
        (5, archives.EVENTS, [(4, archives.EVENTS - 1)]),
        (1, archives.EVENTS + 2, [(0, archives.EVENTS), (archives.EVENTS, archives.EVENTS + 1)]),
    ],
)
def test_ranges_of_segments(first: int, floor: int, expected: list[tuple[int, int]]) -> None:
    """Without holes or overlaps, up to right before the floor."""
    assert list(archives.ranges(first, floor)) == expected

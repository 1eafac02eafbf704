"""Bytes change in the files, and `inspect` finds them and says where."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from eventstore import LogDamaged
from eventstore.archive import Archive
from eventstore.inspection import inspect
from tests.eventstore.audited import grow, log_with_everything
from tests.eventstore.samples import truncate

SIZE = 700


class Cell(NamedTuple):
    """Where a row is in its file: the cell's header, and the values of its columns."""

    start: int
    values: int
    end: int


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that nobody changes."""
    return log_with_everything(tmp_path_factory.mktemp("whole") / "data", SIZE - 10)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "data"


def flipped(whole: Path, work: Path, name: str, byte: int, bit: int) -> list[str]:
    """What is found when one bit of a file is another."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work)
    content = bytearray((work / name).read_bytes())
    content[byte] ^= 1 << bit
    (work / name).write_bytes(content)
    return inspect(work).problems


def varint(value: int) -> int:
    """How many bytes SQLite takes for a number."""
    return max(1, -(-value.bit_length() // 7))


def cell(directory: Path, seq: int) -> Cell:
    """The row's cell, found by its leaf hash. Its body is small, so that nothing overflows."""
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        *before, leaf, body = connection.execute(
            "SELECT stream, version, event_id, type, schema_version, kind, time_us, wall_us, "
            "workspace, actor, request_id, subject, salt, body_digest, leaf, body "
            "FROM event WHERE seq = ?",
            (seq,),
        ).fetchone()
    content = (directory / "log.db").read_bytes()
    place = content.index(leaf)
    values = place - sum(size(value) for value in before)
    header = 1 + sum(varint(serial(value)) for value in (None, *before, leaf, body))
    payload = header + sum(size(value) for value in (*before, leaf, body))
    return Cell(
        values - header - varint(seq) - varint(payload), values, place + len(leaf) + len(body)
    )


def size(value: object) -> int:
    """Bytes of a value in SQLite's record format."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    return (0, 1, 2, 3, 4, 6, 8, 0, 0, 0)[serial(value)]


def serial(value: object) -> int:
    """The serial type of a value in SQLite's record format."""
    if value is None:
        return 0
    if isinstance(value, int):
        if value in (0, 1):
            return 8 + value
        return next(n for n, bits in enumerate((7, 15, 23, 31, 47, 63), 1) if not value >> bits)
    if isinstance(value, str):
        return 13 + 2 * len(value.encode())
    assert isinstance(value, bytes)
    return 12 + 2 * len(value)


def test_a_whole_log_has_no_problems(whole: Path) -> None:
    """And it is said what was looked at."""
    done: list[tuple[int, int]] = []
    found = inspect(whole, lambda *progress: done.append(progress))

    assert (found.first, found.head, found.size, found.problems) == (1, SIZE, SIZE, [])
    assert found.checkpoints == 1
    assert done[-1] == (SIZE, SIZE)


@settings(max_examples=150)
@given(data=st.data())
def test_a_flipped_bit_in_an_event_is_found(data: st.DataObject, whole: Path, work: Path) -> None:
    """In any column of any row: the position is named, and no other."""
    seq = data.draw(st.integers(1, SIZE))
    place = cell(whole, seq)
    byte = data.draw(st.integers(place.values, place.end - 1))
    problems = flipped(whole, work, "log.db", byte, data.draw(st.integers(0, 7)))

    assert {re.split(r"[: ]", problem)[1] for problem in problems} == {str(seq)}


@settings(max_examples=50)
@given(data=st.data())
def test_a_flipped_bit_around_an_event_is_found(
    data: st.DataObject, whole: Path, work: Path
) -> None:
    """In the lengths and types before the columns, and in the position itself.

    A few bits are not read at all, such as one of the type of the position, which is stored twice.
    """
    seq = data.draw(st.integers(1, SIZE))
    place = cell(whole, seq)
    byte = data.draw(st.integers(place.start, place.values - 1))
    problems = flipped(whole, work, "log.db", byte, data.draw(st.integers(0, 7)))

    found = any(problem.startswith("position ") for problem in problems)
    assert found or (not problems and rows(work) == rows(whole))


def rows(directory: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        return connection.execute("SELECT * FROM event ORDER BY seq").fetchall()


def hashes(directory: Path, sql: str) -> list[bytes]:
    with closing(sqlite3.connect(directory / "audit.db")) as connection:
        tiles = [tile for (tile,) in connection.execute(sql)]
    return [tile[start : start + 32] for tile in tiles for start in range(0, len(tile), 32)]


@settings(max_examples=50)
@given(data=st.data())
def test_a_flipped_bit_in_a_tile_is_found(data: st.DataObject, whole: Path, work: Path) -> None:
    """The tile is named, and the position whose leaf it is."""
    content = (whole / "audit.db").read_bytes()
    found = hashes(whole, "SELECT hashes FROM tile WHERE level = 0 ORDER BY number")
    index = data.draw(st.sampled_from([n for n, leaf in enumerate(found) if leaf in content]))
    byte = content.index(found[index]) + data.draw(st.integers(0, 31))
    problems = flipped(whole, work, "audit.db", byte, data.draw(st.integers(0, 7)))

    named = f"position {index + 1}: tile 0/{index // 256} holds another leaf than the log"
    assert problems[0] == named


def test_a_flipped_bit_in_an_upper_tile_is_found(whole: Path, work: Path) -> None:
    """Both tiles are named, and the positions below."""
    content = (whole / "audit.db").read_bytes()
    (_, upper) = hashes(whole, "SELECT hashes FROM tile WHERE level = 1")
    problems = flipped(whole, work, "audit.db", content.index(upper), 3)

    assert problems[0] == "tile 0/1 and tile 1/0 above it differ (positions 257 to 512)"
    assert problems[1].startswith(f"the checkpoint of {SIZE} events: the tree has another root")


@settings(max_examples=50)
@given(data=st.data())
def test_a_flipped_bit_in_a_checkpoint_is_found(
    data: st.DataObject, whole: Path, work: Path
) -> None:
    """Its size is named."""
    with closing(sqlite3.connect(whole / "audit.db")) as connection:
        ((note,),) = connection.execute("SELECT note FROM checkpoint").fetchall()
    start = (whole / "audit.db").read_bytes().index(note.encode())
    byte = start + data.draw(st.integers(0, len(note.encode()) - 1))
    problems = flipped(whole, work, "audit.db", byte, data.draw(st.integers(0, 7)))

    assert len(problems) == 1
    assert "checkpoint" in problems[0]


def edit(directory: Path, name: str, *statements: str) -> None:
    with closing(sqlite3.connect(directory / name)) as connection, connection:
        for trigger in ("event_only_truncate", "event_only_erase"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            connection.execute(statement)


def test_a_missing_event_is_found(directory: Path) -> None:
    """In the middle, and at the end where only the tree remembers it."""
    log_with_everything(directory)
    edit(directory, "log.db", "DELETE FROM event WHERE seq IN (4, 10)")

    assert inspect(directory).problems == [
        "position 4 is missing from the log",
        "position 10 is missing from the log",
    ]


def test_a_missing_tile_is_found(directory: Path) -> None:
    """With the positions whose hashes are gone."""
    log_with_everything(directory, 600)
    edit(directory, "audit.db", "DELETE FROM tile WHERE level = 0 AND number = 1")

    assert inspect(directory).problems == [
        "tile 0/1 is missing from audit.db (positions 257 to 512)"
    ]


def test_a_rewritten_past_is_found(directory: Path) -> None:
    """Rows and tiles agree with each other, but not with what was signed."""
    log_with_everything(directory)
    edit(
        directory,
        "log.db",
        "DELETE FROM event WHERE seq = 10",
        "INSERT INTO event SELECT 10, stream, version + 9, event_id, type, schema_version, kind, "
        "time_us, wall_us, workspace, actor, request_id, subject, salt, body_digest, leaf, body "
        "FROM event WHERE seq = 5",
    )

    assert inspect(directory).problems[0].startswith("position 10: the leaf is not the hash")


def test_what_was_compacted_away_is_checked_by_its_tiles(directory: Path) -> None:
    """A leaf that only a tile still has: the tile above disagrees."""
    log_with_everything(directory, 600)
    truncate(directory, 512)
    grow(directory, 3)
    assert inspect(directory).problems == []
    edit(
        directory,
        "audit.db",
        "UPDATE tile SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) "
        "WHERE level = 0 AND number = 0",
    )

    assert inspect(directory).problems == [
        "tile 0/0 and tile 1/0 above it differ (positions 1 to 256)"
    ]


def test_a_log_may_be_compacted_meanwhile(directory: Path) -> None:
    """What is gone is no damage; what is left is looked at."""
    log_with_everything(directory, 2990)
    edit(directory, "log.db", "UPDATE event SET actor = 'me' WHERE seq = 2800")
    found = inspect(directory, lambda _done, _total: truncate(directory, 2500))

    assert found.problems == ["position 2800: the leaf is not the hash of the event"]


def test_a_log_may_grow_meanwhile(directory: Path) -> None:
    """What came later is no damage either."""
    log_with_everything(directory)
    found = inspect(directory, lambda _done, _total: grow(directory, 300))

    assert found.problems == []
    assert inspect(directory).size == 310


def test_a_lost_tree_ends_the_list_after_a_hundred(directory: Path) -> None:
    """Nobody reads a million lines."""
    log_with_everything(directory, 300)
    edit(directory, "log.db", "UPDATE event SET actor = 'me'")

    assert len(inspect(directory).problems) == 100


@pytest.mark.parametrize("name", ["log.db", "audit.db"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    """Nothing is made in its place."""
    log_with_everything(directory)
    (directory / name).unlink()

    with pytest.raises(LogDamaged, match=f"there is no {name}"):
        inspect(directory)


def test_a_flipped_bit_in_the_archive_is_found(directory: Path) -> None:
    """With the positions that the file holds."""
    log_with_everything(directory, 30)
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        (log_id,) = connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
    archived = Archive(directory / "archive", log_id).write(directory / "log.db", 0, 20)
    path = directory / "archive" / archived.name
    whole = inspect(directory).problems
    harmed = bytearray(path.read_bytes())
    harmed[len(harmed) // 2] ^= 1
    path.write_bytes(harmed)
    problems = inspect(directory).problems

    assert whole == []
    assert [problem.rpartition(" (")[2] for problem in problems] == ["positions 1 to 20)"]

"""The tree over the log: built while it grows, and again from nothing."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from hypothesis import given, strategies as st

from eventstore import Append, EventLog, LogDamaged, LogUnavailable, merkle, notes, tiles
from eventstore.audit_source import bring_up_to_date
from eventstore.auditor import Auditor
from eventstore.errors import LogError
from tests.eventstore.samples import created, emitted, of, truncate

ROOT = Path(__file__).parents[2]

FOLLOWING = """
import sys, anyio
from pathlib import Path
from eventstore import EventLog
from eventstore.auditor import Auditor
from tests.eventstore.samples import emitted, of

async def main(directory):
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        while True:
            await log.append(of(*[emitted()] * 100))
            await auditor.catch_up()
            print(auditor.size, flush=True)

anyio.run(main, Path(sys.argv[1]))
"""


async def fill(log: EventLog, count: int) -> None:
    for _ in range(count // 100):
        await log.append(of(*[emitted()] * 100))
    if count % 100:
        await log.append(of(*[emitted()] * (count % 100)))


def stored(directory: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "audit.db")) as connection:
        return connection.execute(sql).fetchall()


def change(directory: Path, name: str, sql: str, *values: object) -> None:
    """Rows change behind the log's back."""
    with closing(sqlite3.connect(directory / name)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS event_only_erase")
        connection.execute(sql, values)


def leaves(directory: Path) -> list[bytes]:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        return [leaf for (leaf,) in connection.execute("SELECT leaf FROM event ORDER BY seq")]


def root(hashes: list[bytes]) -> bytes:
    fold = merkle.Fold()
    for each in hashes:
        fold.add(each)
    return fold.root


@given(st.lists(st.integers(1, 700), max_size=6))
def test_tiles_do_not_depend_on_how_they_were_filled(counts: list[int]) -> None:
    """However leaves arrive, every tile holds what the tree of all of them says."""
    total = sum(counts)
    hashes = [number.to_bytes(32) for number in range(total)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tiles.SCHEMA)
        place = 0
        for count in counts:
            tiles.extend(connection, hashes[place : place + count])
            place += count
        tree = merkle.Tree(tiles.nodes(connection))
        found = connection.execute("SELECT level, number, hashes FROM tile").fetchall()

        assert tiles.size(connection) == total
        assert tree.root(total) == root(hashes)
    assert len(found) == -(-total // 256) + (total >= 256)
    for level, number, content in found:
        first = number * 256
        if level == 0:
            assert content == b"".join(hashes[first : first + 256])
        else:
            assert len(content) == total // 256 * 32


def test_a_third_level_is_built() -> None:
    """65,536 leaves and some more: roots and proofs hold across the levels."""
    size = 256 * 256 + 300
    hashes = [number.to_bytes(32) for number in range(size)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tiles.SCHEMA)
        tiles.extend(connection, hashes)
        tree = merkle.Tree(tiles.nodes(connection))
        path = tree.inclusion(70, size)

        assert tree.root(size) == root(hashes)
        assert merkle.included(hashes[70], 70, size, path, root(hashes))
        (count,) = connection.execute("SELECT count(*) FROM tile WHERE level = 2").fetchone()
    assert count == 1


async def test_the_tree_is_that_of_the_log(log: EventLog, directory: Path) -> None:
    """Root, inclusion and consistency follow from the leaves in position order."""
    async with Auditor.open(log, directory) as auditor:
        await fill(log, 300)
        await auditor.catch_up()
        old = await auditor.root(300)
        await fill(log, 500)
        await auditor.catch_up()
        new = await auditor.root(800)
        path = await auditor.inclusion(42, 800)
        proof = await auditor.consistency(300, 800)
        found = leaves(directory)

        assert auditor.size == 800
        assert (old, new) == (root(found[:300]), root(found))
        assert merkle.included(found[41], 41, 800, path, new)
        assert merkle.consistent(300, old, 800, new, proof)
        with pytest.raises(ValueError, match="no tree of 801"):
            await auditor.root(801)


async def test_odd_events_are_audited_too(log: EventLog, directory: Path) -> None:
    """Bodies that are no text, names with quotes and zeros, subjects, erased and large bodies."""
    odd = (
        emitted(b"\xff\xfe", subject="ada"),
        created('a/"\u00e9\u2028\n'),
        emitted(b"x\x00y"),
        emitted(b"9" * 5_000_000),
        emitted(b"8" * 5_000_000),
    )
    await log.append(Append(events=odd, workspace="w\x00", actor="\U0001f600", request_id="\x7f"))
    await fill(log, 300)
    change(directory, "log.db", "UPDATE event SET salt = NULL, body = NULL WHERE seq = 3")
    async with Auditor.open(log, directory) as auditor:
        await auditor.catch_up()

        assert auditor.size == 305
        assert await auditor.root(305) == root(leaves(directory))


async def test_a_checkpoint_is_up_to_date(log: EventLog, directory: Path) -> None:
    """It names the log, everything stored until now, and the root; also for an empty log."""
    async with Auditor.open(log, directory) as auditor:
        empty = notes.parse(await auditor.checkpoint()).tip
        await fill(log, 3)
        tip = notes.parse(await auditor.checkpoint()).tip

        assert empty == notes.Tip(log.log_id, 0, merkle.EMPTY)
        assert tip == notes.Tip(log.log_id, 3, await auditor.root(3))


async def test_old_checkpoints_are_thinned_out(log: EventLog, directory: Path) -> None:
    """The newest stays, and one for each 256 events."""
    async with Auditor.open(log, directory) as auditor:
        for _ in range(8):
            await fill(log, 100)
            await auditor.catch_up()

    assert stored(directory, "SELECT size FROM checkpoint") == [(200,), (500,), (700,), (800,)]


async def test_it_follows_the_log_by_itself(log: EventLog, directory: Path) -> None:
    """While `run` runs, what is stored is in the tree soon after."""
    async with Auditor.open(log, directory) as auditor, anyio.create_task_group() as background:
        background.start_soon(auditor.run)
        await fill(log, 300)
        with anyio.fail_after(10):
            while auditor.size < 300:
                await anyio.wait_all_tasks_blocked()
                await auditor.root(0)
        background.cancel_scope.cancel()

        assert auditor.size == 300


async def test_an_idle_log_writes_nothing(log: EventLog, directory: Path) -> None:
    """Catching up with nothing new leaves the file as it is."""
    async with Auditor.open(log, directory) as auditor:
        await fill(log, 10)
        await auditor.catch_up()
        before = (directory / "audit.db-wal").read_bytes()
        await auditor.catch_up()

        assert (directory / "audit.db-wal").read_bytes() == before


async def test_a_restart_goes_on(directory: Path) -> None:
    """Also in the middle of a tile."""
    for size in (150, 300, 450):
        async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
            await fill(log, 150)
            await auditor.catch_up()

            assert auditor.size == size
            assert await auditor.root(size) == root(leaves(directory))


async def test_a_lost_tree_is_built_again(directory: Path) -> None:
    """audit.db is derived while the log is whole: the same root comes out."""
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await fill(log, 300)
        await auditor.catch_up()
        before = await auditor.root(300)
    for path in directory.glob("audit.db*"):
        path.unlink()
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await auditor.catch_up()
        after = await auditor.root(300)

    assert (after, auditor.problem) == (before, None)


async def test_tiles_outlive_truncation(directory: Path) -> None:
    """Proofs about positions that are gone still hold, and the tree grows on."""
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await fill(log, 600)
        await auditor.catch_up()
        found = leaves(directory)
    truncate(directory, 550)
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await fill(log, 10)
        await auditor.catch_up()
        path = await auditor.inclusion(7, 610)
        new = await auditor.root(610)
        proof = await auditor.consistency(600, 610)

        assert merkle.included(found[6], 6, 610, path, new)
        assert merkle.consistent(600, root(found), 610, new, proof)


async def test_without_tiles_a_truncated_log_cannot_be_audited(directory: Path) -> None:
    """It is said, the log itself goes on, and nothing is signed."""
    async with EventLog.open(directory) as log:
        await fill(log, 100)
    truncate(directory, 50)
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await auditor.run()

        assert auditor.problem == (
            "audit.db ends at position 0, and those before 51 were compacted away: "
            "restore it from a backup, nothing in the log can replace it"
        )
        with pytest.raises(LogDamaged, match="restore it from a backup"):
            await auditor.checkpoint()


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("UPDATE event SET actor = 'me' WHERE seq = 77", "position 77: the leaf is not the hash"),
        ("UPDATE event SET body = x'7b7d' WHERE seq = 77", "position 77: the body is not the one"),
        ("UPDATE event SET salt = body WHERE seq = 77", "position 77: the body is not the one"),
        ("UPDATE event SET leaf = salt WHERE seq = 77", "position 77: the leaf is not the hash"),
        ("UPDATE event SET stream = x'ff' || x'ff' WHERE seq = 77", "position 77"),
    ],
)
async def test_a_changed_row_stops_the_audit(directory: Path, sql: str, reason: str) -> None:
    """The position is named; what is before it is in the tree, and the service is not ended."""
    async with EventLog.open(directory) as log:
        await fill(log, 100)
    change(directory, "log.db", sql)
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        with pytest.raises(LogDamaged, match=reason):
            await auditor.catch_up()
        await auditor.run()

        assert auditor.problem is not None
        assert auditor.problem.startswith("position 77")


async def test_another_past_is_noticed(directory: Path) -> None:
    """A log that is shorter than its tree, has another event there, or is another log."""
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        await fill(log, 10)
        await auditor.catch_up()
    other = directory.with_name("other")
    async with EventLog.open(other) as log, Auditor.open(log, other) as auditor:
        await auditor.catch_up()
    cases = {
        "the log fewer": "UPDATE tile SET hashes = CAST(hashes || zeroblob(32) AS BLOB)",
        "another event at position 10": "UPDATE tile SET hashes = zeroblob(320)",
        "is of log somebody": "UPDATE meta SET value = 'somebody'",
    }
    for reason, sql in cases.items():
        change(directory, "audit.db", sql)
        async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
            assert auditor.problem is not None
            assert reason in auditor.problem


async def test_a_kill_at_any_time_leaves_a_true_tree(directory: Path) -> None:
    """SIGKILL while appending and auditing: what is there is signed, true, and is gone on with."""
    for lines in (1, 2, 5, 9):
        process = await anyio.open_process(
            [sys.executable, "-c", FOLLOWING, str(directory)], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        async with process:
            assert process.stdout is not None
            seen = b""
            while seen.count(b"\n") < lines:
                seen += await process.stdout.receive()
            process.kill()
        async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
            assert auditor.size >= int(seen.split()[-1])
            assert auditor.problem is None
            await auditor.catch_up()
            assert await auditor.root(log.head) == root(leaves(directory))


async def test_a_stopped_log_is_brought_up_to_date(directory: Path) -> None:
    """For whoever exports while no service runs."""
    async with EventLog.open(directory) as log:
        await fill(log, 10)
    await bring_up_to_date(directory)

    assert stored(directory, "SELECT max(size) FROM checkpoint") == [(10,)]


async def test_a_running_service_brings_itself_up_to_date(log: EventLog, directory: Path) -> None:
    """Whoever exports beside it waits for that."""
    await fill(log, 10)
    async with Auditor.open(log, directory) as auditor, anyio.create_task_group() as both:
        both.start_soon(bring_up_to_date, directory)
        await auditor.catch_up()

    assert stored(directory, "SELECT max(size) FROM checkpoint") == [(10,)]


async def test_an_audit_that_stands_still_is_not_waited_for(
    log: EventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said instead."""
    monkeypatch.setattr("eventstore.audit_source._PATIENCE", 0.1)
    await fill(log, 10)

    with pytest.raises(LogUnavailable, match="does not keep up"):
        await bring_up_to_date(directory)


async def test_a_directory_without_log_is_no_log(tmp_path: Path) -> None:
    """None is made by looking."""
    with pytest.raises(LogError, match=r"no log\.db"):
        await bring_up_to_date(tmp_path / "nothing")

    assert list(tmp_path.iterdir()) == []

"""What state.db keeps: all of it or nothing, and no more than it has to."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from delivery.state import Lane, Loaded, Open, Parked, Progress
from delivery.store import Changes, StateStore, StateUnavailable, encode
from eventstore import Checkpoint
from eventstore.events import DeliveriesSettled, Suppressed

AT = Checkpoint("log", 7, b"leaf")
OPEN = Open(2, 123, "it broke", 500, 4, resent=True)
PARKED = Parked(8, "id", 3, "it broke", None, 99)
PROGRESS = Progress(
    settled=3,
    delivered=2,
    late=[(1, "ping")],
    suppressed=[Suppressed("snooze", 4, 5, 2)],
    intent=DeliveriesSettled(
        id="i", after=0, upto=3, delivered=1, hook_version=0, open=[(2, "")], late=[], suppressed=[]
    ),
    skipped=[(1, 2)],
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    async with StateStore.open(tmp_path) as store:
        yield store


def everything() -> Changes:
    changes = Changes()
    changes.put("lane", ("h",), 5, "paused")
    changes.put("lane", ("i",), None, "paused")
    changes.put("open", ("h", 6, ""), encode(OPEN))
    changes.put("parked", ("h", 4, "ping"), encode(PARKED))
    changes.put("fired", ("h", b"key"), b"digest", 12)
    changes.put("progress", ("h",), encode(PROGRESS))
    return changes


async def test_a_new_file_is_empty(store: StateStore) -> None:
    """Its missing cursor says that the log has to be asked."""
    assert await store.load() == Loaded(None, 0, {}, {}, {}, [], {})


async def test_everything_comes_back(tmp_path: Path, store: StateStore) -> None:
    """Also for the next one who opens the file."""
    await store.save(everything(), AT, 9)
    expected = Loaded(
        cursor=AT,
        known=9,
        lanes={"h": Lane(5, "paused"), "i": Lane(None, "paused")},
        open={"h": {(6, ""): OPEN}},
        parked={"h": {(4, "ping"): PARKED}},
        fired=[("h", b"key", b"digest", 12)],
        progress={"h": PROGRESS},
    )

    assert await store.load() == expected
    await store.reopen()
    assert await store.load() == expected


async def test_the_last_word_counts(store: StateStore) -> None:
    """What is put and deleted in one go, in either order, is as it was last."""
    changes = everything()
    for table, rows in everything().rows.items():
        for key in rows:
            changes.delete(table, key)
    changes.put("lane", ("h",), 6, None)
    await store.save(changes, AT, 9)

    assert await store.load() == Loaded(AT, 9, {"h": Lane(6, None)}, {}, {}, [], {})


async def test_deleted_rows_are_gone(store: StateStore) -> None:
    """Nothing of a hook that was deleted stays behind."""
    await store.save(everything(), AT, 9)
    changes = Changes()
    for table, rows in everything().rows.items():
        for key in rows:
            changes.delete(table, key)
    await store.save(changes, AT, 9)

    assert await store.load() == Loaded(AT, 9, {}, {}, {}, [], {})


async def test_a_locked_file_is_unavailable_and_unchanged(
    tmp_path: Path, store: StateStore
) -> None:
    """Nothing of the transaction is written, and it works once the lock is gone."""
    await store.save(Changes(), AT, 7)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await store._database.run(lambda connection: connection.execute("PRAGMA busy_timeout = 0"))
        with pytest.raises(StateUnavailable, match="locked"):
            await store.save(everything(), AT, 9)
    empty = await store.load()
    await store.save(everything(), AT, 9)

    assert empty.known == 7
    assert (await store.load()).known == 9


async def test_the_wal_stays_bounded(tmp_path: Path, store: StateStore) -> None:
    """Nobody but its own commits moves state.db's WAL into the file."""
    changes = Changes()
    changes.put("progress", ("h",), encode(Progress(settled=0, late=[(1, "x" * 100_000)])))
    for _ in range(100):
        await store.save(changes, AT, 0)

    assert (tmp_path / "state.db-wal").stat().st_size < 2 * 1000 * 4096

"""The log folded into models, on disk and in memory."""

import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from eventstore import Append, EventLog, Kind, LogError, NewEvent, RecordedEvent, snapshots
from eventstore.codec import new_event
from eventstore.events import CompactionFinished, EntityCreated, HookPaused
from eventstore.snapshots import State
from projections.deliveries import Deliveries
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.runner import Projections
from tests.delivery.world import emitted, entity

STEPS = [0, 1, 2, 3, 5, 8, 13, 30, 100, 300]


def made(hook_id: str) -> NewEvent:
    created = EntityCreated(entity=entity(hook_id))
    return new_event(created, stream=f"event_hooks/{hook_id}", kind=Kind.CONFIG)


def said(hook_id: str) -> NewEvent:
    return new_event(HookPaused(), stream=f"deliveries/{hook_id}", kind=Kind.DELIVERY)


class CountingLog(EventLog):
    """A real log that counts the events it gives."""

    given = 0

    async def read(
        self, after: int, *, limit: int = 1000, kinds: Collection[Kind] | None = None
    ) -> list[RecordedEvent]:
        page = await super().read(after, limit=limit, kinds=kinds)
        self.given += len(page)
        return page


class NewerHooks(Hooks):
    """The model of a program that keeps something else about hooks."""

    version = Hooks.version + 1


@asynccontextmanager
async def folded(
    log: EventLog, directory: Path, hooks: Hooks, deliveries: Deliveries | None = None
) -> AsyncIterator[Projections]:
    """The projections, open and running."""
    models: list[ReadModel] = [hooks, deliveries or Deliveries()]
    async with (
        Projections.open(log, directory, models) as projections,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(projections.run)
        with anyio.fail_after(5):
            yield projections
        tasks.cancel_scope.cancel()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[CountingLog]:
    async with CountingLog.open(tmp_path) as log:
        yield log


async def append(log: EventLog, *events: NewEvent) -> int:
    return (await log.append(Append(events=events))).positions[-1]


async def facts(projections: Projections, deliveries: Deliveries, hook_id: str) -> list[int]:
    """Positions of the facts that a lookup finds."""
    found = await projections.lookup(
        deliveries, f"{hook_id}/fact/", f"{hook_id}/fact/~", limit=1000
    )
    return [fact.position for fact in found]


async def test_the_log_is_folded_before_anybody_asks(log: CountingLog, tmp_path: Path) -> None:
    """What is in the log when they are opened is there at once."""
    await append(log, made("a"), emitted({}), made("b"))
    hooks = Hooks()
    async with Projections.open(log, tmp_path, [hooks]) as projections:
        assert hooks.known() == ["a", "b"]
        assert projections.position == 3


async def test_whoever_waits_for_a_position_sees_it(log: CountingLog, tmp_path: Path) -> None:
    """A client reads its own writes."""
    hooks = Hooks()
    async with folded(log, tmp_path, hooks) as projections:
        for number in range(20):
            position = await append(log, made(f"h{number}"))
            await projections.wait_applied(position)
            assert hooks.current(f"h{number}") is not None


async def test_a_configuration_change_is_applied_at_once(log: CountingLog, tmp_path: Path) -> None:
    """Also in the midst of emitted events, which nobody waits for."""
    hooks = Hooks()
    async with folded(log, tmp_path, hooks) as projections:
        await append(log, emitted({}))
        await anyio.wait_all_tasks_blocked()
        position = await append(log, made("h"))
        start = anyio.current_time()
        await projections.wait_applied(position)

    assert anyio.current_time() - start < 0.15


async def test_a_lookup_finds_what_it_waited_for(log: CountingLog, tmp_path: Path) -> None:
    """Facts are looked up in the file, in both directions, in pages."""
    deliveries = Deliveries()
    async with folded(log, tmp_path, Hooks(), deliveries) as projections:
        await append(log, said("a"), said("b"), said("a"), said("a"))
        await projections.wait_stored(log.head)
        backwards = await projections.lookup(
            deliveries, "a/fact/", "a/fact/~", limit=2, reverse=True
        )

        assert await facts(projections, deliveries, "a") == [1, 3, 4]
        assert [fact.position for fact in backwards] == [4, 3]


async def test_a_cold_start_reads_the_tail_only(log: CountingLog, tmp_path: Path) -> None:
    """The snapshot has the rest, however long the log is."""
    await append(log, *(made(f"h{number}") for number in range(500)))
    async with folded(log, tmp_path, Hooks()):
        pass
    await append(log, made("tail"))
    before = log.given
    hooks = Hooks()
    async with folded(log, tmp_path, hooks):
        assert len(hooks.known()) == 501

    assert log.given - before <= 2


async def test_loaded_equals_folded(log: CountingLog, tmp_path: Path) -> None:
    """From a snapshot, from its tail, or from zero: the same state."""
    await append(log, made("a"), made("b"))
    live = Hooks()
    async with folded(log, tmp_path, live):
        await append(log, said("a"), made("c"))
        await anyio.wait_all_tasks_blocked()
    loaded, rebuilt = Hooks(), Hooks()
    async with folded(log, tmp_path, loaded):
        pass
    for leftover in tmp_path.glob("view.db*"):
        leftover.unlink()
    async with folded(log, tmp_path, rebuilt):
        pass

    for hook_id in ("a", "b", "c"):
        assert live.history(hook_id) == loaded.history(hook_id) == rebuilt.history(hook_id)
    assert live.known() == loaded.known() == rebuilt.known()


@pytest.mark.parametrize("turns", STEPS)
async def test_a_crash_at_any_moment_loses_nothing(
    log: CountingLog, tmp_path: Path, turns: int
) -> None:
    """Items and checkpoint are written together."""
    deliveries = Deliveries()
    async with folded(log, tmp_path, Hooks(), deliveries):
        await append(log, made("a"), said("a"))
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
    hooks = Hooks()
    async with folded(log, tmp_path, hooks, deliveries) as projections:
        await projections.wait_stored(log.head)

        assert hooks.known() == ["a"]
        assert await facts(projections, deliveries, "a") == [2]


async def test_another_logs_view_is_made_anew(tmp_path: Path) -> None:
    """Its items belong to other events."""
    for name in ("one", "two"):
        async with EventLog.open(tmp_path / name) as log:
            await append(log, made(name))
            async with folded(log, tmp_path / name, Hooks()):
                pass
    (tmp_path / "one" / "view.db").replace(tmp_path / "two" / "view.db")
    hooks = Hooks()
    async with EventLog.open(tmp_path / "two") as log, folded(log, tmp_path / "two", hooks):
        pass

    assert hooks.known() == ["two"]


async def test_a_model_of_another_version_is_rebuilt(log: CountingLog, tmp_path: Path) -> None:
    """Its items no longer fit."""
    await append(log, made("a"))
    async with folded(log, tmp_path, Hooks()):
        pass
    _tamper(tmp_path, "UPDATE item SET value = CAST('[]' AS BLOB) WHERE model = 'hooks'")
    hooks = NewerHooks()
    async with folded(log, tmp_path, hooks):
        assert hooks.current("a") is not None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE item SET value = CAST('no JSON' AS BLOB)",
        "UPDATE item SET value = CAST('{}' AS BLOB)",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 99",
    ],
)
async def test_a_damaged_view_is_made_anew(
    log: CountingLog, tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has everything that was in it; the operator is told."""
    await append(log, made("a"), made("b"))
    async with folded(log, tmp_path, Hooks()):
        pass
    _tamper(tmp_path, statement)
    hooks = Hooks()
    async with folded(log, tmp_path, hooks):
        assert hooks.known() == ["a", "b"]

    assert "view.db" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no database at all" * 1000])
async def test_a_file_that_is_no_view_is_made_anew(
    log: CountingLog, tmp_path: Path, content: bytes
) -> None:
    """Whatever is in there."""
    await append(log, made("a"))
    async with folded(log, tmp_path, Hooks()):
        pass
    await anyio.Path(tmp_path / "view.db").write_bytes(content)
    hooks = Hooks()
    async with folded(log, tmp_path, hooks):
        assert hooks.known() == ["a"]


async def test_a_full_disk_stops_nobody(log: CountingLog, tmp_path: Path) -> None:
    """Memory goes on, the file catches up later, and nothing is missing in it."""
    deliveries, hooks = Deliveries(), Hooks()
    async with folded(log, tmp_path, hooks, deliveries) as projections:
        await projections.wait_stored(await append(log, made("a")))
        await projections._database.run(_hurry)
        with closing(sqlite3.connect(tmp_path / "view.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for hook_id in ("b", "c"):
                await append(log, said(hook_id))
                await projections.wait_applied(await append(log, made(hook_id)))

            assert hooks.known() == ["a", "b", "c"]
            assert await facts(projections, deliveries, "b") == []
        await projections.wait_stored(log.head)
        assert await facts(projections, deliveries, "b") == [2]
    loaded = Hooks()
    async with folded(log, tmp_path, loaded):
        assert loaded.known() == ["a", "b", "c"]


async def test_the_wal_stays_bounded(log: CountingLog, tmp_path: Path) -> None:
    """Nobody but its own commits moves view.db's WAL into the file."""
    async with folded(log, tmp_path, Hooks()) as projections:
        for _ in range(100):
            events = [said("x" * 5000) for _ in range(20)]
            await projections.wait_stored(await append(log, *events, made("h")))

        assert (tmp_path / "view.db-wal").stat().st_size < 2 * 1000 * 4096


def _hurry(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA busy_timeout = 0")


def _tamper(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "view.db")) as connection, connection:
        connection.execute(statement)


def versioned(hooks: int) -> State:
    item = b'[[1,null,{"id":"a","workspace":"w","version":0,"source":"s","event":"e"'
    item += b',"handler":"log","on_change":false,"snooze":null,"created_at":1,"updated_at":1'
    item += b',"config":{}}]]'
    return State({"hooks": hooks}, {"hooks": {"a": item}})


async def compacted(log: EventLog, state: State) -> None:
    """A log that begins above 1, with a snapshot of what is gone."""
    floor = log.head + 1
    position = await append(log, *snapshots.events("c", floor, state))
    await log.truncate_before(floor, snapshot=position)


async def test_a_rebuild_starts_from_the_snapshot(log: CountingLog, tmp_path: Path) -> None:
    """Where the events are gone, their state is in the log; what follows is folded on."""
    await append(log, made("a"), emitted({}))
    await compacted(log, versioned(Hooks.version))
    await append(log, made("b"))
    hooks = Hooks()
    async with folded(log, tmp_path, hooks):
        assert sorted(hooks.known()) == ["a", "b"]
        assert [version.since for version in hooks.history("a")] == [1]


async def test_an_old_view_is_made_anew(
    log: CountingLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was restored from before the floor could not go on."""
    await append(log, made("a"))
    async with folded(log, tmp_path, Hooks()):
        pass
    await append(log, made("lost"), emitted({}))
    await compacted(log, versioned(Hooks.version))
    hooks = Hooks()
    async with folded(log, tmp_path, hooks):
        assert hooks.known() == ["a"]

    assert "compacted away" in caplog.text


async def test_a_snapshot_of_another_version_is_no_guess(log: CountingLog, tmp_path: Path) -> None:
    """The way out is named: the archive has the events themselves."""
    await append(log, made("a"))
    await compacted(log, versioned(Hooks.version))
    with pytest.raises(LogError, match="hooktape rebuild --from zero"):
        async with folded(log, tmp_path, NewerHooks()):
            pass


async def test_old_facts_go_with_a_compaction(log: CountingLog, tmp_path: Path) -> None:
    """As a rebuild would not find them; from memory and from the file."""
    deliveries = Deliveries()
    async with folded(log, tmp_path, Hooks(), deliveries) as projections:
        await append(log, *[said("a")] * 5)
        await projections.wait_stored(log.head)
        finished = CompactionFinished(id="c", floor=4, count=3, snapshot=1)
        system = new_event(finished, stream="system/compaction", kind=Kind.SYSTEM)
        await projections.wait_stored(await append(log, said("a"), system))

        assert await facts(projections, deliveries, "a") == [4, 5, 6]


async def test_view_db_is_written_up_to_where_it_is_needed(
    log: CountingLog, tmp_path: Path
) -> None:
    """Though nothing changed: then the next start needs nothing older."""
    async with folded(log, tmp_path, Hooks()) as projections:
        await append(log, made("a"), *[emitted({})] * 10)
        (hold,) = await projections.holds()
        assert hold.position == log.head + 1
        await projections.ready(log.head)
    before = log.given
    async with folded(log, tmp_path, Hooks()):
        pass

    assert log.given == before

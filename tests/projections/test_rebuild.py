"""Read models made anew: from zero, from a snapshot, from a checkpoint; compared, and swapped."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from eventstore import Append, EventLog, Kind, NewEvent, new_event
from eventstore.errors import LogDamaged, LogDiverged, LogError, Truncated
from eventstore.events import EntityCreated, EntityDeleted, EntityUpdated, HookPaused
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.fresh import Fresh
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.rebuild import Rebuilt, past, rebuild
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.compacting import compact
from tests.delivery.world import Receiver, delivering, emitted, entity

HOOKS = 20


def models() -> list[ReadModel]:
    return [Hooks(), Sources([]), Entities(), Deliveries()]


def changed(hook_id: str, body: Any) -> NewEvent:
    return new_event(body, stream=f"event_hooks/{hook_id}", kind=Kind.CONFIG)


async def append(log: EventLog, *events: NewEvent) -> None:
    await log.append(Append(events=events, workspace=DEFAULT_WORKSPACE))


async def fold(directory: Path) -> None:
    """As a service does, that is stopped then."""
    async with EventLog.open(directory) as log, Projections.open(log, directory, models()):
        pass


async def write(directory: Path) -> None:
    """Hooks that are made, changed and deleted, with facts about deliveries between them."""
    async with EventLog.open(directory) as log:
        for number in range(HOOKS):
            hook_id = f"h{number}"
            await append(log, changed(hook_id, EntityCreated(entity=entity(hook_id))))
            await append(log, emitted({"n": number}))
            paused = new_event(HookPaused(), stream=f"deliveries/{hook_id}", kind=Kind.DELIVERY)
            await append(log, paused)
            updated = EntityUpdated(entity=entity(hook_id, event="f"), old_entity=entity(hook_id))
            await append(log, changed(hook_id, updated))
        await append(log, changed("h0", EntityDeleted(entity=entity("h0", event="f"))))
    await fold(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    anyio.run(write, tmp_path)
    return tmp_path


def content(directory: Path) -> list[Any]:
    with view(directory) as connection:
        rows = connection.execute("SELECT model, key, value FROM item ORDER BY model, key")
        items = [(model, key, msgspec.json.decode(value)) for model, key, value in rows]
        return [*items, *connection.execute("SELECT * FROM checkpoint")]


@contextmanager
def view(directory: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(directory / "view.db")) as connection, connection:
        yield connection


def tamper(directory: Path, statement: str) -> None:
    with view(directory) as connection:
        connection.execute(statement)


def tampered(found: Rebuilt) -> list[tuple[str, str]]:
    return [(each.model, each.key) for each in found.differences]


def test_a_true_view_is_found_true(directory: Path) -> None:
    """And swapping it for itself changes nothing."""
    before = content(directory)
    verified = rebuild(directory, models(), start="zero", swap=False)
    swapped = rebuild(directory, models(), start="zero")

    assert verified.differences == swapped.differences == []
    assert verified.compared == verified.position == 4 * HOOKS + 1
    assert (verified.swapped, swapped.swapped) == (False, True)
    assert verified.items == {
        "hooks": HOOKS,
        "sources": 0,
        "entities": HOOKS - 1,
        "deliveries": HOOKS,
    }
    assert content(directory) == before
    assert not list(directory.glob("rebuild.db*"))


def test_what_is_false_is_named_and_mended(directory: Path) -> None:
    """An item changed, one lost, one made up."""
    before = content(directory)
    tamper(directory, "UPDATE item SET value = CAST('[]' AS BLOB) WHERE key = 'h3'")
    tamper(directory, "DELETE FROM item WHERE model = 'entities' AND key = 'event_hooks/h5'")
    tamper(directory, "INSERT INTO item VALUES ('sources', 'x/y', CAST('[]' AS BLOB))")
    verified = rebuild(directory, models(), start="zero", swap=False)
    still = content(directory)
    mended = rebuild(directory, models(), start="zero")

    wrong = [("entities", "event_hooks/h5"), ("hooks", "h3"), ("sources", "x/y")]
    assert tampered(verified) == tampered(mended) == wrong
    assert still != before
    assert content(directory) == before


def test_only_what_was_named_is_touched(directory: Path) -> None:
    """The others stay as they are, wrong or not."""
    tamper(directory, "DELETE FROM item WHERE key = 'h3'")
    tamper(directory, "DELETE FROM item WHERE key = 'event_hooks/h5'")
    found = rebuild(directory, models(), start="zero", only=["hooks"])
    rest = rebuild(directory, models(), start="zero", swap=False)

    assert tampered(found) == [("hooks", "h3")]
    assert tampered(rest) == [("entities", "event_hooks/h5")]


@pytest.mark.parametrize("harm", ["missing", "rubbish", "another"])
def test_without_a_usable_view_there_is_nothing_to_compare(directory: Path, harm: str) -> None:
    """It is made anew, up to the head; but not by halves."""
    before = content(directory)
    path = directory / "view.db"
    if harm == "another":
        tamper(directory, "UPDATE checkpoint SET log_id = 'another'")
    else:
        for leftover in directory.glob("view.db*"):
            leftover.unlink()
    if harm == "rubbish":
        path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(LogError, match="rebuild all"):
        rebuild(directory, models(), start="zero", only=["hooks"])
    found = rebuild(directory, models(), start="zero")

    assert found.compared is None
    assert content(directory) == before


def test_a_checkpoint_is_gone_on_from(directory: Path) -> None:
    """It spares the way to it, and comes to the same."""
    saved = directory / "checkpoints" / "mine.db"
    rebuild(directory, models(), start="zero", swap=False, save=saved)
    anyio.run(_more, directory)
    seen: list[int] = []
    found = rebuild(directory, models(), start=saved, progress=lambda _, total: seen.append(total))

    assert found.differences == []
    assert found.compared == found.position == 4 * HOOKS + 3
    assert set(seen) == {2}
    assert saved.stat().st_mode & 0o777 == 0o600


async def _more(directory: Path) -> None:
    async with EventLog.open(directory) as log:
        await append(log, changed("new", EntityCreated(entity=entity("new"))), emitted({}))
        async with Projections.open(log, directory, models()) as projections:
            await projections.ready(log.head + 1)


def test_a_checkpoint_of_another_log_is_refused(directory: Path, tmp_path_factory: Any) -> None:
    """Its items belong to other events; and one that is not there is no checkpoint."""
    other = tmp_path_factory.mktemp("other")
    anyio.run(write, other)
    saved = other / "saved.db"
    rebuild(other, models(), start="zero", swap=False, save=saved)
    with pytest.raises(LogDiverged):
        rebuild(directory, models(), start=saved)
    with pytest.raises(LogError, match="no checkpoint"):
        rebuild(directory, models(), start=directory / "nothing.db")
    with pytest.raises(LogDamaged, match="no log"):
        rebuild(directory / "nowhere", models(), start="zero")
    with pytest.raises(LogError, match="the log is whole"):
        rebuild(directory, models(), start="snapshot")

    assert not list(directory.glob("rebuild.db*"))


def past_hooks(directory: Path, until: int) -> list[str]:
    with past(
        directory, models(), start="zero", until=until, progress=lambda _done, _total: None
    ) as fresh:
        return [key for _, key, _ in fresh.items(["hooks"])]


@pytest.mark.parametrize("until", [0, 1, 4, 5, 41, 4 * HOOKS + 1])
def test_a_state_of_the_past(directory: Path, until: int) -> None:
    """As it was after that event, whatever came later."""
    before = content(directory)
    found = past_hooks(directory, until)

    assert len(found) == min(HOOKS, (until + 3) // 4)
    assert content(directory) == before
    assert not list(directory.glob("rebuild.db*"))


def test_a_failing_fold_leaves_nothing_behind(directory: Path) -> None:
    """Nor does it touch what is there."""
    before = content(directory)
    with pytest.raises(LogError, match="ends at"):
        past_hooks(directory, 1000)

    assert content(directory) == before


@pytest.fixture
def compacted(tmp_path: Path) -> Path:
    """A log that was compacted twice, with a view that a service kept all the time."""
    anyio.run(_compacted, tmp_path)
    return tmp_path


async def _compacted(directory: Path) -> None:
    async with delivering(directory, Receiver()) as world:
        for round_ in ("one", "two", "three"):
            await world.hook(round_)
            await world.update(round_, event="f")
            await world.publish("s", round_, ["n"])
            await world.emit(*range(5), event="f")
            await world.quiet()
            world.service.ledger.receipts_due.set()
            await world.quiet()
            if round_ != "three":
                await compact(world)
        await world.stop()
        await world.projections.ready(world.log.head + 1)


@pytest.mark.parametrize("start", ["zero", "snapshot"])
def test_after_a_compaction_all_ways_lead_to_the_same(compacted: Path, start: Any) -> None:
    """From the archive, or from the snapshot: what the service knew all along."""
    served: list[ReadModel] = [Hooks(), Sources([]), Deliveries()]
    found = rebuild(compacted, served, start=start, swap=False)

    assert found.compared == found.position
    assert found.differences == []
    assert found.items["hooks"] == 3
    assert found.items["deliveries"] > 0


def test_without_archive_and_snapshot_nobody_guesses(compacted: Path) -> None:
    """What is in neither is a clear error."""
    for path in (compacted / "archive").glob("*1.json"):
        path.unlink()
    served: list[ReadModel] = [Hooks(), Sources([]), Deliveries()]
    with pytest.raises(Truncated):
        rebuild(compacted, served, start="zero")


def test_rebuilding_writes_as_it_goes(directory: Path) -> None:
    """Items that are only looked up are in the file, not in memory."""
    with past(
        directory, models(), start="zero", until=50, progress=lambda _done, _total: None
    ) as fresh:
        assert isinstance(fresh, Fresh)
        assert fresh.connection.execute("SELECT count(*) FROM item").fetchone()[0] > 0

"""The steps of a compaction, with a state that only counts: what is logged, kept and given up."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from eventstore import Append, EventLog, Kind, LogUnavailable, NewEvent, Truncated, snapshots
from eventstore.archive import Archive
from eventstore.codec import decode
from eventstore.compaction import Abandoned, Compaction
from eventstore.events import COMPACTION_STREAM, CompactionFinished, CompactionStarted
from eventstore.plans import Hold
from eventstore.retention import Policy
from eventstore.snapshots import Snapshot, State
from eventstore.subject_keys import SubjectKeys
from tests.eventstore.samples import created, emitted, of

EVERYTHING = Policy(max_events=0)


class Counting:
    """The state: how many events of each stream there were. `wrong` makes the proof fail."""

    def __init__(self, log: EventLog) -> None:
        self.wrong = False
        self._log = log

    async def everything(self, floor: int, upto: int) -> tuple[State, str]:
        base = await snapshots.latest(self._log)
        counts = _counts(base.state) if base is not None else Counter[str]()
        start = base.floor if base is not None else 1
        await self._count(counts, start, floor)
        state = _state(counts)
        await self._count(counts, floor, upto + 1)
        return state, _state(counts).digest

    async def afresh(self) -> State:
        counts = Counter[str]()
        archive = Archive(self._log.path.parent / "archive", self._log.log_id)
        for event in await anyio.to_thread.run_sync(archive.read, 0):
            counts[event.stream] += event.kind != Kind.SYSTEM and event.body is not None
        return _state(counts)

    async def tail(self, snapshot: Snapshot, upto: int) -> str:
        counts = _counts(snapshot.state)
        counts["wrong"] += self.wrong
        await self._count(counts, snapshot.floor, upto + 1)
        return _state(counts).digest

    async def _count(self, counts: Counter[str], start: int, end: int) -> None:
        for seq in range(start, end):
            (event,) = await self._log.read(seq - 1, limit=1)
            counts[event.stream] += event.kind != Kind.SYSTEM


def _state(counts: Counter[str]) -> State:
    return State({"counts": 1}, {"counts": {k: b"%d" % n for k, n in counts.items() if n}})


def _counts(state: State) -> Counter[str]:
    return Counter({key: int(raw) for key, raw in state.sections["counts"].items()})


class Needing:
    """Somebody who needs positions; `later` are what is asked for from the second time on."""

    def __init__(self, *positions: int, later: Sequence[int] | None = None) -> None:
        self.positions = positions
        self.later = later
        self.floors: list[int] = []
        self.appends: list[NewEvent] = []

    async def holds(self) -> list[Hold]:
        positions = self.positions if not self.floors or self.later is None else self.later
        return [Hold(position, "somebody") for position in positions]

    async def ready(self, floor: int) -> None:
        self.floors.append(floor)


class Eraser(Needing):
    """An erasure comes while the events are being archived, the first few times."""

    def __init__(self, log: EventLog, times: int) -> None:
        super().__init__()
        self._log = log
        self._times = times

    async def holds(self) -> list[Hold]:
        if self.floors and len(self.floors) <= self._times:
            erased = NewEvent(stream="s", type="events_erased", kind=Kind.SYSTEM, body=b"{}")
            await self._log.append(of(erased))
        return []


def compaction(log: EventLog, *needing: Needing, states: Counting | None = None) -> Compaction:
    archive = Archive(log.path.parent / "archive", log.log_id)
    return Compaction(log, archive, states or Counting(log), needing)


def quiet(_step: str, _done: int, _total: int) -> None:
    """Nobody looks."""


async def filled(log: EventLog, count: int = 10) -> None:
    await log.append(of(*[emitted(), created()] * (count // 2)))


async def said(log: EventLog) -> list[str]:
    """What the log says about compactions."""
    return [event.type for event in await log.read_stream(COMPACTION_STREAM)]


def databases(log: EventLog) -> list[Path]:
    """Without the shared memory, in which every reader leaves its mark."""
    return [log.path, log.path.with_name("log.db-wal")]


def archived(log: EventLog) -> list[Path]:
    return sorted((log.path.parent / "archive").glob("*"))


async def test_the_steps_are_in_the_log(log: EventLog) -> None:
    """With what was done, and a snapshot to go on from."""
    await filled(log)
    steps: list[str] = []
    finished = await compaction(log).run(EVERYTHING, lambda step, *_: steps.append(step))
    snapshot = await snapshots.latest(log)
    started = decode((await log.read(10, limit=1))[0])
    again = await anyio.to_thread.run_sync(Archive(log.path.parent / "archive", log.log_id).read, 0)

    assert isinstance(started, CompactionStarted)
    assert isinstance(finished, CompactionFinished)
    assert (finished.id, finished.floor, finished.count) == (started.id, 11, 10)
    assert finished.snapshot == log.snapshot
    assert [(each.first, each.last) for each in finished.segments] == [(1, 10)]
    assert await said(log) == ["compaction_started", "compaction_finished"]
    assert snapshot is not None
    assert snapshot.floor == log.first == 11
    assert _counts(snapshot.state) == {"emitted/source/event": 5, "consumers/1": 5}
    assert list(dict.fromkeys(steps)) == [
        "ready",
        "archive",
        "snapshot",
        "prove",
        "truncate",
        "finish",
    ]
    assert [event.seq for event in again] == list(range(1, 11))
    with pytest.raises(Truncated):
        await log.read(9)


async def test_one_compaction_after_another(log: EventLog) -> None:
    """Each starts from the snapshot before it, and nothing is counted twice or lost."""
    for _ in range(4):
        await filled(log)
        await compaction(log).run(Policy(max_events=3), quiet)
    snapshot = await snapshots.latest(log)
    archive = Archive(log.path.parent / "archive", log.log_id)
    old = await anyio.to_thread.run_sync(lambda: list(archive.events()))

    assert snapshot is not None
    left = [event for event in await log.read(log.first - 1) if event.kind != Kind.SYSTEM]
    counted = _counts(snapshot.state) + Counter(event.stream for event in left)
    assert counted == {"emitted/source/event": 20, "consumers/1": 20}
    assert [event.seq for event in old] == list(range(1, log.first))


async def test_a_plan_changes_nothing(log: EventLog) -> None:
    """It tells what would go, and what holds the rest."""
    await filled(log)
    before = {path: path.read_bytes() for path in databases(log)}
    plan = await compaction(log, Needing(7), Needing(4, 9)).plan(Policy(before=8))

    assert (plan.first, plan.head, plan.wanted, plan.floor) == (1, 10, 8, 4)
    assert (plan.events, plan.segments) == (3, 1)
    assert [hold.position for hold in plan.held] == [4, 7]
    assert {path: path.read_bytes() for path in databases(log)} == before
    assert archived(log) == []


async def test_the_floor_passes_nobody(log: EventLog) -> None:
    """Whatever the policy wants; and everybody is told the floor before."""
    await filled(log)
    needing = Needing(6)
    await compaction(log, needing).run(EVERYTHING, quiet)

    assert log.first == 6
    assert needing.floors == [6]


async def test_what_is_not_sealed_stays(log: EventLog) -> None:
    """The audit's tree outlives the events, so it must have them first."""
    await filled(log)

    async def sealed() -> int:
        return 4

    archive = Archive(log.path.parent / "archive", log.log_id)
    await Compaction(log, archive, Counting(log), [], sealed=sealed).run(EVERYTHING, quiet)

    assert log.first == 5


@pytest.mark.parametrize("needing", [Needing(1), Needing(0)])
async def test_nothing_to_do_is_not_logged(log: EventLog, needing: Needing) -> None:
    """Neither when somebody needs everything nor when only the log's own events could go."""
    await filled(log)

    assert await compaction(log, needing).run(EVERYTHING, quiet) is None
    assert log.head == 10
    await compaction(log).run(EVERYTHING, quiet)
    head = log.head
    assert await compaction(log).run(EVERYTHING, quiet) is None
    assert log.head == head


async def test_a_state_that_differs_stops_it(log: EventLog) -> None:
    """The proof comes before the truncation: everything is still there."""
    await filled(log)
    states = Counting(log)
    states.wrong = True
    with pytest.raises(Abandoned, match="please report"):
        await compaction(log, states=states).run(EVERYTHING, quiet)

    assert (log.first, log.snapshot) == (1, None)
    assert len(await log.read(0, kinds=(Kind.EMITTED, Kind.CONFIG))) == 10
    assert await said(log) == ["compaction_started", "compaction_abandoned"]
    assert archived(log) == []
    assert await compaction(log).resume(quiet) is None
    assert await compaction(log).run(EVERYTHING, quiet) is not None


async def test_a_late_need_stops_it(log: EventLog) -> None:
    """Somebody went back to an old position while the rest was being archived."""
    await filled(log)
    with pytest.raises(Abandoned, match="positions from 3 on are needed by somebody"):
        await compaction(log, Needing(9, later=[3])).run(EVERYTHING, quiet)

    assert log.first == 1
    assert archived(log) == []


async def test_an_erasure_on_the_way_is_respected(log: EventLog) -> None:
    """What was archived before it is looked at again; if they never end, it is given up."""
    await filled(log)
    once, always = Eraser(log, 1), Eraser(log, 100)
    with pytest.raises(Abandoned, match="erased all the time"):
        await compaction(log, always).run(EVERYTHING, quiet)
    assert log.first == 1
    await compaction(log, once).run(EVERYTHING, quiet)

    assert len(once.floors) == 2
    assert log.first > 10


async def test_a_full_disk_is_no_end(directory: Path) -> None:
    """It goes on when there is room."""
    async with EventLog.open(directory) as log:
        await filled(log)
        await log.limit(1)
        with suppress(LogUnavailable):
            while True:
                await log.append(of(emitted()))
        head = log.head
        with pytest.raises(LogUnavailable):
            await compaction(log).run(EVERYTHING, quiet)
        assert log.first == 1
        await log.limit(1_000_000)
        await compaction(log).run(EVERYTHING, quiet)

        assert log.first > head


async def test_two_at_once_take_turns(log: EventLog) -> None:
    """The second finds nothing left to do."""
    await filled(log)
    one = compaction(log)
    found: list[CompactionFinished | None] = []

    async def run() -> None:
        found.append(await one.run(EVERYTHING, quiet))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)

    assert sorted(each is None for each in found) == [False, True]
    assert await said(log) == ["compaction_started", "compaction_finished"]


async def test_the_snapshot_is_one_append(log: EventLog) -> None:
    """Nobody else's event comes between its parts."""
    await filled(log)

    async def write() -> None:
        while True:
            await log.append(Append(events=(emitted(),)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await compaction(log).run(EVERYTHING, quiet)
        tasks.cancel_scope.cancel()

    assert await snapshots.latest(log) is not None


def forget(path: Path, position: int) -> None:
    with SubjectKeys.open(path) as keys:
        keys.forget(positions=[(position, position)])


async def test_a_snapshot_is_taken_again_when_what_it_was_made_of_changed(log: EventLog) -> None:
    """And not otherwise; old parts are named, so that they can be erased."""
    await filled(log)
    one = compaction(log)
    await one.run(EVERYTHING, quiet)
    first, head = log.snapshot, log.head
    assert await one.renew() == []
    assert (log.snapshot, log.head) == (first, head)
    await anyio.to_thread.run_sync(forget, log.path.with_name("keys.db"), 1)
    stale = await one.renew()
    again = await snapshots.latest(log)

    assert first is not None
    assert stale == [first - 1]
    assert log.snapshot is not None
    assert log.snapshot > head
    assert again is not None
    assert (again.floor, _counts(again.state)["emitted/source/event"]) == (log.first, 4)

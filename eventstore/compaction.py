"""Takes the oldest part of the log away, without anybody losing what they need of it.

A compaction is a series of steps, each of which can be done again:

    compaction_started    in the log, with the floor
    ready                 whoever depends on older events copies what cannot wait
    archive               the events below the floor go into files, which are read again
    snapshot              the state as of the floor goes into the log
    prove                 snapshot + what follows it folds to the same state as everything
    truncate              the one moment that counts: see truncation.py
    compaction_finished   in the log

A crash before `truncate` leaves the log whole, one after it leaves nothing readable below the
floor; either way `resume` goes on. When the proof fails, or somebody needs older events after all,
`compaction_abandoned` says so, and nothing was truncated.
"""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
import anyio.to_thread

from eventstore import archive as archives, plans, snapshots
from eventstore.archive import Archive
from eventstore.errors import LogError
from eventstore.events import (
    CompactionAbandoned,
    CompactionFinished,
    CompactionStarted,
    Segment,
)
from eventstore.journal import Journal
from eventstore.log import EventLog
from eventstore.plans import Dependents, Plan, Sealed
from eventstore.retention import Policy
from eventstore.snapshots import Snapshot, State

_logger = logging.getLogger("hooktape.eventstore")

_PAGE: Final = 1000
_TRIES: Final = 3

Progress = Callable[[str, int, int], None]
"""`progress(step, done, total)`: at the beginning of each step, and as it goes on."""


class States(Protocol):
    """Folds the log into all the state that must outlive it."""

    async def everything(self, floor: int, upto: int) -> tuple[State, str]:
        """The state as of `floor`, and the digest of the one after `upto`, from the whole log."""
        ...

    async def afresh(self) -> State:
        """The state as of the log's first position, from the archive, as it reads by now."""
        ...

    async def tail(self, snapshot: Snapshot, upto: int) -> str:
        """The digest of the state after `upto`, from a snapshot and what follows its floor.

        Digests leave out what nobody needs from the floor on.
        """
        ...


class Abandoned(LogError):
    """The compaction was given up, and nothing was truncated."""


class Compaction:
    """Compacts one log. One run at a time; `progress` is told each step."""

    def __init__(
        self,
        log: EventLog,
        archive: Archive,
        states: States,
        dependents: Sequence[Dependents],
        *,
        sealed: Sealed | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """`sealed` says up to which position the audit has the leaves; None without an audit."""
        self._log = log
        self._archive = archive
        self._states = states
        self._dependents = dependents
        self._sealed = sealed
        self._clock = clock
        self._journal = Journal(log)
        self._running = anyio.Lock()

    async def plan(self, policy: Policy) -> Plan:
        """What `run` would do now. Changes nothing."""
        return await plans.plan(self._log, self._dependents, self._sealed, policy, self._clock())

    async def run(self, policy: Policy, progress: Progress) -> CompactionFinished | None:
        """Compact as far as the policy wants and others let it; None when there is nothing to do.

        What an earlier run left unfinished is finished first. Raises Abandoned, LogDamaged, and
        what appending raises; unless abandoned, it can be resumed.
        """
        async with self._running:
            await self._resume(progress)
            floor = (await self.plan(policy)).floor
            if floor <= self._log.first:
                return None
            started = CompactionStarted(id=uuid.uuid4().hex, first=self._log.first, floor=floor)
            await anyio.to_thread.run_sync(self._archive.discard, started.first)
            position = await self._journal.say(started)
            return await self._proceed(started, position, progress)

    async def resume(self, progress: Progress) -> CompactionFinished | None:
        """Finish what a crash interrupted; None when there is nothing. Raises what `run` raises."""
        async with self._running:
            return await self._resume(progress)

    async def renew(self) -> list[int]:
        """Take the log's snapshot again, because what it was made of was erased since.

        Returns the positions of snapshots' parts that nobody needs any more. Raises Truncated when
        the archive is not complete, and what appending raises; it can be done again.
        """
        async with self._running:
            current = await snapshots.latest(self._log)
            if current is not None:
                state = await self._states.afresh()
                if state.digest != current.state.digest:
                    name = uuid.uuid4().hex
                    events = snapshots.events(name, self._log.first, state)
                    await self._log.replace_snapshot(await self._journal.append(events, name))
            return await snapshots.stale(self._log)

    async def _resume(self, progress: Progress) -> CompactionFinished | None:
        unfinished = await self._journal.unfinished()
        if unfinished is None:
            return None
        _logger.info("compaction to position %d goes on", unfinished[0].floor)
        return await self._proceed(*unfinished, progress)

    async def _proceed(
        self, started: CompactionStarted, position: int, progress: Progress
    ) -> CompactionFinished:
        try:
            if self._log.first < started.floor:
                snapshot = await self._secure(started, position, progress)
            else:
                snapshot = self._log.snapshot or 0
            total = started.floor - started.first
            await self._truncate(started, snapshot, total, progress)
        except Abandoned as error:
            await self._journal.say(CompactionAbandoned(id=started.id, reason=str(error)))
            await anyio.to_thread.run_sync(self._archive.discard, started.first)
            raise
        progress("finish", 0, 1)
        finished = CompactionFinished(
            id=started.id,
            floor=started.floor,
            count=total,
            snapshot=snapshot,
            segments=await self._segments(started),
        )
        await self._journal.say(finished)
        _logger.info("compacted %d events, the log begins at %d", total, started.floor)
        return finished

    async def _secure(self, started: CompactionStarted, position: int, progress: Progress) -> int:
        """Everything before the point of no return; the position of the snapshot."""
        for _ in range(_TRIES):
            progress("ready", 0, len(self._dependents))
            for done, dependent in enumerate(self._dependents, start=1):
                await dependent.ready(started.floor)
                progress("ready", done, len(self._dependents))
            begun = self._log.head
            await self._write_archive(started, progress)
            snapshot = await self._take_snapshot(started, position, progress)
            await self._check_holds(started.floor)
            if not await self._journal.erased_since(begun):
                return snapshot
        raise Abandoned("events are erased all the time, so no archive of them stays true")

    async def _write_archive(self, started: CompactionStarted, progress: Progress) -> None:
        total, done = started.floor - started.first, 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("archive", done, total)

        progress("archive", 0, total)
        for after, upto in archives.ranges(started.first, started.floor):
            await anyio.to_thread.run_sync(
                self._archive.write, self._log.path, after, upto, advance
            )

    async def _take_snapshot(
        self, started: CompactionStarted, position: int, progress: Progress
    ) -> int:
        upto = self._log.head
        progress("snapshot", 0, 1)
        state, expected = await self._states.everything(started.floor, upto)
        taken = await self._journal.taken(started, position, state)
        if taken is None:
            events = snapshots.events(started.id, started.floor, state)
            taken = await self._journal.append(events, f"snapshot\0{started.id}\0{upto}")
        progress("prove", 0, 1)
        snapshot = await snapshots.load(self._log, taken)
        if await self._states.tail(snapshot, upto) != expected:
            raise Abandoned(
                f"the state folded from the snapshot at position {taken} is not the one folded"
                " from everything: please report this"
            )
        return taken

    async def _truncate(
        self, started: CompactionStarted, snapshot: int, total: int, progress: Progress
    ) -> None:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("truncate", done, total)

        progress("truncate", 0, total)
        await self._log.truncate_before(started.floor, snapshot=snapshot, progress=advance)

    async def _segments(self, started: CompactionStarted) -> list[Segment]:
        found = await anyio.to_thread.run_sync(self._archive.segments)
        return [each for each in found if started.first <= each.first < started.floor]

    async def _check_holds(self, floor: int) -> None:
        for hold in await plans.holds(self._dependents, self._sealed):
            if hold.position < floor:
                raise Abandoned(f"positions from {hold.position} on are needed by {hold.by}")

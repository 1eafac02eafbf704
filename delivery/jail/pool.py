"""The service's side of the Lua workers: a few processes, each killed as soon as it misbehaves.

Promise: a call ends within `wall_seconds` of reaching a worker, whatever the function does, and
the next call finds a working one. A worker that was interrupted, whose answer was late or wrong,
or that asked to be replaced never gets another call. Who gets which worker when: see `schedule`.
Not promised: that two calls of one hook meet the same worker.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from delivery.jail.frames import (
    CALL_LIMIT,
    HEADER,
    Call,
    Engine,
    Limits,
    Profile,
    Ready,
    Setup,
    framed,
)
from delivery.jail.process import JailUnavailable, WorkerLost, WorkerProcess, worker_command
from delivery.jail.ran import Ran, failed, reported
from delivery.jail.schedule import Schedule, Seat, Ticket

_log = logging.getLogger("hooktape.delivery.lambda")

_STOPPED = "the workers are stopped"


class JailOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`spares` are workers beyond those that may be busy, ready for when one is killed.

    A system that lacks one of the barriers in `required` gets no calls (see `Ready`).
    """

    workers: int = 2
    spares: int = 1
    wall_seconds: float = 2.0
    start_seconds: float = 10.0
    required: tuple[str, ...] = ()
    engine: Engine = "lua"
    limits: Limits = Limits()
    profile: Profile = Profile()


_DEFAULTS = JailOptions()


class WorkerPool:
    """Runs calls in worker processes. Until the first call or probe there are none."""

    def __init__(self, options: JailOptions, tasks: TaskGroup) -> None:
        self._options = options
        self._tasks = tasks
        self._setup = Setup(options.engine, options.limits, options.profile, os.getpid())
        self._schedule = Schedule(options.workers, options.spares)
        self._processes: dict[Seat, WorkerProcess] = {}
        self._turns: dict[Ticket, asyncio.Future[None]] = {}  # of those that wait
        self._alarm: asyncio.TimerHandle | None = None
        self._first_start = anyio.Event()  # set when it ended, well or not
        self._ready: Ready | None = None
        self._problem: str | None = None
        self._closed = False
        self._calls = self._killed = self._handovers = self._starts = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, options: JailOptions = _DEFAULTS) -> AsyncGenerator[Self]:
        """A pool whose processes are all gone and reaped when the context is left."""
        async with anyio.create_task_group() as tasks:
            pool = cls(options, tasks)
            try:
                yield pool
            finally:
                tasks.cancel_scope.cancel()
                await pool._close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [process.pid for process in self._processes.values()]

    @property
    def ready(self) -> Ready | None:
        """What the workers run and how they are jailed; None until the first one is there."""
        return self._ready

    @property
    def problem(self) -> str | None:
        """Why the last start of a worker failed; None if it did not."""
        return self._problem

    def summary(self) -> dict[str, int]:
        """Counts since the pool was opened, and how many workers there are now.

        "killed" are calls whose worker had to be killed or ended by itself, "handovers" workers
        that were replaced because another workspace needed one.
        """
        return {
            "jail_calls": self._calls,
            "jail_killed": self._killed,
            "jail_handovers": self._handovers,
            "jail_starts": self._starts,
            "jail_workers": len(self._processes),
        }

    async def probe(self) -> Ready:
        """Start a worker, unless one was, and say what it is. Raises JailUnavailable."""
        self._check_open()
        self._schedule.want(1)
        self._act()
        await self._first_start.wait()
        self._check_open()
        if self._ready is None or self._problem is not None:
            raise JailUnavailable(self._problem or "no worker")
        return self._ready

    async def run(self, call: Call) -> Ran:
        """Run one call; cancelling it kills its worker. Raises JailUnavailable."""
        frame = framed(call)
        if len(frame) > HEADER.size + CALL_LIMIT:
            return failed(f"the event and the program take {len(frame)} bytes, over {CALL_LIMIT}")
        self._check_open()
        ticket = Ticket(call.workspace, call.hook)
        self._schedule.enter(ticket)
        usable = True
        try:
            process = await self._turn(ticket)
            usable = False
            ran, usable = await self._ask(process, frame)
            return ran
        finally:
            self._leave(ticket, usable=usable)

    async def _ask(self, process: WorkerProcess, frame: bytes) -> tuple[Ran, bool]:
        """How the call went, and whether the worker may be used again."""
        self._calls += 1
        began = time.perf_counter()
        try:
            reply = await process.ask(frame, self._options.wall_seconds)
        except WorkerLost as lost:
            self._killed += 1
            return failed(str(lost), seconds=time.perf_counter() - began, killed=True), False
        return reported(reply.report, time.perf_counter() - began), not reply.retiring

    def _check_open(self) -> None:
        if self._closed:
            raise JailUnavailable(_STOPPED)

    async def _turn(self, ticket: Ticket) -> WorkerProcess:
        """Wait for a worker. It has not been sent anything yet."""
        while True:
            self._act()
            if ticket.seat is None and not ticket.refused:
                self._turns[ticket] = asyncio.get_running_loop().create_future()
                try:
                    await self._turns[ticket]
                finally:
                    del self._turns[ticket]
            self._check_open()
            if ticket.seat is None:
                raise JailUnavailable(self._problem or "no worker")
            process = self._processes[ticket.seat]
            if process.alive:
                return process
            self._end(ticket.seat)

    def _leave(self, ticket: Ticket, *, usable: bool) -> None:
        if self._closed:
            return
        seat = ticket.seat
        self._schedule.leave(ticket, time.monotonic())
        if seat is not None and not usable:
            self._end(seat)
        self._act()

    def _end(self, seat: Seat) -> None:
        self._schedule.lost(seat)
        self._close_later(seat)

    def _close_later(self, seat: Seat) -> None:
        process = self._processes.pop(seat)
        process.kill()
        self._tasks.start_soon(process.close)

    def _act(self) -> None:
        """Do what the schedule says."""
        if self._closed:
            return
        now = time.monotonic()
        decision = self._schedule.decide(now)
        for ticket in (*decision.begin, *decision.refuse):
            turn = self._turns.get(ticket)
            if turn is not None and not turn.done():
                turn.set_result(None)
        for seat in decision.evict:
            self._handovers += 1
            self._close_later(seat)
        for _ in range(decision.start):
            self._tasks.start_soon(self._start)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if decision.wake != inf:
            delay = decision.wake - now
            self._alarm = asyncio.get_running_loop().call_later(delay, self._act)

    async def _start(self) -> None:
        try:
            process = await self._started()
        except JailUnavailable as problem:
            self._problem = str(problem)
            self._schedule.not_started(time.monotonic())
            _log.warning("%s", problem)
        else:
            self._problem = None
            self._processes[self._schedule.started()] = process
            if self._closed:
                await process.close()
        finally:
            self._first_start.set()
        self._act()

    async def _started(self) -> WorkerProcess:
        self._starts += 1
        process = await WorkerProcess.start(
            worker_command(), self._setup, self._options.start_seconds
        )
        self._ready = process.ready
        barriers = process.ready.barriers
        missing = [name for name in self._options.required if name not in barriers]
        if missing:
            await process.close()
            raise JailUnavailable(_too_open(missing, barriers))
        return process

    async def _close(self) -> None:
        self._closed = True
        self._first_start.set()
        if self._alarm is not None:
            self._alarm.cancel()
        for turn in self._turns.values():
            if not turn.done():
                turn.set_result(None)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for process in self._processes.values():
                    tasks.start_soon(process.close)


def _too_open(missing: Sequence[str], barriers: Sequence[str]) -> str:
    have = f"has {', '.join(barriers)}" if barriers else "has nothing"
    return f"this system cannot jail user code: no {', no '.join(missing)} ({have})"

"""The service's side of the Lua workers: a few processes, each killed as soon as it misbehaves.

Promise: a call ends within `wall_seconds` of reaching a worker, whatever the function does, and
the next call finds a working one. A worker that was interrupted, whose answer was late or wrong,
or that asked to be replaced never gets another call. One hook holds at most all workers but one.
Not promised: that two calls of one hook meet the same worker.
"""

import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Self
from weakref import WeakValueDictionary

import anyio
import msgspec
from anyio.abc import TaskGroup

from delivery.lambda_frames import CALL_LIMIT, HEADER, Call, Limits, Report, framed
from delivery.lambda_process import LambdaProcess, LambdaUnavailable, WorkerLost

_log = logging.getLogger("hooktape.delivery.lambda")

_STOPPED = "the Lua workers are stopped"
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LambdaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`spares` are workers beyond those that may be busy, ready for when one is killed."""

    workers: int = 2
    spares: int = 1
    wall_seconds: float = 2.0
    start_seconds: float = 10.0
    limits: Limits = Limits()


_DEFAULTS = LambdaOptions()


class Ran(msgspec.Struct, frozen=True):
    """How a call went: `error` is one line, None after success; `lines` are (level, text).

    Control characters in both are escaped, so nothing here can forge a line of a log.
    """

    error: str | None
    lines: tuple[tuple[int, str], ...] = ()


class LambdaPool:
    """Runs calls in worker processes. The first call starts them; until then there are none."""

    def __init__(self, options: LambdaOptions, tasks: TaskGroup) -> None:
        self._options = options
        self._tasks = tasks
        self._slots = anyio.Semaphore(options.workers, fast_acquire=True)
        self._turns: WeakValueDictionary[tuple[str, str], anyio.Semaphore] = WeakValueDictionary()
        # `_workers` are all that are ready; those of them without a call are also in `_idle`,
        # the most recently used last: its Lua states are the warmest.
        self._workers: set[LambdaProcess] = set()
        self._idle: list[LambdaProcess] = []
        self._stocking = False
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, options: LambdaOptions = _DEFAULTS) -> AsyncGenerator[Self]:
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
        return [worker.pid for worker in self._workers]

    async def run(self, call: Call) -> Ran:
        """Run one call; cancelling it kills its worker. Raises LambdaUnavailable."""
        frame = framed(call)
        if len(frame) > HEADER.size + CALL_LIMIT:
            return Ran(f"the event and the functions take {len(frame)} bytes, over {CALL_LIMIT}")
        async with self._turn(call), self._slots:
            worker = await self._take()
            usable = False
            try:
                reply = await worker.ask(frame, self._options.wall_seconds)
                usable = not reply.retiring
            except WorkerLost as lost:
                return Ran(str(lost))
            finally:
                self._put_back(worker, usable=usable)
            return _ran(reply.report)

    async def check(self, functions: Sequence[str]) -> list[str]:
        """What is wrong with the functions, in Kong's words. Raises LambdaUnavailable.

        Each chunk is compiled and run, as creating it does in Kong, but not the function it makes.
        """
        calls = [Call(workspace="", hook="", functions=(source,)) for source in functions]
        results = [await self.run(call) for call in calls]
        return [ran.error for ran in results if ran.error is not None]

    def _turn(self, call: Call) -> anyio.Semaphore:
        key = (call.workspace, call.hook)
        turn = self._turns.get(key)
        if turn is None:
            width = max(1, self._options.workers - 1)
            turn = self._turns[key] = anyio.Semaphore(width, fast_acquire=True)
        return turn

    async def _take(self) -> LambdaProcess:
        if self._closed:
            raise LambdaUnavailable(_STOPPED)
        while self._idle and not self._idle[-1].alive:
            self._put_back(self._idle.pop(), usable=False)
        worker = self._idle.pop() if self._idle else await self._start()
        self._restock()
        return worker

    def _put_back(self, worker: LambdaProcess, *, usable: bool) -> None:
        if usable and not self._closed and len(self._workers) <= self._wanted:
            self._idle.append(worker)
            return
        worker.kill()
        self._workers.discard(worker)
        if not self._closed:
            self._tasks.start_soon(worker.close)
            self._restock()

    @property
    def _wanted(self) -> int:
        return self._options.workers + self._options.spares

    def _restock(self) -> None:
        if not self._stocking and len(self._workers) < self._wanted:
            self._stocking = True
            self._tasks.start_soon(self._stock)

    async def _stock(self) -> None:
        try:
            while len(self._workers) < self._wanted:
                self._idle.insert(0, await self._start())
        except LambdaUnavailable as problem:
            _log.warning("%s", problem)
        finally:
            self._stocking = False

    async def _start(self) -> LambdaProcess:
        worker = await LambdaProcess.start(self._options.limits, self._options.start_seconds)
        if self._closed:
            await worker.close()
            raise LambdaUnavailable(_STOPPED)
        self._workers.add(worker)
        return worker

    async def _close(self) -> None:
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for worker in self._workers:
                    tasks.start_soon(worker.close)


def _ran(report: Report) -> Ran:
    lines = [(line.level, _text(line.text)) for line in report.lines]
    if report.dropped:
        lines.append((logging.WARNING, f"{report.dropped} more lines dropped"))
    return Ran(None if report.error is None else _text(report.error), tuple(lines))


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)

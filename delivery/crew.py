"""Tasks that outlive their job: starting one costs several times what handing over a job does.

Measured: `TaskGroup.start_soon` 28 µs, handing over 4 µs, beside 150 µs for a whole exchange.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVarTuple

from anyio.abc import TaskGroup

Ts = TypeVarTuple("Ts")


class Crew(Generic[*Ts]):
    """Runs `work` for each job at once, in `tasks`, which own and cancel it like any other task.

    `work` raises nothing but cancellation. The crew is as large as the most jobs there ever were
    at a time; after `close` those without a job end, and the others when theirs is done.
    """

    def __init__(self, work: Callable[[*Ts], Awaitable[None]], tasks: TaskGroup) -> None:
        self._work = work
        self._tasks = tasks
        self._idle: list[asyncio.Future[tuple[*Ts] | None]] = []
        self._closed = False

    def start(self, *job: *Ts) -> None:
        """Begin a job now."""
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():  # cancelled, and not run since
                idle.set_result(job)
                return
        self._tasks.start_soon(self._run, job)

    def close(self) -> None:
        """Keep nobody waiting for another job."""
        self._closed = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._idle.clear()

    async def _run(self, job: tuple[*Ts] | None) -> None:
        loop = asyncio.get_running_loop()
        while job is not None:
            await self._work(*job)
            if self._closed:
                return
            idle: asyncio.Future[tuple[*Ts] | None] = loop.create_future()
            self._idle.append(idle)
            job = await idle

"""The delivery side of the service: start, supervise, drain.

A crash of the consumer does not touch the API: it is started again from its checkpoint, with
back-off. An event that crashes it three times for a hook is parked for that hook.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from eventstore.errors import LogDiverged
from eventstore.log import EventLog
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources

from .admission import Admission, Limits
from .attempts import Attempts
from .consumer import Consumer, PoisonError
from .ledger import Ledger
from .perform import Perform
from .retry import RetryPolicy
from .state import StateStore

_logger = logging.getLogger("hooktape.delivery")

_POISONED_AT: Final = 3
_BACKOFF: Final = (0.1, 0.5, 2.0, 10.0, 30.0)


class DeliveryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`drain_timeout`: seconds that attempts in flight get to finish when the service stops.

    With `enabled` false nothing is delivered; what is stored meanwhile is delivered later.
    """

    enabled: bool = True
    limits: Limits = Limits()
    policy: RetryPolicy = RetryPolicy()
    drain_timeout: float = 8.0


class DeliveryService:
    """Owner of the consumer. `failure` says why it is down, None while it runs."""

    def __init__(
        self,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        sources: Sources,
        store: StateStore,
        perform: Perform,
        options: DeliveryOptions,
    ) -> None:
        self._log = log
        self._projections = projections
        self._hooks = hooks
        self._sources = sources
        self._store = store
        self._perform = perform
        self._options = options
        self._crashes: Counter[tuple[str, int]] = Counter()
        self._stopping = anyio.Event()
        self.failure: str | None = "starting"
        self.ledger = Ledger(log, store, hooks)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        sources: Sources,
        *,
        directory: Path,
        perform: Perform,
        options: DeliveryOptions,
    ) -> AsyncIterator["DeliveryService"]:
        """Open `state.db` and prove that it belongs to this log.

        Raises `LogDiverged` when it does not: going on would skip or repeat events silently.
        """
        async with StateStore.open(directory) as store:
            service = cls(log, projections, hooks, sources, store, perform, options)
            await service._restore()
            yield service

    async def run(self) -> None:
        """Deliver until `stop`; then drain, write everything down and return."""
        if not self._options.enabled:
            self.failure = None
            await self._stopping.wait()
            return
        restarts = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self.failure = None
                await self._run_once()
                return
            except* Exception as group:
                self.failure = "the consumer crashed and starts again"
                _logger.exception("the consumer crashed", exc_info=group)
                self._crashes.update(_poison(group))
            restarts = 0 if time.monotonic() - started > _BACKOFF[-1] else restarts + 1
            with anyio.move_on_after(_BACKOFF[min(restarts, len(_BACKOFF) - 1)]):
                await self._stopping.wait()
            self.ledger = Ledger(self._log, self._store, self._hooks)
            await self._restore()

    def stop(self) -> None:
        """Take nothing new; `run` returns after the drain."""
        self._stopping.set()

    def summary(self) -> dict[str, float]:
        """Counts for operators: how far delivery is, and what it has not settled."""
        outboxes = self.ledger.outboxes.values()
        return {
            "position": self.ledger.live,
            "behind": self._log.head - self.ledger.live,
            "open": sum(len(outbox.open) for outbox in outboxes),
            "in_flight": sum(len(outbox.running) for outbox in outboxes),
            "parked": sum(len(outbox.parked) for outbox in outboxes),
            "lagging_hooks": sum(outbox.position is not None for outbox in outboxes),
            "stopped_hooks": sum(outbox.stopped is not None for outbox in outboxes),
        }

    def problems(self) -> list[str]:
        """Why deliveries do not go on, in one line each."""
        return [] if self.failure is None else [self.failure]

    async def _run_once(self) -> None:
        ledger = self.ledger
        async with anyio.create_task_group() as recording:
            recording.start_soon(ledger.run_flushes)
            async with anyio.create_task_group() as performing:
                attempts = self._attempts(performing)
                async with anyio.create_task_group() as deciding:
                    consumer = self._consumer(attempts, deciding)
                    deciding.start_soon(consumer.run)
                    deciding.start_soon(attempts.run_schedule)
                    deciding.start_soon(ledger.run_receipts)
                    await self._stopping.wait()
                    deciding.cancel_scope.cancel()
                attempts.close()
                drain = self._options.drain_timeout
                performing.cancel_scope.deadline = anyio.current_time() + drain
            recording.cancel_scope.cancel()
        await ledger.append_receipts()
        await ledger.flush()

    def _attempts(self, performing: TaskGroup) -> Attempts:
        admission = Admission(self._options.limits)
        attempts = Attempts(
            self._log,
            self._hooks,
            self.ledger,
            admission,
            self._perform,
            self._options.policy,
            performing,
            clock=lambda: time.time_ns() // 1000,
            jitter=random.random,
        )
        self.ledger.flushed = admission.wake_all
        self.ledger.woken = attempts.pump
        return attempts

    def _consumer(self, attempts: Attempts, lanes: TaskGroup) -> Consumer:
        return Consumer(
            self._log,
            self._projections,
            self._hooks,
            self._sources,
            self.ledger,
            attempts,
            lanes,
            poison=frozenset(key for key, n in self._crashes.items() if n >= _POISONED_AT),
        )

    async def _restore(self) -> None:
        loaded = await self._store.load()
        if loaded.cursor is None:
            await self.ledger.recover()
            return
        try:
            await self._log.verify(loaded.cursor)
        except LogDiverged as error:
            raise LogDiverged(
                f"state.db is of another log or a later state of this one: {error}."
                " Delete it to go on from what the log says; deliveries may be repeated"
            ) from error
        self.ledger.restore(loaded)


def _poison(group: BaseExceptionGroup[BaseException]) -> list[tuple[str, int]]:
    found = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found.extend(_poison(error))
        elif isinstance(error, PoisonError):
            found.append(error.poison)
    return found

"""The delivery side of the service: start, supervise, drain.

A crash of the consumer does not touch the API: it is started again from its checkpoint, with
back-off. An event that cannot be read crashes nothing: it is parked for the hooks concerned.
"""

import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from eventstore.errors import LogUnavailable
from eventstore.events import EventsErased
from eventstore.log import EventLog
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources

from .admission import Admission, Limits
from .attempts import Attempts
from .consumer import Consumer
from .erasures import Erasures
from .ledger import Ledger
from .perform import Perform
from .receipts import Receipts
from .retry import RetryPolicy
from .store import StateStore

_logger = logging.getLogger("hooktape.delivery")

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
        self._stopping = anyio.Event()
        self.failure: str | None = "starting"
        self.ledger = Ledger(log, store, hooks)
        self.receipts = Receipts(log, hooks, self.ledger)
        self._erasures = Erasures(log, hooks)

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
            await service.ledger.load()
            for seq, record in await log.eraser.records(service.ledger.live):
                await service.erased(seq, record)
            yield service

    async def run(self) -> None:
        """Deliver until `stop`; then drain, write everything down and return."""
        if not self._options.enabled:
            self.failure = None
            await self._stopping.wait()
            return
        restarts = 0
        crashed = False
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                if crashed:
                    await self._reload()
                self.failure = None
                await self._run_once()
                return
            except* Exception as group:
                crashed = True
                self.failure = "the consumer crashed and starts again"
                _logger.exception("the consumer crashed", exc_info=group)
            if time.monotonic() - started > _BACKOFF[-1]:
                restarts = 0
            with anyio.move_on_after(_BACKOFF[min(restarts, len(_BACKOFF) - 1)]):
                await self._stopping.wait()
            restarts += 1

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
        return [problem for problem in (self.failure, self.ledger.problem) if problem is not None]

    async def erased(self, seq: int, record: EventsErased) -> None:
        """Act on an erasure that the read models have applied: neither in memory nor in state.db
        is anything left of it.

        Raises LogUnavailable when state.db cannot be written, or somebody keeps reading it.
        """
        await self._erasures.obey(seq, record, self.ledger)
        if not await self.ledger.flush():
            raise LogUnavailable(self.ledger.problem or "state.db cannot be written now")
        if not await self._store.scrub():
            raise LogUnavailable("the erasure is stored, and waits for a reader of state.db")

    async def wait_live(self, seq: int) -> None:
        """Return once the event at `seq` has been decided, across restarts of the consumer.

        At once while nothing is delivered at all.
        """
        while self._options.enabled and self.ledger.live < seq:
            await self.ledger.moved()

    async def _run_once(self) -> None:
        ledger, receipts = self.ledger, self.receipts
        async with anyio.create_task_group() as recording:
            recording.start_soon(ledger.run_flushes)
            async with anyio.create_task_group() as performing:
                attempts = self._attempts(performing)
                async with anyio.create_task_group() as deciding:
                    consumer = Consumer(
                        self._log,
                        self._projections,
                        self._hooks,
                        self._sources,
                        ledger,
                        receipts,
                        attempts,
                        deciding,
                        self._erasures,
                    )
                    deciding.start_soon(consumer.run)
                    deciding.start_soon(attempts.run_timetable)
                    deciding.start_soon(receipts.run)
                    await self._stopping.wait()
                    deciding.cancel_scope.cancel()
                attempts.close()
                drain = self._options.drain_timeout
                performing.cancel_scope.deadline = anyio.current_time() + drain
            recording.cancel_scope.cancel()
        # Twice: the first may only finish what a crash interrupted, and say nothing new.
        await receipts.append(ledger.outboxes.values())
        await receipts.append(ledger.outboxes.values())
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
        self.ledger.flushed = admission.flushed
        self.ledger.woken = attempts.start_due
        return attempts

    async def _reload(self) -> None:
        """Start again from what is on disk; whoever waits on the old ledger turns to the new."""
        await self._store.reopen()
        ledger = Ledger(self._log, self._store, self._hooks)
        await ledger.load()
        self.ledger, old = ledger, self.ledger
        self.receipts = Receipts(self._log, self._hooks, ledger)
        old.announce()

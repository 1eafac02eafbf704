"""What has been decided and done, in memory, and its way to disk.

Promise: after a crash at most the completions since the last flush (`UNFLUSHED` of them) and the
attempts in flight are repeated, each under its old delivery id. While that many completions wait,
no new attempt starts. Ranges without a match write nothing.
"""

import logging
from collections.abc import Callable
from typing import Final

import anyio

from eventstore.errors import LogDiverged, Truncated
from eventstore.log import EventLog
from eventstore.plans import Hold
from projections.hooks import Hooks

from .outbox import Outbox
from .recovery import recover
from .state import Loaded
from .store import Changes, StateStore, StateUnavailable

_logger = logging.getLogger("hooktape.delivery")

UNFLUSHED: Final = 256
"""Completions that may wait for the disk."""

_FLUSH_EVERY: Final = 0.1
_RETRY_FLUSH: Final = 1.0
_RECEIPT_AT: Final = 1000
# The live position alone is worth a write only after this many events.
_STRIDE: Final = 10_000


class Ledger:
    """All outboxes, and `live`: everything up to there was decided for hooks without a lane.

    `known`: orders up to this position were obeyed when the ledger was filled. `problem` says in
    one line why `state.db` takes nothing now.
    """

    def __init__(self, log: EventLog, store: StateStore, hooks: Hooks) -> None:
        self._log = log
        self._store = store
        self._hooks = hooks
        self.live = 0
        self.known = 0
        self.outboxes: dict[str, Outbox] = {}
        self.unflushed = 0
        self.problem: str | None = None
        self.flushed: Callable[[], None] = lambda: None  #: called after each flush
        self.woken: Callable[[Outbox], None] = lambda _: None  #: called when an outbox may go on
        self.receipts_due = anyio.Event()  #: some hook has enough to say for a receipt
        self._saved = 0
        self._changes = Changes()  # collected and not on disk yet
        self._dirty: dict[Outbox, None] = {}
        self._wanted = anyio.Event()
        self._urgent = anyio.Event()
        self._flushing = anyio.Lock()
        self._moved = anyio.Event()

    async def load(self) -> None:
        """Take over what `state.db` holds or, when it is new, what the log itself says.

        Raises `LogDiverged` when `state.db` does not belong to this log.
        """
        loaded = await self._store.load()
        if loaded.cursor is None:
            await self._recover()
            return
        try:
            await self._log.verify(loaded.cursor)
        except (LogDiverged, Truncated) as error:
            raise LogDiverged(
                f"state.db is of another log or a later state of this one: {error}."
                " Delete it to go on from what the log says; deliveries may be repeated"
            ) from error
        self._restore(loaded, loaded.cursor.seq)

    def outbox(self, hook_id: str) -> Outbox:
        """The hook's outbox; a new one starts right before the hook's creation."""
        outbox = self.outboxes.get(hook_id)
        if outbox is None:
            settled = self._hooks.over_until(hook_id)
            outbox = self.outboxes[hook_id] = Outbox(hook_id, settled, self._wake)
        return outbox

    def stop(self, outbox: Outbox, reason: str) -> None:
        """Send nothing more for this hook; what is in flight is finished."""
        outbox.stopped = reason
        self.touch(outbox)
        self.receipts_due.set()  # so that what went before is settled, should state.db be lost
        outbox.wake()

    def forget(self, outbox: Outbox) -> None:
        """The hook is gone and its cancellation is in the log."""
        outbox.erase()
        self.touch(outbox)
        del self.outboxes[outbox.hook_id]
        outbox.wake()

    def touch(self, outbox: Outbox) -> None:
        """Something of `outbox` has to reach the disk."""
        if self.outboxes.get(outbox.hook_id) is not outbox:
            return  # of a hook that is gone, perhaps made again
        self._dirty[outbox] = None
        self._wanted.set()
        if outbox.progress.delivered + len(outbox.progress.suppressed) >= _RECEIPT_AT:
            self.receipts_due.set()

    def completed(self, outbox: Outbox) -> None:
        """An attempt is over and its result is in `outbox`."""
        self.unflushed += 1
        if self.unflushed >= UNFLUSHED // 2:
            self._urgent.set()
        self.touch(outbox)

    def advance(self, seq: int) -> None:
        """Everything up to `seq` has been decided."""
        self.live = seq
        if seq - self._saved >= _STRIDE:
            self._wanted.set()

    def announce(self) -> None:
        """Let those go on who wait for `live` to move."""
        self._moved.set()
        self._moved = anyio.Event()

    async def moved(self) -> None:
        """Return after the next `announce`."""
        await self._moved.wait()

    def holds(self) -> list[Hold]:
        """The events that are still to be decided, or to be sent and not copied anywhere."""
        held = [Hold(self.live + 1, "the consumer")]
        for outbox in self.outboxes.values():
            if outbox.position is not None:
                why = outbox.stopped or "it is catching up"
                held.append(Hold(outbox.position + 1, f"hook {outbox.hook_id}: {why}"))
            waiting = [seq for (seq, _), opened in outbox.open.items() if not opened.copy]
            if waiting:
                held.append(Hold(min(waiting), f"hook {outbox.hook_id}: deliveries are open"))
        return held

    async def run_flushes(self) -> None:
        """Write what changed, at the latest `_FLUSH_EVERY` seconds after it did."""
        while True:
            await self._wanted.wait()
            with anyio.move_on_after(_FLUSH_EVERY):
                await self._urgent.wait()
            if not await self.flush():
                await anyio.sleep(_RETRY_FLUSH)

    async def flush(self) -> bool:
        """Write everything that is not on disk yet, in one transaction; whether that worked."""
        async with self._flushing:
            # No await between here and the end of collect: what is gathered fits together.
            # It is kept until it is on disk, however this ends.
            position, done = self.live, self.unflushed
            dirty, self._dirty = self._dirty, {}
            for outbox in dirty:
                outbox.collect(self._changes)
            if not self._changes and position == self._saved:
                return True
            if self._wanted.is_set():
                self._wanted = anyio.Event()
            if self._urgent.is_set():
                self._urgent = anyio.Event()
            cursor = await self._log.checkpoint(position)
            try:
                await self._store.save(self._changes, cursor, max(self.known, position))
            except StateUnavailable as error:
                _logger.warning("state.db cannot be written, deliveries wait: %s", error)
                self.problem = f"state.db cannot be written: {error}"
                self._wanted.set()
                return False
            self.problem = None
            self._changes = Changes()
            self._saved = position
            self.unflushed -= done
        self.flushed()
        return True

    def _restore(self, loaded: Loaded, live: int) -> None:
        self.live = self._saved = live
        self.known = loaded.known
        for hook_id, progress in loaded.progress.items():
            self.outbox(hook_id).progress = progress
        for hook_id in loaded.open.keys() | loaded.parked.keys():
            opened, parked = loaded.open.get(hook_id, {}), loaded.parked.get(hook_id, {})
            self.outbox(hook_id).restore(opened, parked)
        for hook_id, lane in loaded.lanes.items():
            self.outbox(hook_id).restore_lane(lane)
        for hook_id, key, digest, wall_us in loaded.fired:
            self.outbox(hook_id).restore_memory(key, digest, wall_us)

    async def _recover(self) -> None:
        found, self.known = await recover(self._log, self._hooks)
        for hook_id, recovered in found.items():
            outbox = self.outbox(hook_id)
            outbox.recover(recovered)
            self.touch(outbox)
        self.live = self._log.first - 1
        self._saved = -1  # so that the file is not new any more
        await self.flush()

    def _wake(self, outbox: Outbox) -> None:
        self.woken(outbox)

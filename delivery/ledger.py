"""What has been decided and done, in memory, and its way to disk.

Promise: after a crash at most the completions since the last flush (`UNFLUSHED` of them) and the
attempts in flight are repeated, each under its old delivery id. While that many completions wait,
no new attempt starts. Ranges without a match write nothing.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

import anyio

from eventstore.codec import new_event
from eventstore.errors import LogError
from eventstore.events import DELIVERIES_PREFIX
from eventstore.log import EventLog
from eventstore.records import Append, Checkpoint, Kind, NewEvent
from projections.hooks import Hooks

from .outbox import Outbox
from .recovery import recover
from .state import Changes, Item, Loaded, StateStore, StateUnavailable

_logger = logging.getLogger("hooktape.delivery")

UNFLUSHED: Final = 256
"""Completions that may wait for the disk."""

_FLUSH_EVERY: Final = 0.1
_RETRY_SAVE: Final = 1.0
_RECEIPT_EVERY: Final = 10.0
_RECEIPT_AT: Final = 1000
_RECEIPTS_PER_APPEND: Final = 200
# The live position alone is worth a write only after this many events.
_STRIDE: Final = 10_000


class Ledger:
    """All outboxes, and `live`: everything up to there was decided for hooks without a lane."""

    def __init__(self, log: EventLog, store: StateStore, hooks: Hooks) -> None:
        self._log = log
        self._store = store
        self._hooks = hooks
        self.live = 0
        self.known = 0  #: facts up to here are part of what was taken over at the start
        self.outboxes: dict[str, Outbox] = {}
        self.unflushed = 0
        self.flushed: Callable[[], None] = lambda: None  #: called after each flush
        self.woken: Callable[[Outbox], None] = lambda _: None  #: called when an outbox may go on
        self._saved = 0
        self._dirty: set[Outbox] = set()
        self._wanted = anyio.Event()
        self._urgent = anyio.Event()
        self._receipts_due = anyio.Event()
        self._flushing = anyio.Lock()
        self._moved = anyio.Event()

    def restore(self, loaded: Loaded) -> None:
        """Take over what `state.db` holds."""
        self.live = self._saved = loaded.cursor.seq if loaded.cursor is not None else 0
        self.known = self.live
        for hook_id, progress in loaded.progress.items():
            self.outbox(hook_id).progress = progress
        for hook_id in {key[0] for key in (*loaded.open, *loaded.parked)}:
            self.outbox(hook_id).restore(
                {(s, p): v for (h, s, p), v in loaded.open.items() if h == hook_id},
                {(s, p): v for (h, s, p), v in loaded.parked.items() if h == hook_id},
            )
        for hook_id, lane in loaded.lanes.items():
            self.outbox(hook_id).restore_lane(lane)
        for hook_id, key, digest, wall_us in loaded.fired:
            self.outbox(hook_id).restore_memory(key, digest, wall_us)

    async def recover(self) -> None:
        """`state.db` is new: take over what the log itself says."""
        self.known = self._log.head
        for hook_id, recovered in (await recover(self._log)).items():
            if self._hooks.current(hook_id) is None:
                continue
            outbox = self.outbox(hook_id)
            outbox.recover(recovered)
            self.touch(outbox)
        self.live = self._log.first - 1
        await self.flush()

    def outbox(self, hook_id: str) -> Outbox:
        """The hook's outbox; a new one starts right before the hook's creation."""
        outbox = self.outboxes.get(hook_id)
        if outbox is None:
            history = self._hooks.history(hook_id)
            settled = history[0].since - 1 if history else 0
            outbox = self.outboxes[hook_id] = Outbox(hook_id, settled, self._wake)
        return outbox

    def _wake(self, outbox: Outbox) -> None:
        self.woken(outbox)

    def touch(self, outbox: Outbox) -> None:
        """Something of `outbox` has to reach the disk."""
        self._dirty.add(outbox)
        self._wanted.set()

    def completed(self, outbox: Outbox) -> None:
        """An attempt is over and its result is in `outbox`."""
        self.unflushed += 1
        if self.unflushed >= UNFLUSHED // 2:
            self._urgent.set()
        if outbox.progress.delivered >= _RECEIPT_AT:
            self._receipts_due.set()
        self.touch(outbox)

    def want_receipts(self) -> None:
        """Something should be in the log soon, not only in `state.db`."""
        self._receipts_due.set()

    def advance(self, seq: int) -> None:
        """Everything up to `seq` has been decided."""
        self.live = seq
        if seq - self._saved >= _STRIDE:
            self._wanted.set()

    def announce(self) -> None:
        """Let those go on who wait for `live`."""
        self._moved.set()
        self._moved = anyio.Event()

    async def wait_live(self, seq: int) -> None:
        """Return once the event at `seq` has been decided."""
        while self.live < seq:
            await self._moved.wait()

    def forget(self, outbox: Outbox) -> None:
        """The hook is gone and its cancellation is in the log."""
        outbox.erase()
        self.touch(outbox)
        del self.outboxes[outbox.hook_id]

    async def run_flushes(self) -> None:
        """Write what changed, at the latest `_FLUSH_EVERY` seconds after it did."""
        while True:
            await self._wanted.wait()
            with anyio.move_on_after(_FLUSH_EVERY):
                await self._urgent.wait()
            await self.flush()

    async def run_receipts(self) -> None:
        """Append receipts every `_RECEIPT_EVERY` seconds, or sooner for a busy hook."""
        while True:
            with anyio.move_on_after(_RECEIPT_EVERY):
                await self._receipts_due.wait()
            self._receipts_due = anyio.Event()
            await self.append_receipts()

    async def flush(self) -> None:
        """Write everything that is not on disk yet, in one transaction."""
        async with self._flushing:
            # No await between here and the end of collect: what is gathered fits together.
            self._wanted = anyio.Event()
            self._urgent = anyio.Event()
            position, done, dirty = self.live, self.unflushed, self._dirty
            self._dirty = set()
            changes = Changes()
            for outbox in dirty:
                outbox.collect(changes)
            if not dirty and position == self._saved:
                return
            await self._save(changes, await self._log.checkpoint(position))
            self._saved = position
            self.unflushed -= done
        self.flushed()

    async def append_receipts(self) -> None:
        """Store what was delivered and suppressed since the last receipts.

        The words are on disk before they go into the log, under an identity of their own, so that a
        receipt is stored once however often this is interrupted.
        """
        due = [outbox for outbox in self.outboxes.values() if self._intend(outbox)]
        if not due:
            return
        await self.flush()
        for workspace, batch in self._batches(due):
            events = tuple(_receipt(outbox) for outbox in batch)
            try:
                await self._log.append(Append(events=events, workspace=workspace))
            except LogError as error:
                _logger.warning("receipts wait until the log takes them: %s", error)
                return
            for outbox in batch:
                outbox.receipted()
                self.touch(outbox)

    def last_receipt(self, outbox: Outbox) -> list[NewEvent]:
        """What a hook that is gone has not said yet: one receipt, or nothing."""
        return [_receipt(outbox)] if self._intend(outbox) else []

    def pending(self) -> int:
        """Deliveries decided and not settled, over all hooks."""
        return sum(len(outbox.open) for outbox in self.outboxes.values())

    def running(self) -> list[Item]:
        """Deliveries in flight."""
        return [item for outbox in self.outboxes.values() for item in outbox.running]

    async def _save(self, changes: Changes, cursor: Checkpoint) -> None:
        """Try until the disk takes it: meanwhile the bound on unflushed completions holds."""
        while True:
            try:
                await self._store.save(changes, cursor)
            except StateUnavailable as error:
                _logger.warning("state.db cannot be written, deliveries wait: %s", error)
                await anyio.sleep(_RETRY_SAVE)
            else:
                return

    def _batches(self, due: list[Outbox]) -> Iterator[tuple[str, list[Outbox]]]:
        """The outboxes by the workspace of their hooks, not too many at once."""
        by_workspace: defaultdict[str, list[Outbox]] = defaultdict(list)
        for outbox in due:
            by_workspace[self._hooks.workspace(outbox.hook_id)].append(outbox)
        for workspace, outboxes in by_workspace.items():
            for start in range(0, len(outboxes), _RECEIPTS_PER_APPEND):
                yield workspace, outboxes[start : start + _RECEIPTS_PER_APPEND]

    def _intend(self, outbox: Outbox) -> bool:
        history = self._hooks.history(outbox.hook_id)
        upto = self.live if outbox.position is None else outbox.position
        intent = outbox.receipt(upto, history[-1].hook.version if history else 0)
        if intent is not None:
            self.touch(outbox)
        return intent is not None


def _receipt(outbox: Outbox) -> NewEvent:
    intent = outbox.progress.intent
    if intent is None:
        raise AssertionError("unreachable")
    return new_event(
        intent,
        stream=DELIVERIES_PREFIX + outbox.hook_id,
        kind=Kind.DELIVERY,
        identity=f"receipt\0{intent.id}",
    )

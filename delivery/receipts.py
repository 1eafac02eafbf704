"""Says in the log what was delivered and suppressed: one record per hook and range of positions.

The words of a receipt are in `state.db` before they go into the log, under an identity of their
own, so it is stored once however often this is interrupted. When nothing happened, nothing is said.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import anyio

from eventstore.codec import new_event
from eventstore.errors import LogError
from eventstore.events import DELIVERIES_PREFIX
from eventstore.log import EventLog
from eventstore.records import Append, Kind, NewEvent
from projections.hooks import Hooks

from .ledger import Ledger
from .outbox import Outbox

_logger = logging.getLogger("hooktape.delivery")

_EVERY: Final = 10.0
_RETRY: Final = 1.0
_PER_APPEND: Final = 200


class Receipts:
    """Writes the receipts of all hooks."""

    def __init__(self, log: EventLog, hooks: Hooks, ledger: Ledger) -> None:
        self._log = log
        self._hooks = hooks
        self._ledger = ledger
        self._writing = anyio.Lock()

    async def run(self) -> None:
        """Append receipts every `_EVERY` seconds, or sooner when the ledger asks for it."""
        while True:
            with anyio.move_on_after(_EVERY):
                await self._ledger.receipts_due.wait()
            self._ledger.receipts_due = anyio.Event()
            if not await self.append(self._ledger.outboxes.values()):
                await anyio.sleep(_RETRY)

    async def append(self, outboxes: Iterable[Outbox]) -> bool:
        """Store what was delivered and suppressed since the last receipts; whether that worked."""
        async with self._writing:
            due = [outbox for outbox in outboxes if self._intend(outbox)]
            if not due:
                return True
            if not await self._ledger.flush():
                return False
            for workspace, batch in self._batches(due):
                events = tuple(_receipt(outbox) for outbox in batch)
                try:
                    await self._log.append(Append(events=events, workspace=workspace))
                except LogError as error:
                    _logger.warning("receipts wait until the log takes them: %s", error)
                    return False
                for outbox in batch:
                    outbox.receipted()
                    self._ledger.touch(outbox)
            return True

    def _intend(self, outbox: Outbox) -> bool:
        history = self._hooks.history(outbox.hook_id)
        if not history:
            return False  # its configuration was erased, which is obeyed in a moment
        upto = self._ledger.live if outbox.position is None else outbox.position
        intent = outbox.receipt(upto, history[-1].hook.version)
        if intent is not None:
            self._ledger.touch(outbox)
        return intent is not None

    def _batches(self, due: Iterable[Outbox]) -> Iterator[tuple[str, list[Outbox]]]:
        """The outboxes by the workspace of their hooks, not too many at once."""
        by_workspace: defaultdict[str, list[Outbox]] = defaultdict(list)
        for outbox in due:
            by_workspace[self._hooks.workspace(outbox.hook_id)].append(outbox)
        for workspace, outboxes in by_workspace.items():
            for start in range(0, len(outboxes), _PER_APPEND):
                yield workspace, outboxes[start : start + _PER_APPEND]


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

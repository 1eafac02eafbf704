"""When `state.db` is gone: what the log itself says about deliveries.

Receipts say up to where a hook is settled and what they left open; facts after them correct that.
What no receipt covers is decided again and delivered again, each under its old id.
"""

import msgspec

from eventstore.codec import decode
from eventstore.events import (
    DELIVERIES_PREFIX,
    HOOKS_PREFIX,
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    Event,
    HookPaused,
    HookResumed,
    HookSuspended,
)
from eventstore.log import EventLog
from eventstore.records import Kind, RecordedEvent

from .state import Item, Open, Parked

_PAGE = 1000


class Recovered(msgspec.Struct):
    """What the log says about one hook."""

    settled: int = 0
    open: dict[Item, Open] = {}
    parked: dict[Item, Parked] = {}
    stopped: str | None = None


def fold(hooks: dict[str, Recovered], event: RecordedEvent) -> None:
    """Take one event into account. An erased fact says nothing: repeats follow, no loss."""
    if event.type == "entity_deleted" and event.stream.startswith(HOOKS_PREFIX):
        hooks.pop(event.stream.removeprefix(HOOKS_PREFIX), None)
    if event.kind != Kind.DELIVERY:
        return
    hook = hooks.setdefault(event.stream.removeprefix(DELIVERIES_PREFIX), Recovered())
    match decode(event):
        case HookPaused(reason=reason) | HookSuspended(reason=reason):
            hook.stopped = reason
        case HookResumed():
            hook.stopped = None
        case DeliveriesSettled() as receipt:
            _settle(hook, receipt)
        case DeliveriesCancelled(seqs=seqs):
            _cancel(hook, set(seqs))
        case fact:
            _fold_one(hook, event, fact)


def _fold_one(hook: Recovered, event: RecordedEvent, fact: Event | None) -> None:
    """Facts about one delivery."""
    match fact:
        case DeliveryFailed(seq=seq, purpose=purpose):
            if (seq, purpose) in hook.open:
                hook.open[seq, purpose] = Open(1, 0, fact.reason, fact.status, fact.hook_version)
        case DeliveryParked(seq=seq, purpose=purpose):
            hook.open.pop((seq, purpose), None)
            hook.parked[seq, purpose] = Parked(
                event.seq, fact.event_id, fact.attempts, fact.reason, fact.status, event.time_us
            )
        case DeliveryResent(seq=seq, purpose=purpose):
            if hook.parked.pop((seq, purpose), None) is not None:
                hook.open[seq, purpose] = Open()
        case _:
            pass


async def recover(log: EventLog) -> dict[str, Recovered]:
    """Read every fact about deliveries, by hook; hooks deleted since are left out."""
    hooks: dict[str, Recovered] = {}
    position = log.first - 1
    while page := await log.read(position, limit=_PAGE, kinds=(Kind.CONFIG, Kind.DELIVERY)):
        for event in page:
            fold(hooks, event)
        position = page[-1].seq
    return hooks


def _settle(hook: Recovered, receipt: DeliveriesSettled) -> None:
    hook.settled = max(hook.settled, receipt.upto)
    for item in receipt.late:
        hook.open.pop(item, None)
    for item in receipt.open:
        if item not in hook.parked:
            hook.open.setdefault(item, Open())


def _cancel(hook: Recovered, seqs: set[int]) -> None:
    hook.open = {item: opened for item, opened in hook.open.items() if item[0] not in seqs}
    hook.parked = {item: parked for item, parked in hook.parked.items() if item[0] not in seqs}

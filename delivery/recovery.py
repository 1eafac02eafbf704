"""When `state.db` is gone: what the log itself says about deliveries.

Where older events were compacted away, a snapshot in the log says what they came to. Receipts say
up to where a hook is settled and what they left open; facts after them correct that. What no
receipt covers is decided again and delivered again, each under its old id.
An erased fact says nothing: repeats follow, no loss.
"""

import msgspec

from eventstore import snapshots
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
from projections.hooks import Hooks

from .recovered import Recovered, recovered
from .state import Item, Open, Parked

_PAGE = 1000


async def recover(log: EventLog, hooks: Hooks) -> tuple[dict[str, Recovered], int]:
    """What all facts about deliveries come to, by hook, and the position up to which they do.

    Nothing is left of hooks that are gone, nor of the former life of one that was made again.
    """
    found: dict[str, Recovered] = {}
    position = 0
    snapshot = await snapshots.latest(log)
    if snapshot is not None:
        found, position = recovered(snapshot.state), snapshot.floor - 1
    while True:
        head = log.head
        page = await log.read(position, limit=_PAGE, kinds=(Kind.CONFIG, Kind.DELIVERY))
        if not page:
            break
        for event in page:
            fold(found, event)
        position = page[-1].seq
    for hook_id, hook in found.items():
        over = hooks.over_until(hook_id)
        _cancel(hook, {seq for seq, _ in (*hook.open, *hook.parked) if seq <= over})
    return {hook_id: r for hook_id, r in found.items() if hooks.current(hook_id)}, head


def fold(hooks: dict[str, Recovered], event: RecordedEvent) -> None:
    """Take one event into account."""
    if event.stream.startswith(HOOKS_PREFIX) and event.type != "entity_updated":
        hooks.pop(event.stream.removeprefix(HOOKS_PREFIX), None)
    if event.kind != Kind.DELIVERY:
        return
    hook = hooks.setdefault(event.stream.removeprefix(DELIVERIES_PREFIX), Recovered())
    match decode(event):
        case HookPaused(reason=reason) | HookSuspended(reason=reason):
            hook.stopped_at = hook.stopped_at if hook.stopped else event.seq
            hook.stopped = reason
        case HookResumed(skip_to=skip_to):
            if hook.stopped and skip_to is not None:
                hook.skipped.append((hook.stopped_at, skip_to))
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
            opened = hook.open.get((seq, purpose))
            if opened is not None:
                hook.open[seq, purpose] = Open(
                    1, 0, fact.reason, fact.status, fact.hook_version, opened.resent, opened.copy
                )
        case DeliveryParked(seq=seq, purpose=purpose, copy_of=int() as old):
            _move_copy(hook, (seq, purpose), old, event.seq)
        case DeliveryParked(seq=seq, purpose=purpose):
            hook.open.pop((seq, purpose), None)
            hook.parked[seq, purpose] = Parked(
                event.seq, fact.event_id, fact.attempts, fact.reason, fact.status, event.time_us
            )
        case DeliveryResent(seq=seq, purpose=purpose):
            parked = hook.parked.pop((seq, purpose), None)
            if parked is not None:
                hook.open[seq, purpose] = Open(resent=True, copy=parked.position)
        case _:
            pass


def _move_copy(hook: Recovered, item: Item, old: int, new: int) -> None:
    parked, opened = hook.parked.get(item), hook.open.get(item)
    if parked is not None and parked.position == old:
        hook.parked[item] = msgspec.structs.replace(parked, position=new)
    elif opened is not None and opened.copy == old:
        hook.open[item] = msgspec.structs.replace(opened, copy=new)


def _settle(hook: Recovered, receipt: DeliveriesSettled) -> None:
    hook.settled = max(hook.settled, receipt.upto)
    for item in receipt.late:
        hook.open.pop(item, None)
        hook.parked.pop(item, None)
    for item in receipt.open:
        if item not in hook.parked:
            hook.open.setdefault(item, Open())
    hook.skipped.extend(
        (run.first, run.last) for run in receipt.suppressed if run.reason == "skipped"
    )


def _cancel(hook: Recovered, seqs: set[int]) -> None:
    hook.open = {item: opened for item, opened in hook.open.items() if item[0] not in seqs}
    hook.parked = {item: parked for item, parked in hook.parked.items() if item[0] not in seqs}

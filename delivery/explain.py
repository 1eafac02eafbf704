"""Why did hook H (not) fire for event x? Answered from registry, outbox and receipts."""

from collections.abc import Awaitable, Callable
from typing import Any

from eventstore.records import RecordedEvent
from projections.deliveries import Fact
from projections.hooks import Hooks

from .ledger import Ledger
from .matching import PING, Match, match_hook, mismatch
from .outbox import Outbox
from .outcome import delivery_id
from .state import Item

Lookup = Callable[[str, int], Awaitable[tuple[Fact | None, list[Fact]]]]
"""(hook, event position) -> the receipt that covers it, if any, and the facts that name it."""


async def explain_hook(
    event: RecordedEvent, hook_id: str, hooks: Hooks, ledger: Ledger, lookup: Lookup
) -> list[dict[str, Any]]:
    """One entry per delivery of `event` to the hook, or one that says why there is none."""
    matches = [m for p in ("", PING) if (m := match_hook(event, hooks, hook_id, p)) is not None]
    if not matches:
        return [{"hook": hook_id} | _no_match(event, hook_id, hooks)]
    return [await _explain_match(event, m, hooks, ledger, lookup) for m in matches]


def in_words(fact: Fact) -> dict[str, Any]:
    """A delivery fact as the API shows it; times in seconds."""
    return {"position": fact.position, "type": fact.type, "time": fact.time_us / 1e6, **fact.body}


def _no_match(event: RecordedEvent, hook_id: str, hooks: Hooks) -> dict[str, Any]:
    hook = hooks.as_of(hook_id, event.seq - 1)
    if hook is None:
        return {"state": "not_matched", "reason": "the hook was not in force at this event"}
    return {"state": "not_matched", "reason": mismatch(hook, event)}


async def _explain_match(
    event: RecordedEvent, m: Match, hooks: Hooks, ledger: Ledger, lookup: Lookup
) -> dict[str, Any]:
    hook_id = m.hook.id
    item = (event.seq, m.purpose)
    entry = {
        "hook": hook_id,
        "id": delivery_id(hook_id, event.id, m.purpose),
        "hook_version": m.hook.version,
        "source": m.source,
        "event": m.event,
    }
    outbox = ledger.outboxes.get(hook_id)
    known = _in_memory(item, outbox, ledger.live)
    if known is not None:
        return entry | known
    receipt, facts = await lookup(hook_id, event.seq)
    return entry | _from_log(item, receipt, facts, deleted=hooks.current(hook_id) is None)


def _in_memory(item: Item, outbox: Outbox | None, live: int) -> dict[str, Any] | None:
    """What the outbox knows; None when it has nothing to say about an event that was decided."""
    seq = item[0]
    if outbox is None:
        return {"state": "pending"} if seq > live else None
    if item in outbox.open:
        return _open(item, outbox)
    if item in outbox.parked:
        parked = outbox.parked[item]
        return {
            "state": "parked",
            "attempts": parked.attempts,
            "reason": parked.reason,
            "status": parked.status,
        }
    if seq > (live if outbox.position is None else outbox.position):
        if outbox.stopped is not None:
            return {"state": "paused", "reason": outbox.stopped}
        return {"state": "pending"}
    for run in outbox.progress.suppressed:
        if run.first <= seq <= run.last and not item[1]:
            return {"state": run.reason}
    return {"state": "delivered"} if seq > outbox.progress.settled else None


def _open(item: Item, outbox: Outbox) -> dict[str, Any]:
    opened = outbox.open[item]
    stopped = outbox.stopped is not None
    state = "retrying" if opened.attempt else "pending"
    if item in outbox.running:
        state = "in_flight"
    elif stopped:
        state = "paused"
    return {
        "state": state,
        "attempts": opened.attempt,
        "reason": outbox.stopped if state == "paused" else opened.reason,
        "status": opened.status,
        "next_attempt": opened.due_us / 1e6 if opened.due_us and not stopped else None,
    }


def _from_log(
    item: Item, receipt: Fact | None, facts: list[Fact], *, deleted: bool
) -> dict[str, Any]:
    """What receipts and facts say about an event that is settled."""
    last = facts[-1] if facts else None
    if last is not None and last.type == "deliveries_cancelled":
        return {"state": "cancelled", "reason": last.body["reason"]}
    if last is not None and last.type == "delivery_parked":
        return {"state": "cancelled" if deleted else "parked", "reason": last.body["reason"]}
    if receipt is None:
        return (
            {"state": "cancelled", "reason": "the hook was deleted"}
            if deleted
            else {"state": "delivered"}
        )
    for reason, first, end, _ in receipt.body.get("suppressed", []):
        if first <= item[0] <= end and not item[1]:
            return {"state": reason}
    late = last is not None and last.type == "deliveries_settled"
    if deleted and not late and list(item) in [list(i) for i in receipt.body.get("open", [])]:
        return {"state": "cancelled", "reason": "the hook was deleted"}
    confirmed = last if late and last is not None else receipt
    return {
        "state": "delivered",
        "receipt": confirmed.position,
        "receipt_time": confirmed.time_us / 1e6,
        "performed_with_version": confirmed.body["hook_version"],
        "failed_first": any(fact.type == "delivery_failed" for fact in facts),
    }

"""Why did hook H (not) fire for event x? Answered from registry, outbox and receipts."""

from collections.abc import Awaitable, Callable
from typing import Any

from eventstore.records import RecordedEvent
from projections.deliveries import Fact
from projections.hooks import Hooks

from .ledger import Ledger
from .matching import Match, match_hook, mismatch, purposes
from .orders import DELETED
from .outbox import Outbox
from .outcome import delivery_id
from .state import Item

Lookup = Callable[[str, int], Awaitable[tuple[Fact | None, list[Fact]]]]
"""(hook, event position) -> the receipt that covers it, if any, and the facts that name it."""


async def explain_hook(
    event: RecordedEvent, hook_id: str, hooks: Hooks, ledger: Ledger, lookup: Lookup
) -> list[dict[str, Any]]:
    """One entry per delivery of `event` to the hook, or one that says why there is none."""
    matches = [
        m
        for purpose in purposes(event, hook_id)
        if (m := match_hook(event, hooks, hook_id, purpose)) is not None
    ]
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
    over = event.seq <= hooks.over_until(hook_id)
    outbox = ledger.outboxes.get(hook_id)
    known = None
    if outbox is not None:
        known = _in_outbox(item, outbox, ledger.live)
    elif not over and event.seq > ledger.live:
        known = {"state": "pending"}
    if known is not None:
        return entry | known
    receipt, facts = await lookup(hook_id, event.seq)
    return entry | _from_log(item, receipt, facts, over=over)


def _in_outbox(item: Item, outbox: Outbox, live: int) -> dict[str, Any] | None:
    """What memory knows; None when it has nothing more to say about the event."""
    seq, purpose = item
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
    progress = outbox.progress
    decided = live if outbox.position is None else outbox.position
    if seq > max(decided, progress.settled):
        if outbox.stopped is not None:
            return {"state": "paused", "reason": outbox.stopped}
        return {"state": "pending"}
    intended = progress.intent.suppressed if progress.intent is not None else []
    for run in (*progress.suppressed, *intended):
        if run.first <= seq <= run.last and not purpose:
            return {"state": run.reason}
    return None


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


def _from_log(item: Item, receipt: Fact | None, facts: list[Fact], *, over: bool) -> dict[str, Any]:
    """What receipts and facts say about an event that was decided, or lost its hook before.

    `over`: the hook that it concerned was deleted.
    """
    facts = [fact for fact in facts if _concerns(fact, item[1])]
    named = _named(facts, over=over)
    if named is not None:
        return named
    if receipt is not None:
        for reason, first, end, _ in receipt.body.get("suppressed", []):
            if first <= item[0] <= end and not item[1]:
                return {"state": reason}
        if list(item) not in receipt.body.get("open", []):
            return _delivered(receipt, facts)
    # Decided and no longer open, or else its hook went first; no receipt says so yet.
    return {"state": "cancelled", "reason": DELETED} if over else {"state": "delivered"}


def _named(facts: list[Fact], *, over: bool) -> dict[str, Any] | None:
    """What the facts about this delivery alone say; None when they do not settle it."""
    for fact in facts:
        if fact.type == "delivery_skipped":
            return {"state": "skipped_by_function", "reason": fact.body["reason"]}
    last = facts[-1].type if facts else None
    if last == "deliveries_cancelled":
        return {"state": "cancelled", "reason": facts[-1].body["reason"]}
    if last == "delivery_parked":
        return {"state": "cancelled" if over else "parked", "reason": facts[-1].body["reason"]}
    if last == "deliveries_settled":
        return _delivered(facts[-1], facts)
    return None


def _delivered(receipt: Fact, facts: list[Fact]) -> dict[str, Any]:
    return {
        "state": "delivered",
        "receipt": receipt.position,
        "receipt_time": receipt.time_us / 1e6,
        "performed_with_version": receipt.body["hook_version"],
        "failed_first": any(fact.type == "delivery_failed" for fact in facts),
    }


def _concerns(fact: Fact, purpose: str) -> bool:
    """An event and the ping for it share their position; some facts are about one of them."""
    one = ("delivery_failed", "delivery_parked", "delivery_resent", "delivery_skipped")
    return fact.type not in one or fact.body.get("purpose", "") == purpose

"""Which hooks does an event concern, under which names, and with what payload? Pure functions.

Names are decided from the envelope alone, so they outlive the erasure of a body.
"""

from typing import Any

import msgspec

from eventstore.codec import decode
from eventstore.events import (
    DELIVERIES_PREFIX,
    EMITTED_PREFIX,
    HOOKS_PREFIX,
    LAMBDA_SOURCE,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    EventEmitted,
    RequestQueued,
)
from eventstore.records import Kind, RecordedEvent
from projections.hooks import Hook, Hooks, announced
from projections.tables import DEFAULT_WORKSPACE

PING = "ping"
PING_SOURCE = "kong:event_hooks"
REQUEST = "request"
"""The purpose of a delivery that is itself a request, which a function of the hook wants made."""

_LAMBDA_PREFIX = f"{EMITTED_PREFIX}{LAMBDA_SOURCE}/"

_OPERATIONS = {
    "entity_created": "create",
    "entity_updated": "update",
    "entity_deleted": "delete",
}


class Match(msgspec.Struct, frozen=True, gc=False):
    """A hook, in the version in force at the event, and the names it knows the event by."""

    hook: Hook
    source: str
    event: str
    purpose: str = ""


def names(event: RecordedEvent) -> tuple[tuple[str, str], ...]:
    """The (source, event) pairs under which hooks may subscribe to `event`, best known first.

    One change of an entity is one log event with three names, as Kong posts them:
    `crud`/`<table>`, `crud`/`<table>:<operation>` and `dao:crud`/`<operation>`.
    Delivery and system events have none.
    """
    if event.kind == Kind.EMITTED:
        source, _, name = event.stream.removeprefix(EMITTED_PREFIX).partition("/")
        return ((source, name),)
    operation = _OPERATIONS.get(event.type)
    if operation is None:
        return ()
    table = event.stream.partition("/")[0]
    return (("crud", table), ("crud", f"{table}:{operation}"), ("dao:crud", operation))


def emitters(event: RecordedEvent) -> tuple[str, ...]:
    """The ids of the hooks whose functions emitted `event`, or an event that led to it."""
    actor = event.actor or ""
    if not event.stream.startswith(_LAMBDA_PREFIX) or not actor.startswith(HOOKS_PREFIX):
        return ()
    return tuple(actor.removeprefix(HOOKS_PREFIX).split(","))


def purposes(event: RecordedEvent, hook_id: str) -> tuple[str, ...]:
    """Why `event` may make deliveries for the hook."""
    if event.stream == HOOKS_PREFIX + hook_id:
        return ("", PING)
    if event.type == "request_queued":
        return (REQUEST,)
    return ("",)


def mismatch(hook: Hook, event: RecordedEvent) -> str | None:
    """The clause of `hook` that does not fit `event`, in words; None when all fit."""
    known = names(event)
    if not known:
        return "deliveries and the log's own events match no hook"
    if hook.id in emitters(event):
        return "emitted: the hook's own functions led to this event"
    if hook.workspace not in (DEFAULT_WORKSPACE, event.workspace):
        return f"workspace: the hook sees only workspace {hook.workspace}"
    if hook.source not in {source for source, _ in known}:
        return f"source: the hook wants {hook.source}"
    if hook.event is not None and (hook.source, hook.event) not in known:
        return f"event: the hook wants {hook.event}"
    return None


def match(event: RecordedEvent, hooks: Hooks) -> list[Match]:
    """Every hook in force at `event` that it concerns, once each, and a new webhook's ping.

    A hook of the default workspace sees all workspaces. A hook without `event` gets one delivery
    under the first name that fits. No hook gets what its own functions emitted.
    """
    matches: list[Match] = []
    sources: set[str] = set()
    for source, name in names(event):
        subscribed = hooks.in_force(source, name, event.seq)
        if source not in sources:
            sources.add(source)
            subscribed += hooks.in_force(source, None, event.seq)
        matches.extend(
            Match(hook, source, name)
            for hook in subscribed
            if hook.workspace in (DEFAULT_WORKSPACE, event.workspace)
        )
    if event.stream.startswith(HOOKS_PREFIX):
        matches.extend(_ping(event, hooks))
    elif event.type == "request_queued":
        matches.extend(_request(event, hooks))
    elif event.stream.startswith(_LAMBDA_PREFIX):
        own = emitters(event)
        matches = [m for m in matches if m.hook.id not in own]
    return matches


def match_hook(event: RecordedEvent, hooks: Hooks, hook_id: str, purpose: str = "") -> Match | None:
    """What `match` says about one hook, without looking at the others."""
    if purpose == PING:
        return next((ping for ping in _ping(event, hooks) if ping.hook.id == hook_id), None)
    if purpose == REQUEST:
        return next((m for m in _request(event, hooks) if m.hook.id == hook_id), None)
    hook = hooks.as_of(hook_id, event.seq - 1)
    if hook is None or hook.workspace not in (DEFAULT_WORKSPACE, event.workspace):
        return None
    if hook_id in emitters(event):
        return None
    for source, name in names(event):
        if hook.source == source and hook.event in (None, name):
            return Match(hook, source, name)
    return None


def payload(event: RecordedEvent, purpose: str = "") -> dict[str, Any] | None:
    """What a handler is given, without `source` and `event`; None when the body was erased."""
    body = decode(event)
    match body:
        case None:
            return None
        case EventEmitted(data=data):
            emitted: dict[str, Any] = msgspec.json.decode(data)
            return emitted
        case RequestQueued(method=method, url=url, headers=headers, body=content):
            return {"method": method, "url": url, "headers": headers, "body": content}
        case (
            EntityCreated(entity=entity)
            | EntityDeleted(entity=entity)
            | EntityUpdated(entity=entity)
        ):
            operation = _OPERATIONS[event.type]
            if purpose == PING:
                return {"event_hooks": announced(entity), "operation": operation}
            return _change(event, operation, body, entity)
        case _:
            raise AssertionError("unreachable")


def _change(
    event: RecordedEvent, operation: str, body: object, entity: dict[str, Any]
) -> dict[str, Any]:
    table = event.stream.partition("/")[0]
    if isinstance(body, EntityUpdated):
        return {
            "operation": operation,
            "schema": table,
            "entity": entity,
            "old_entity": body.old_entity,
        }
    if operation == "delete":
        # Kong's DAO posts a deleted row as it was stored, workspace included.
        entity = entity | {"ws_id": event.workspace}
    return {"operation": operation, "schema": table, "entity": entity}


def _ping(event: RecordedEvent, hooks: Hooks) -> list[Match]:
    hook = hooks.as_of(event.stream.removeprefix(HOOKS_PREFIX), event.seq)
    if hook is None or hook.handler != "webhook":
        return []
    return [Match(hook, PING_SOURCE, PING, PING)]


def _request(event: RecordedEvent, hooks: Hooks) -> list[Match]:
    hook = hooks.as_of(event.stream.removeprefix(DELIVERIES_PREFIX), event.seq)
    return [] if hook is None else [Match(hook, LAMBDA_SOURCE, REQUEST, REQUEST)]

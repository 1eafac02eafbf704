"""The log as others may see it: every event, without secrets, in one flat form.

    {"position", "id", "type", "time", "workspace", "actor", "request_id", ...}

and beside that, by kind: `source`, `event`, `data` of an emitted event, perhaps its `caller_id`,
and the attributes under `cloudevent` of what came as a CloudEvent;
`table`, `operation`, `entity`, `old_entity` of a change of an entity; `source`, `event`,
`definition` of a published source; `hook`, `fact` of a delivery fact; `target`, `fact` of what was
said about a target's health; `fact` of what the log says about itself. `time` is the log's own,
which never goes back. An event whose body was erased has `"erased": true` and null in its place.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from api.emitted import identity
from api.responses import NotFound
from eventstore.codec import decode
from eventstore.events import (
    DELIVERIES_PREFIX,
    EMITTED_PREFIX,
    HEALTH_PREFIX,
    SOURCES_PREFIX,
    EntityUpdated,
    EventEmitted,
    RequestQueued,
    SnapshotPart,
)
from eventstore.log import EventLog
from eventstore.looking_back import event_at
from eventstore.records import Kind, RecordedEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPERATIONS = {
    "entity_created": "create",
    "entity_updated": "update",
    "entity_deleted": "delete",
}


def public(event: RecordedEvent) -> dict[str, Any]:
    """The form above, ready to be encoded."""
    shown = {
        "position": event.seq,
        "id": event.id,
        "type": event.type,
        "time": timestamp(event.time_us),
        "workspace": event.workspace,
        "actor": event.actor,
        "request_id": event.request_id,
        **_content(event),
    }
    return shown | {"erased": True} if event.body is None else shown


def timestamp(time_us: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


async def find_event(
    log: EventLog, reference: str, workspace: str, source: str | None = None
) -> RecordedEvent:
    """The event at a position, with an id, or with a caller's own id if `source` is given.

    A position that was compacted away is looked for in the archive. Raises NotFound, and Truncated
    where the archive does not go back so far.
    """
    position: int | None = None
    if source is not None:
        position = await log.find_identity(identity(workspace, source, reference))
    elif reference.isascii() and reference.isdecimal() and len(reference) < 19:
        position = int(reference)
    else:
        found = await _find_uuid(log, reference)
        if found is not None:
            return found
    if position is None or not 0 < position <= log.head:
        raise NotFound
    return await event_at(log, position)


async def _find_uuid(log: EventLog, reference: str) -> RecordedEvent | None:
    try:
        event_id = UUID(reference)
    except ValueError:
        return None
    return await log.find(event_id)


def _content(event: RecordedEvent) -> dict[str, Any]:
    """Names come from the stream and the type, which outlive the erasure of the body."""
    body: Any = decode(event)
    if event.type in _OPERATIONS:
        shown = {
            "table": event.stream.partition("/")[0],
            "operation": _OPERATIONS[event.type],
            "entity": body and body.entity,
        }
        return shown | {"old_entity": body.old_entity} if isinstance(body, EntityUpdated) else shown
    if event.kind == Kind.EMITTED:
        shown = _named(event.stream.removeprefix(EMITTED_PREFIX)) | {"data": body and body.data}
        return shown | (_circumstances(body) if isinstance(body, EventEmitted) else {})
    if event.stream.startswith(SOURCES_PREFIX):
        return _named(event.stream.removeprefix(SOURCES_PREFIX)) | {"definition": body}
    if event.stream.startswith(HEALTH_PREFIX):
        return {"target": event.stream.removeprefix(HEALTH_PREFIX), "fact": body}
    if event.kind == Kind.SYSTEM:
        return {"fact": _without_secrets(body)}
    hook = event.stream.removeprefix(DELIVERIES_PREFIX)
    return {"hook": hook, "fact": _without_secrets(body)}


def _without_secrets(body: Any) -> Any:
    """The headers of a queued request may hold tokens; a snapshot's part holds whole entities."""
    if isinstance(body, RequestQueued):
        return msgspec.structs.replace(body, headers={})
    if isinstance(body, SnapshotPart):
        return {"id": body.id, "section": body.section, "items": len(body.items)}
    return body


def _circumstances(body: EventEmitted) -> dict[str, Any]:
    named = {"caller_id": body.id, "cloudevent": body.cloudevent and body.cloudevent.attributes}
    return {name: value for name, value in named.items() if value is not None}


def _named(path: str) -> dict[str, Any]:
    source, _, event = path.partition("/")
    return {"source": source, "event": event}

"""Events that somebody emitted, as the log takes them. Pure."""

from collections.abc import Mapping
from typing import Any

from eventstore.codec import new_event
from eventstore.events import EMITTED_PREFIX, EventEmitted
from eventstore.records import Kind, NewEvent


def emitted(
    body: EventEmitted, source: str, event: str, workspace: str, *, subject: str | None = None
) -> NewEvent:
    """An event of a source, ready to be appended. With an id it is stored once."""
    return new_event(
        body,
        stream=f"{EMITTED_PREFIX}{source}/{event}",
        kind=Kind.EMITTED,
        identity=None if body.id is None else identity(workspace, source, body.id),
        subject=subject,
    )


def identity(workspace: str, source: str, id_: str) -> str:
    """The name under which the log knows a caller's own event id."""
    return f"event\0{workspace}\0{source}\0{id_}"


def caller_id(event: NewEvent) -> str | None:
    """The id its sender gave to an event. It holds no NUL, so it is the last part."""
    return None if event.identity is None else event.identity.rpartition("\0")[2]


def subject_of(path: str, data: Mapping[str, Any]) -> str | None:
    """The person an event is about: the text or integer at a dotted path; None if there is none."""
    value: Any = data
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None

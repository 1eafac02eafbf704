"""Events to bodies and back. What is stored stays as it is; old shapes are lifted when read.

A new schema version of a type is: its number in `VERSIONS`, one pure function from the old JSON
object to the new one in `UPCASTS`, and a golden file of the old shape in the tests.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from eventstore.errors import UnknownEvent
from eventstore.events import EVENT_TYPES, Event
from eventstore.records import Kind, NewEvent, RecordedEvent

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

VERSIONS: dict[str, int] = {}
"""The current schema version of each type whose shape has changed; all others are at 1."""

UPCASTS: dict[tuple[str, int], Upcast] = {}
"""(type, n): the function that makes version n + 1 out of version n."""

_NAMES: Mapping[type, str] = {struct: name for name, struct in EVENT_TYPES.items()}
_DECODERS = {name: msgspec.json.Decoder(struct) for name, struct in EVENT_TYPES.items()}
_encode = msgspec.json.Encoder().encode


def encode(event: Event) -> tuple[str, int, bytes]:
    """Type name, schema version and body.

    A `msgspec.Raw` inside goes in as it is: whoever made it answers for its being JSON.
    """
    name = _NAMES[type(event)]
    return name, VERSIONS.get(name, 1), _encode(event)


def new_event(
    event: Event,
    *,
    stream: str,
    kind: Kind,
    identity: str | None = None,
    subject: str | bytes | None = None,
) -> NewEvent:
    """The event ready to be appended."""
    name, version, body = encode(event)
    return NewEvent(
        stream=stream,
        type=name,
        kind=kind,
        body=body,
        schema_version=version,
        identity=identity,
        subject=subject,
    )


def decode(event: RecordedEvent) -> Event | None:
    """The event in its current shape; None when its body was erased.

    Raises UnknownEvent for a type or version this program does not know, newer ones included.
    """
    body = event.body
    current = VERSIONS.get(event.type, 1)
    if event.type not in _DECODERS or not 1 <= event.schema_version <= current:
        raise UnknownEvent(event.type, event.schema_version)
    if body is None:
        return None
    if event.schema_version < current:
        body = _upcast(event.type, event.schema_version, current, body)
    return _DECODERS[event.type].decode(body)


def _upcast(type_: str, version: int, current: int, body: bytes) -> bytes:
    shape = msgspec.json.decode(body)
    for step in range(version, current):
        shape = UPCASTS[type_, step](shape)
    return _encode(shape)

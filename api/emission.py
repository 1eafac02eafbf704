"""From the bytes of an emit to the events to append. Pure: nothing is stored here.

An event is `{"source", "event", "data", "id"?}`. A body is one event, a JSON array of them, or one
per line. It is taken as a whole or refused as a whole, naming every fault of every event.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from api.bodies import DECODE_ERRORS, MAX_DEPTH, TOO_DEEP, deeper
from api.responses import BadRequest, RequestError, SchemaViolation, UnsupportedMediaType
from eventstore.codec import new_event
from eventstore.events import EMITTED_PREFIX, EventEmitted
from eventstore.records import Kind, NewEvent
from projections.checks import event_name
from projections.sources import RESERVED, Definition

Define = Callable[[str, str], Definition | None]
"""The definition in force of a source's event; None when nobody published it."""

RESERVED_FAULT = "is reserved: its events are made by this service alone"

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")
_FIELDS = frozenset({"source", "event", "data", "id"})
_LINES = frozenset({"application/x-ndjson", "application/jsonl"})
_FAULTS_SHOWN = 20


class Emission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An event as its sender writes it."""

    source: str
    event: str
    data: dict[str, Any]
    id: str | None = None


_decode = msgspec.json.Decoder().decode
_decode_one = msgspec.json.Decoder(Emission).decode
_decode_lines = msgspec.json.Decoder(Emission).decode_lines
_decode_many = msgspec.json.Decoder(list[Emission]).decode
_encode = msgspec.json.Encoder().encode


class _FaultyError(Exception):
    """Some event is not acceptable; which and why is found out at leisure."""


def identity(workspace: str, source: str, id_: str) -> str:
    """The name under which the log knows a caller's own event id."""
    return f"event\0{workspace}\0{source}\0{id_}"


def caller_id(event: NewEvent) -> str | None:
    """The id its sender gave to an event. It holds no NUL, so it is the last part."""
    return None if event.identity is None else event.identity.rpartition("\0")[2]


class Emitter:
    """Knows which events may be emitted. With `allow_unpublished` any name will do."""

    def __init__(self, define: Define, *, allow_unpublished: bool = False) -> None:
        self._define = define
        self._allow_unpublished = allow_unpublished

    def events(self, raw: bytes, media_type: str, workspace: str) -> list[NewEvent]:
        """The events of a body, ready to be appended together.

        Raises BadRequest for a body that cannot be read, SchemaViolation for faulty events and
        UnsupportedMediaType.
        """
        try:
            events = [self._accept(it, workspace) for it in _decoded(raw, media_type)]
        except (_FaultyError, *DECODE_ERRORS) as error:
            raise self._refusal(raw, media_type) from error
        if not events:
            raise BadRequest("the body holds no event")
        return events

    def _accept(self, emission: Emission, workspace: str) -> NewEvent:
        source, event, id_ = emission.source, emission.event, emission.id
        definition = self._define(source, event)
        path = definition and definition.subject
        data = _encode(emission.data)
        # Brackets within strings count too: they only cost the second look.
        deep = data.count(b"{") + data.count(b"[") > MAX_DEPTH
        if (definition is None or id_ is not None or deep or source in RESERVED) and self._faults(
            {"source": source, "event": event, "data": emission.data, "id": id_}
        ):
            raise _FaultyError
        return new_event(
            EventEmitted(data=msgspec.Raw(data), id=id_),
            stream=f"{EMITTED_PREFIX}{source}/{event}",
            kind=Kind.EMITTED,
            identity=None if id_ is None else identity(workspace, source, id_),
            subject=subject_of(path, emission.data) if path else None,
        )

    def _refusal(self, raw: bytes, media_type: str) -> RequestError:
        """All that is wrong with a body of which something is."""
        faults: dict[str, Any] = {}
        for label, value in _labelled(raw, media_type):
            found = self._faults(value)
            if found and not label:
                return BadRequest(found) if isinstance(found, str) else SchemaViolation(found)
            if found:
                faults[label] = found
            if len(faults) == _FAULTS_SHOWN:
                break
        return SchemaViolation(faults)

    def _faults(self, value: object) -> Mapping[str, str] | str:
        """What is wrong with an event, by field, or one text for what is no event at all."""
        if value is _NO_JSON or not isinstance(value, dict):
            return "Cannot parse JSON body" if value is _NO_JSON else "expected a record"
        faults = {name: "unknown field" for name in value if name not in _FIELDS}
        for name, fault in _FIELD_FAULTS.items():
            text = fault(value[name]) if name in value else "required field missing"
            if text is not None:
                faults[name] = text
        if value.get("id") is not None and (text := _id_fault(value["id"])):
            faults["id"] = text
        if "source" not in faults and "event" not in faults:
            faults |= self._unpublished(value["source"], value["event"])
        return faults

    def _unpublished(self, source: str, event: str) -> dict[str, str]:
        if self._allow_unpublished or self._define(source, event) is not None:
            return {}
        path = f"/event-hooks/sources/{quote(source, safe='')}/{quote(event, safe='')}"
        text = f"'{event}' is not published for source '{source}': publish it with PUT {path}"
        return {"event": text}


def subject_of(path: str, data: Mapping[str, Any]) -> str | None:
    """The person an event is about: the text or integer at a dotted path; None if there is none."""
    value: Any = data
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _decoded(raw: bytes, media_type: str) -> Iterable[Emission]:
    if media_type in _LINES:
        return _decode_lines(raw)
    if media_type != "application/json":
        raise UnsupportedMediaType
    return _decode_many(raw) if _is_array(raw) else (_decode_one(raw),)


def _is_array(raw: bytes) -> bool:
    return raw[:1] != b"{" and raw.lstrip()[:1] == b"["


_NO_JSON = object()


def _labelled(raw: bytes, media_type: str) -> Iterator[tuple[str, object]]:
    """The values in a body and their places: lines from 1, indexes from 0, "" for the only one."""
    if media_type in _LINES:
        for number, line in enumerate(raw.split(b"\n"), 1):
            if line.strip():
                yield f"line {number}", _parsed(line)
        return
    whole = _parsed(raw)
    values: Sequence[object] = whole if isinstance(whole, list) else []
    if not values:
        yield "", whole
    for index, value in enumerate(values):
        yield f"[{index}]", value


def _parsed(raw: bytes) -> object:
    try:
        return _decode(raw)
    except DECODE_ERRORS:
        return _NO_JSON


def _name_fault(value: object) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    return event_name(value) if value else "length must be at least 1"


def _source_fault(value: object) -> str | None:
    fault = _name_fault(value)
    return f"'{value}' {RESERVED_FAULT}" if fault is None and value in RESERVED else fault


def _data_fault(value: object) -> str | None:
    if not isinstance(value, dict):
        return "expected a record"
    return TOO_DEEP if deeper(value, MAX_DEPTH) else None


def _id_fault(value: object) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    fault = "must be 1 to 255 characters without control characters"
    return None if _ID.fullmatch(value) else fault


_FIELD_FAULTS: Mapping[str, Callable[[object], str | None]] = {
    "source": _source_fault,
    "event": _name_fault,
    "data": _data_fault,
}

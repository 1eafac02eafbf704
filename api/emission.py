"""From the bytes of an emit to the events to append. Pure: nothing is stored here.

An event is `{"source", "event", "data", "id"?}`. A body is one event, a JSON array of them, or one
per line; or CloudEvents, which `api.cloudevents` reads. It is taken as a whole or refused as a
whole, naming every fault of every event.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from api.bodies import DECODE_ERRORS, MAX_DEPTH, TOO_DEEP, deeper
from api.cloudevents import Read
from api.emitted import emitted, subject_of
from api.responses import BadRequest, RequestError, SchemaViolation, UnsupportedMediaType
from eventstore.events import EventEmitted
from eventstore.records import NewEvent
from projections.checks import event_name
from projections.sources import RESERVED, Definition

Define = Callable[[str, str], Definition | None]
"""The definition in force of a source's event; None when nobody published it."""

RESERVED_FAULT = "is reserved: its events are made by this service alone"

_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}")
_FIELDS = frozenset({"source", "event", "data", "id"})
_LINES = frozenset({"application/x-ndjson", "application/jsonl"})
_FAULTS_SHOWN = 20
_NO_NAME = "must have 1 to 128 printable characters, where / and % count as three each"


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
        data = _encode(emission.data)
        # Brackets within strings count too: they only cost the second look.
        deep = data.count(b"{") + data.count(b"[") > MAX_DEPTH
        if (definition is None or id_ is not None or deep or source in RESERVED) and self._faults(
            {"source": source, "event": event, "data": emission.data, "id": id_}
        ):
            raise _FaultyError
        body = EventEmitted(data=msgspec.Raw(data), id=id_)
        path = definition and definition.subject
        subject = subject_of(path, emission.data) if path else None
        return emitted(body, source, event, workspace, subject=subject)

    def _refusal(self, raw: bytes, media_type: str) -> RequestError:
        """All that is wrong with a body of which something is."""
        return refusal((label, self._faults(value)) for label, value in _labelled(raw, media_type))

    def cloudevents(self, received: Mapping[str, Read], workspace: str) -> list[NewEvent]:
        """The same of CloudEvents, by their places. There may be none: a batch may be empty."""
        faults = ((place, self._cloudevent_faults(read)) for place, read in received.items())
        if faulty := [(place, found) for place, found in faults if found]:
            raise refusal(faulty)
        return [self._accept_cloudevent(read, workspace) for read in received.values()]

    def _accept_cloudevent(self, read: Read, workspace: str) -> NewEvent:
        data = msgspec.Raw(_encode(read.data))
        body = EventEmitted(data=data, id=read.id, cloudevent=read.origin)
        definition = self._define(read.source, read.event)
        path = definition and definition.subject
        subject = subject_of(path, read.data) if path else None
        return emitted(body, read.source, read.event, workspace, subject=subject)

    def _cloudevent_faults(self, read: Read) -> Mapping[str, str] | str:
        """What is wrong with an event, by attribute."""
        if read.faults:
            return read.faults
        names = {"source": read.source, "type": read.event}
        if faults := {field: _NO_NAME for field, name in names.items() if event_name(name)}:
            return faults
        if read.source in RESERVED:
            return {"source": f"'{read.source}' {RESERVED_FAULT}"}
        unpublished = self._unpublished(read.source, read.event)
        return {"type": unpublished["event"]} if unpublished else {}

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


def refusal(found: Iterable[tuple[str, Mapping[str, str] | str]]) -> RequestError:
    """One answer for all faulty events, by their places; "" is the place of the only one."""
    faults: dict[str, Any] = {}
    for place, fault in found:
        if fault and not place:
            return BadRequest(fault) if isinstance(fault, str) else SchemaViolation(fault)
        if fault:
            faults[place] = fault
        if len(faults) == _FAULTS_SHOWN:
            break
    return SchemaViolation(faults)


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

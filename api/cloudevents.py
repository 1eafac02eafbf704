"""CloudEvents 1.0 as they come over HTTP: binary, structured and in batches. Pure.

What an event becomes here:

    id                     the caller's own id, so that `source` and `id` name an event only once
    source, type           our source and event, where `/` is written `%2F` and `%` is `%25`
    data                   our data, if it is a JSON object; else see `api.cloudevent_data`
    all other attributes   kept beside the data, so that a webhook can send the event as it came
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from api.bodies import DECODE_ERRORS
from api.cloudevent_data import Held, Unreadable, content, of_base64, of_bytes
from api.responses import BadRequest, UnsupportedMediaType
from eventstore.events import CloudEvent

_STRUCTURED: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_FAMILY: Final = "application/cloudevents"
_PREFIX: Final = b"ce-"

_NAME: Final = re.compile(r"[a-z0-9]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(;.*)?")
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_REQUIRED: Final = ("specversion", "id", "source", "type")
_LONGEST_ID: Final = 255

_decode = msgspec.json.Decoder().decode

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI gives them, with names in lower case."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent in our terms.

    With `faults`, by attribute or one text for what is no event at all, nothing else is to be used.
    """

    source: str = ""
    event: str = ""
    id: str = ""
    data: dict[str, Any] = {}
    origin: CloudEvent | None = None
    faults: Mapping[str, str] | str = {}


def is_cloudevent(media_type: str, headers: Headers) -> bool:
    """Whether a request holds CloudEvents, by its content type or by headers like `ce-id`."""
    return media_type.startswith(_FAMILY) or any(name.startswith(_PREFIX) for name, _ in headers)


def read(raw: bytes, content_type: str, media_type: str, headers: Headers) -> dict[str, Read]:
    """The events of a request, by their place in it: `[0]` and so on in a batch, else "".

    Raises BadRequest for what is no event at all, and UnsupportedMediaType.
    """
    if media_type == _STRUCTURED:
        return {"": _structured(_parsed(raw))}
    if media_type == _BATCH:
        batch = _parsed(raw)
        if not isinstance(batch, list):
            raise BadRequest("expected an array")
        return {f"[{index}]": _structured(each) for index, each in enumerate(batch)}
    if media_type.startswith(_FAMILY):
        raise UnsupportedMediaType
    return {"": _binary(raw, content_type, headers)}


def name(attribute: str) -> str:
    """How an attribute is written as the name of a source or event; unquoting gives it back."""
    return attribute.replace("%", "%25").replace("/", "%2F")


def _parsed(raw: bytes) -> Any:
    try:
        return _decode(raw)
    except DECODE_ERRORS as error:
        raise BadRequest("Cannot parse JSON body") from error


def _structured(value: Any) -> Read:
    if not isinstance(value, dict):
        return Read(faults="expected a record")
    # In this format a null says that there is none.
    given = {key: each for key, each in value.items() if each is not None}
    data, encoded = given.pop("data", None), given.pop("data_base64", None)
    faults = {}
    if data is not None and encoded is not None:
        faults["data_base64"] = "cannot be sent together with data"
    content_type = given.get("datacontenttype")
    kind = content_type if isinstance(content_type, str) else ""
    if encoded is not None:
        return _checked(given, faults, "data_base64", lambda: of_base64(encoded, kind))
    return _checked(given, faults, "data", lambda: content(data))


def _binary(raw: bytes, content_type: str, headers: Headers) -> Read:
    given: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for header, value in headers:
        if not header.startswith(_PREFIX):
            continue
        attribute = header.removeprefix(_PREFIX).decode("latin-1")
        if attribute in given:
            faults[attribute] = "must be given once"
        try:
            given[attribute] = _header_text(value)
        except UnicodeDecodeError:
            faults[attribute] = "must be UTF-8, percent-encoded"
    for attribute in ("data", "data_base64", "datacontenttype"):
        if attribute in given:
            faults[attribute] = "is not sent as a header of its own"
    if content_type:
        given["datacontenttype"] = content_type
    return _checked(given, faults, "data", lambda: of_bytes(raw, content_type))


def _header_text(value: bytes) -> str:
    """Section 3.1.3.2 of the HTTP binding: quotes off, percent-decoded once, UTF-8."""
    quoted = _QUOTED.fullmatch(value.strip())
    if quoted is not None:
        value = re.sub(rb"\\(.)", rb"\1", quoted[1])
    return unquote_to_bytes(value).decode()


def _checked(
    given: dict[str, Any], known: dict[str, str], member: str, data: Callable[[], Held]
) -> Read:
    """The event, unless something is wrong: `known` so far, or found here."""
    faults = dict(_faults(given)) | known
    try:
        held, wrapped = data()
    except Unreadable as fault:
        return Read(faults={member: str(fault)} | faults)
    if faults:
        return Read(faults=faults)
    attributes = {key: given[key] for key in sorted(given) if key not in ("specversion", "id")}
    if attributes.get("datacontenttype") == "application/json":
        del attributes["datacontenttype"]  # what it means to send none
    return Read(
        source=name(given["source"]),
        event=name(given["type"]),
        id=given["id"],
        data=held,
        origin=CloudEvent(attributes=attributes, wrapped=wrapped),
    )


def _faults(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for required in _REQUIRED:
        if required not in given:
            yield required, "required field missing"
    for attribute, value in given.items():
        fault = _attribute_fault(attribute, value)
        if fault is not None:
            yield attribute, fault


def _attribute_fault(attribute: str, value: Any) -> str | None:
    if not _NAME.fullmatch(attribute):
        return "attribute names have lower-case letters and digits only"
    if attribute not in _TEXTS:
        if isinstance(value, bool) or (isinstance(value, int) and -(2**31) <= value < 2**31):
            return None
        if not isinstance(value, str):
            return "expected a string, a 32-bit integer or a boolean"
    elif not isinstance(value, str):
        return "expected a string"
    if _CONTROL.search(value):
        return "must not contain control characters"
    return _TEXTS.get(attribute, _any_text)(value)


def _any_text(_value: str) -> str | None:
    return None


def _some_text(value: str) -> str | None:
    return None if value else "length must be at least 1"


def _specversion(value: str) -> str | None:
    return None if value == "1.0" else "expected one of: 1.0"


def _id(value: str) -> str | None:
    return None if 0 < len(value) <= _LONGEST_ID else f"expected 1 to {_LONGEST_ID} characters"


def _uri_reference(value: str) -> str | None:
    return None if value and _uri(value) is not None else "expected a URI-reference"


def _absolute_uri(value: str) -> str | None:
    return None if _uri(value) else "expected a URI"


def _uri(value: str) -> str | None:
    """The scheme, "" without one; None for what is no URI-reference."""
    try:
        return None if re.search(r"\s", value) else urlsplit(value).scheme
    except ValueError:
        return None


def _time(value: str) -> str | None:
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        moment = None
    aware = moment is not None and moment.tzinfo is not None
    return None if aware else "expected a timestamp like 2026-01-31T12:00:00Z"


def _media_type(value: str) -> str | None:
    return None if _MEDIA_TYPE.fullmatch(value) else "expected a media type"


_TEXTS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "specversion": _specversion,
    "id": _id,
    "source": _uri_reference,
    "type": _some_text,
    "subject": _some_text,
    "time": _time,
    "dataschema": _absolute_uri,
    "datacontenttype": _media_type,
}

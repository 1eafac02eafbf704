"""Deliveries as CloudEvents 1.0, over HTTP: structured or binary. Pure.

What came as a CloudEvent goes out as it came: id, source, type, all other attributes and the data.
Of any other event the id is the log's own, `source` and `type` are the names under which the hook
knows it, and `time` is when it was stored. The log's id because a caller's own one is unique within
a workspace only, and receivers drop what has the same source and id.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import msgspec

from eventstore.codec import decode
from eventstore.events import EventEmitted
from eventstore.records import RecordedEvent
from projections.hooks import CONTENT_TYPES, Hook

from .outcome import Delivery

Message = tuple[dict[str, str], bytes]
"""Headers with names in lower case, and the body."""

_JSON: Final = "application/json"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNRESERVED: Final = ":@!$&'()*+,;=-._~"  # of the segments of a URI
# What a header may hold as it is: printable ASCII without blank, quotation mark and per cent.
_PLAIN: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')

_encode = msgspec.json.Encoder().encode


def origin(event: RecordedEvent, hook: Hook) -> EventEmitted | None:
    """The event as it came, if that was as a CloudEvent and the hook sends CloudEvents."""
    if hook.config.get("format", "kong") == "kong":
        return None
    body = decode(event)
    return body if isinstance(body, EventEmitted) and body.cloudevent is not None else None


def structured(delivery: Delivery, now_s: float) -> Message:
    """The whole event as JSON."""
    event = _attributes(delivery, now_s) | _member(delivery)
    return {"content-type": CONTENT_TYPES["cloudevents"]}, _encode(event)


def binary(delivery: Delivery, now_s: float) -> Message:
    """The data as the body, and the attributes as headers."""
    attributes = _attributes(delivery, now_s)
    content_type = attributes.pop("datacontenttype", None)
    headers = {f"ce-{name}": _header(value) for name, value in attributes.items()}
    if content_type is not None:
        headers["content-type"] = content_type
    match _member(delivery):
        case {"data_base64": encoded}:
            return headers, base64.b64decode(encoded)
        case {"data": str(text)} if not _is_json(content_type):
            return headers, text.encode()
        case {"data": value}:
            return headers, _encode(value)
    return headers, b""


FORMATS: Final[Mapping[str, Callable[[Delivery, float], Message]]] = {
    "cloudevents": structured,
    "cloudevents-binary": binary,
}
"""By `config.format` of a webhook. The second argument is the time, in seconds."""


def is_part(header: str) -> bool:
    """Whether a header, in lower case, can be part of an event: a hook cannot set it then."""
    return header == "content-type" or header.startswith("ce-")


def _attributes(delivery: Delivery, now_s: float) -> dict[str, Any]:
    came = delivery.origin
    if came is not None and came.cloudevent is not None:
        kept = {"specversion": "1.0", "id": came.id, **came.cloudevent.attributes}
        # Bytes of an unknown type stay that; for all other data JSON is what no type means.
        unknown = came.cloudevent.wrapped in ("data_base64", "none")
        return kept if unknown else {"datacontenttype": _JSON} | kept
    return {
        "specversion": "1.0",
        # What was sent by hand is no event of the log.
        "id": delivery.event_id if delivery.seq else delivery.id,
        "source": quote(delivery.source, safe=_UNRESERVED),
        "type": delivery.event,
        "time": _timestamp(delivery.time_us or int(now_s * 1_000_000)),
        "datacontenttype": _JSON,
    }


def _member(delivery: Delivery) -> dict[str, Any]:
    """The data under the name that the JSON format gives it; nothing if there is none."""
    came = delivery.origin
    wrapped = came.cloudevent.wrapped if came is not None and came.cloudevent is not None else ""
    if wrapped == "":
        return {"data": delivery.data}
    return {} if wrapped == "none" else {wrapped: delivery.data[wrapped]}


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or _JSON).partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def _header(value: str | int | bool) -> str:
    """Section 3.1.3.2 of the HTTP binding."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe=_PLAIN)


def _timestamp(time_us: int) -> str:
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

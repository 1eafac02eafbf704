"""What the logging plugins of Kong write about a request, and the events that follow from it. Pure.

The format is that of Kong's log serializer, which http-log, tcp-log and the others share:
https://developer.konghq.com/plugins/http-log/#log-format

    http-log/log                                every request
    rate-limiting-advanced/rate-limit-exceeded  the gateway answered 429 and named the limit
    balancer/health                             an address of an upstream failed, once for each

Nothing of the request itself but the address of its sender is kept: no header, path or query, so no
token or cookie. All events of a request bear its id, which makes a repetition known as one; without
an id (Kong before 3.5) every report counts.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from api.bodies import DECODE_ERRORS, MAX_DEPTH, TOO_DEEP, deeper
from api.emitted import emitted
from api.responses import BadRequest
from eventstore.events import EventEmitted
from eventstore.records import NewEvent

_NOTHING: Final = msgspec.Raw(b"null")
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_LIMIT: Final = "x-ratelimit-limit-"
_REMAINING: Final = "x-ratelimit-remaining-"
_SECONDS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "month": 2_592_000,
    "year": 31_536_000,
}


class Request(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The response to the client. An empty table of Lua is an object or an array."""

    status: int | None = None
    headers: dict[str, Any] | list[Any] | None = None


class Try(msgspec.Struct, frozen=True, gc=False):
    """One attempt to reach the upstream. `state` is set when it failed."""

    ip: str | None = None
    port: int | None = None
    state: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A request as reported. What is not read here is not even decoded."""

    request: Request | None = None
    response: Answer | None = None
    client_ip: str | None = None
    tries: list[Try] | dict[str, Any] | None = None
    upstream_status: Any = None
    consumer: msgspec.Raw = _NOTHING
    service: msgspec.Raw = _NOTHING
    route: msgspec.Raw = _NOTHING


_decode = msgspec.json.Decoder().decode
_decode_all = msgspec.json.Decoder(list[Record] | Record).decode
_decode_one = msgspec.json.Decoder(Record).decode
_decode_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def read(raw: bytes) -> dict[str, Record | str]:
    """The records of a body by their places, or what is wrong with one.

    A body is one record, at "", or an array. Raises BadRequest for what is no JSON.
    """
    try:
        decoded = _decode_all(raw)
    except DECODE_ERRORS:
        return _read_each(raw)
    if isinstance(decoded, Record):
        return {"": decoded}
    return {f"[{index}]": record for index, record in enumerate(decoded)}


def _read_each(raw: bytes) -> dict[str, Record | str]:
    """The same for a body in which something is wrong."""
    try:
        parts = {f"[{i}]": bytes(part) for i, part in enumerate(_decode_parts(raw))}
    except msgspec.ValidationError:
        parts = {"": raw}  # no array
    except DECODE_ERRORS as error:
        raise BadRequest("Cannot parse JSON body") from error
    return {place: _read_one(part) for place, part in parts.items()}


def _read_one(raw: bytes) -> Record | str:
    try:
        return _decode_one(raw)
    except DECODE_ERRORS as error:
        return str(error)


class Unusable(ValueError):
    """A record that is JSON but says nothing that could be stored."""


def events(record: Record, wanted: Collection[str], workspace: str) -> list[NewEvent]:
    """The events of the `wanted` types, ready to be appended; often none.

    Raises Unusable and whatever the decoder raises (see `api.bodies.DECODE_ERRORS`).
    """
    found: list[NewEvent] = []
    for name in wanted:
        source, _, event = name.partition("/")
        for suffix, data in FACTS[name](record):
            body = EventEmitted(data=msgspec.Raw(_encode(data)), id=_id(record, suffix))
            found.append(emitted(body, source, event, workspace))
    return found


Fact = tuple[str, dict[str, Any]]
"""What sets its id apart from others of the same request and type, and its data."""


def _request(record: Record) -> Iterator[Fact]:
    yield "", _who(record) | {"route": _object(record.route)}


def _rate_limit(record: Record) -> Iterator[Fact]:
    """A 429 of the upstream's own is none: then the gateway let the request pass."""
    answer = record.response
    if answer is None or answer.status != 429 or not isinstance(answer.headers, dict):
        return
    if str(record.upstream_status).rpartition(",")[2].strip() == "429":
        return
    limit = _exceeded({name.lower(): value for name, value in answer.headers.items()})
    if limit:
        yield "", _who(record) | limit


def _exceeded(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The limit with the least left; of several the one with the longest window, as Kong tells it.

    `rate` counts the refused request too. It is the least that it can have been.
    """
    limits = []
    for name, value in headers.items():
        limit = _integer(value)
        if limit is not None and name.startswith(_LIMIT):
            scope = name.removeprefix(_LIMIT)
            window = scope.rpartition("-")[2]
            left = _integer(headers.get(_REMAINING + scope)) or 0
            limits.append((left, -_seconds(window), limit, {"window": window}))
    plain = _integer(headers.get("ratelimit-limit", headers.get("x-ratelimit-limit")))
    if not limits and plain is not None:
        limits.append((_integer(headers.get("ratelimit-remaining")) or 0, 0, plain, {}))
    if not limits:
        return {}
    left, _, limit, window_of = min(limits, key=lambda each: each[:2])
    return {"rate": max(limit - left, 0) + 1, "limit": limit, **window_of}


def _failed_tries(record: Record) -> Iterator[Fact]:
    """The gateway does not report which upstream it was; a service's host is its name."""
    if not isinstance(record.tries, list):
        return
    seen = set()
    for number, each in enumerate(record.tries, 1):
        address = (each.ip, each.port)
        if each.state == "failed" and None not in address and address not in seen:
            seen.add(address)
            host = _object(record.service).get("host")
            hostname = {"hostname": host} if isinstance(host, str) else {}
            yield (
                f":{number}",
                {"ip": each.ip, "port": each.port, **hostname, "health": "unhealthy"},
            )


FACTS: Final[Mapping[str, Callable[[Record], Iterator[Fact]]]] = {
    "http-log/log": _request,
    "rate-limiting-advanced/rate-limit-exceeded": _rate_limit,
    "balancer/health": _failed_tries,
}
"""By `<source>/<event>`: what a record says."""


def _who(record: Record) -> dict[str, Any]:
    """An anonymous consumer and an unknown service are empty records, as in Kong."""
    who = {
        "consumer": _object(record.consumer),
        "ip": record.client_ip,
        "service": _object(record.service),
    }
    return {name: value for name, value in who.items() if value is not None}


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    value = _decode(raw)
    if isinstance(value, dict):
        # Without as many brackets there are no such levels, and counting costs a tenth of looking.
        text = bytes(raw)
        if text.count(b"{") + text.count(b"[") > MAX_DEPTH and deeper(value, MAX_DEPTH):
            raise Unusable(TOO_DEEP)
        return value
    if value is None or value == []:
        return {}
    raise Unusable("consumer, service and route must be records")


def _id(record: Record, suffix: str) -> str | None:
    id_ = record.request.id if record.request is not None else None
    if id_ is None:
        return None
    if not _ID.fullmatch(id_):
        raise Unusable("request.id must be 1 to 200 printable characters without blanks")
    return id_ + suffix


def _seconds(window: str) -> int:
    return int(window) if window.isascii() and window.isdecimal() else _SECONDS.get(window, 0)


def _integer(value: object) -> int | None:
    """A header's value; of several the first."""
    if isinstance(value, list):
        value = value[0] if value else None
    match = re.match(r"\s*(\d{1,18})(?!\d)", str(value)) if value is not None else None
    return int(match[1]) if match else None

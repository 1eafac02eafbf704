"""Request bodies, read and decoded: JSON strictly, forms by Kong's naming rules.

Whatever arrives ends as a plain tree or as a 4xx: nothing here raises anything else.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from api.forms import multipart, nested, urlencoded
from api.responses import BadRequest, SchemaViolation, TooLarge, UnsupportedMediaType
from eventstore.records import Idempotency

BODY_LIMIT = 1024 * 1024  #: bytes
MAX_ARGS = 1000
MAX_DEPTH = 64

_decode = msgspec.json.Decoder().decode
_canonical = msgspec.json.Encoder(order="sorted").encode

DECODE_ERRORS = (ValueError, RecursionError)
"""What msgspec raises for hostile JSON: bad UTF-8 and deep nesting are not DecodeErrors."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded body.

    `form` says that scalars are still text and to be inferred by the entity's schema. `digest`
    is equal for two requests exactly when method, path, workspace and content are.
    """

    args: dict[str, Any]
    form: bool
    digest: bytes


async def read_body(request: Request) -> Body:
    """Read and decode the body of a write.

    No body and no content type means no arguments. Raises BadRequest, TooLarge,
    UnsupportedMediaType, and SchemaViolation for a field that is nested too deep or holds a NUL.
    """
    raw = await read_bytes(request)
    kind = media_type(request.headers)
    form = kind != "application/json"
    args = _decoded(kind, raw, request.headers)
    if too_deep := {name: TOO_DEEP for name, value in args.items() if deeper(value, MAX_DEPTH)}:
        raise SchemaViolation(too_deep)
    canonical = _canonical(args)
    if b"\\u0000" in canonical:
        _refuse_nul(args)
    return Body(args=args, form=form, digest=content_digest(request, canonical))


async def read_bytes(request: Request) -> bytes:
    """The whole body, or TooLarge as soon as the limit is passed.

    The limit is `request.state.body_limit`. Raises ClientDisconnect when the sender has gone.
    """
    limit: int = getattr(request.state, "body_limit", BODY_LIMIT)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
        raise TooLarge(limit)
    return await _receive_up_to(limit, request.receive)


async def _receive_up_to(limit: int, receive: Receive) -> bytes:
    chunks = []
    room = limit
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        room -= len(chunk)
        if room < 0:
            raise TooLarge(limit)
        if not message.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)


def media_type(headers: Headers) -> str:
    """The content type without its parameters, "" when there is none. Two of them are refused."""
    given = headers.getlist("content-type")
    if len(given) > 1:
        raise BadRequest("Content-Type must be given once")
    return given[0].partition(";")[0].strip().lower() if given else ""


def idempotency(request: Request, digest: bytes) -> Idempotency | None:
    """What makes a retry of this request known as one; None when no key was sent.

    Keys are scoped by workspace and live as long as the log. `digest` is that of the content.
    """
    key: str | None = getattr(request.state, "idempotency_key", None)
    if key is None:
        return None
    return Idempotency(f"key\0{request.state.workspace}\0{key}", digest)


def content_digest(request: Request, canonical: bytes) -> bytes:
    """16 bytes that name a request: its method, workspace, path and content."""
    workspace = getattr(request.state, "workspace", "")
    head = f"{request.method}\0{workspace}\0{request.scope['path']}\0"
    return blake2b(head.encode("utf-8", "replace") + canonical, digest_size=16).digest()


def deeper(value: object, levels: int) -> bool:
    """Whether `value` is nested deeper than `levels`, without recursion."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[object] = []
        for item in layer:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        layer = inner
    return True


TOO_DEEP = f"must not be nested deeper than {MAX_DEPTH} levels"


def _decoded(kind: str, raw: bytes, headers: Headers) -> dict[str, Any]:
    if kind == "application/json":
        return _json_object(raw)
    if kind == "application/x-www-form-urlencoded":
        pairs: list[tuple[str, Any]] = list(urlencoded(raw, MAX_ARGS))
    elif kind == "multipart/form-data":
        pairs = list(multipart(raw, headers["content-type"], MAX_ARGS))
    elif raw or kind:
        raise UnsupportedMediaType
    else:
        pairs = []
    return nested(pairs)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        args = _decode(raw)
    except DECODE_ERRORS as error:
        raise BadRequest("Cannot parse JSON body") from error
    if not isinstance(args, dict):
        raise BadRequest("Cannot parse JSON body")
    return args


def _refuse_nul(args: Mapping[str, Any]) -> None:
    """NUL ends a string for C code, names in streams are cut by it: no entity may hold one."""
    if wrong := {
        name: "must not contain NUL"
        for name, value in args.items()
        if "\0" in name or _holds_nul(value)
    }:
        raise SchemaViolation(wrong)


def _holds_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any("\0" in key or _holds_nul(item) for key, item in value.items())
        case list():
            return any(map(_holds_nul, value))
    return False

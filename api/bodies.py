"""Request bodies, read and decoded: JSON strictly, forms by Kong's naming rules.

Whatever arrives ends as a plain tree or as a 4xx: nothing here raises anything else.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

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
    given = content_type(request.scope)
    args = _decoded(raw, given)
    if too_deep := {name: TOO_DEEP for name, value in args.items() if deeper(value, MAX_DEPTH)}:
        raise SchemaViolation(too_deep)
    canonical = _canonical(args)
    if b"\\u0000" in canonical:
        _refuse_nul(args)
    form = media_type(given) != "application/json"
    return Body(args=args, form=form, digest=content_digest(request, canonical))


async def read_bytes(request: Request) -> bytes:
    """The whole body, or TooLarge as soon as the limit is passed.

    The front door has set the limit, and refused what announced itself as larger. Raises
    ClientDisconnect when the sender has gone.
    """
    chunks = []
    limit: int = request.scope["state"]["body_limit"]
    room = limit
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        room -= len(chunk)
        if room < 0:
            raise TooLarge(limit)
        if not message.get("more_body", False):
            return chunk if len(chunks) == 1 else b"".join(chunks)


def content_type(scope: Scope) -> str:
    """The content type as sent, "" when there is none. Raises BadRequest for two of them."""
    given = [value for name, value in scope["headers"] if name == b"content-type"]
    if len(given) > 1:
        raise BadRequest("Content-Type must be given once")
    return given[0].decode("latin-1") if given else ""


def media_type(content_type: str) -> str:
    """The content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


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
        containers = [item for item in layer if isinstance(item, dict | list)]
        if not containers:
            return False
        layer = [
            inner
            for container in containers
            for inner in (container.values() if isinstance(container, dict) else container)
        ]
    return True


TOO_DEEP = f"must not be nested deeper than {MAX_DEPTH} levels"


def _decoded(raw: bytes, content_type: str) -> dict[str, Any]:
    kind = media_type(content_type)
    if kind == "application/json":
        return _json_object(raw)
    if kind == "application/x-www-form-urlencoded":
        pairs: list[tuple[str, Any]] = list(urlencoded(raw, MAX_ARGS))
    elif kind == "multipart/form-data":
        pairs = list(multipart(raw, content_type, MAX_ARGS))
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

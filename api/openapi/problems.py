"""Refusals as the document at `/openapi.json` describes them, made from `api.responses`."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from api.responses import ANSWERS, InvalidOption, RequestError, SchemaViolation

Schema = dict[str, Any]

WORDS: Final[Mapping[int, str]] = {
    400: "The request cannot be understood, or what was sent is not valid.",
    401: "With RBAC enforced: no token, or one that nobody has.",
    403: "Not permitted: by the front door, by RBAC, or because a source is reserved.",
    404: "There is nothing of that name, or no such workspace.",
    405: "The path has no such method; `Allow` lists those it has.",
    409: "It contradicts what is there, or the idempotency key was used for something else.",
    410: "The position was compacted away.",
    412: "`If-Match` names another version than the present one.",
    413: "The body is larger than `body_limit` allows.",
    415: "The content type is none that the endpoint reads.",
    500: "An error of the service itself, which its log tells about.",
    502: "The receiver, or the handler, did not do what it should.",
    503: "Nothing was stored, or it is unknown whether: send it again with the same key.",
    507: "The disk is full, nothing was stored.",
}
EVERYWHERE: Final = (400, 401, 403, 404, 413, 500)
"""What the front door alone may answer to any request; 404 for an unknown workspace."""
WRITING: Final = (409, 415, 503, 507)
"""Beside those, what a write may be answered."""

_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    503: ("Retry-After",),
    507: ("Retry-After",),
}
_TREE: Final = {
    "description": "Nested like the entity, with a text for each fault; lists go by place.",
    "type": "object",
    "additionalProperties": {"$ref": "#/components/schemas/Fault"},
}
_FAULT: Final = {
    "title": "Fault",
    "anyOf": [
        {"type": "string"},
        {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Fault"}},
        {
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/components/schemas/Fault"}, {"type": "null"}]},
        },
    ],
}


def response_name(status: int) -> str:
    """The name of the component, like `NotFound`."""
    return HTTPStatus(status).phrase.title().replace(" ", "")


def problem_schemas() -> dict[str, Schema]:
    """One for a plain sentence, and one for each problem that Kong numbers."""
    message = {"type": "string", "description": "What is wrong, in one line."}
    schemas: dict[str, Schema] = {
        "Fault": _FAULT,
        "Problem": {
            "title": "Problem",
            "type": "object",
            "properties": {"message": message},
            "required": ["message"],
            "not": {"required": ["code"]},
        },
    }
    for kind, (_, code, name) in ANSWERS.items():
        if code is not None:
            schemas[kind.__name__] = _numbered(kind, code, name, message)
    return schemas


def problem_responses() -> dict[str, Schema]:
    """The answers of every status there is, by name."""
    return {response_name(status): _response(status) for status in WORDS}


def headers(names: Iterable[str]) -> dict[str, Schema]:
    """References to headers: the one that tells every answer from the others, and `names`."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def _numbered(kind: type[RequestError], code: int, name: str, message: Schema) -> Schema:
    words = (kind.__doc__ or "").strip().splitlines()[:1]
    properties: Schema = {"message": message, "name": {"const": name}, "code": {"const": code}}
    if kind is SchemaViolation:
        properties["fields"] = _TREE
    else:
        about = "options" if kind is InvalidOption else "fields"
        properties[about] = {"type": "object"}
    return {
        "title": kind.__name__,
        "type": "object",
        "properties": properties,
        "required": ["message", "name", "code"],
    } | ({"description": words[0]} if words else {})


def _response(status: int) -> Schema:
    kinds = [kind for kind, (answered, code, _) in ANSWERS.items() if code and answered == status]
    names = ["Problem", *(kind.__name__ for kind in kinds)]
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {
        "description": WORDS[status],
        "headers": headers(_HEADERS.get(status, ())),
        "content": {"application/json": {"schema": schema}},
    }

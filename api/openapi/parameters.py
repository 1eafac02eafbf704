"""The parameters of operations: of paths, of queries, and headers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from api.openapi.operation import Operation
from projections.tables import TABLES

Schema = dict[str, Any]

_NAME: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_POSITION: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_FLAG: Final = {"type": "string", "enum": ["true", "false"], "default": "false"}

_QUERY: Final[Mapping[str, tuple[str, Schema]]] = {
    "size": (
        "How many there are on a page at most.",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    ),
    "offset": ("Where the page starts, as the page before told.", {"type": "string"}),
    "tags": (
        "Only what has all of these tags (`a,b`) or one of them (`a/b`), at most five.",
        {"type": "string", "pattern": "^([^,/]+(,[^,/]+){0,4}|[^,/]+(/[^,/]+){1,4})$"},
    ),
    "after": ("Only what comes after this position of the log.", _POSITION),
    "before": ("Only what came before this position of the log.", _POSITION),
    "wait": (
        "Seconds to wait for something new at the end of the log.",
        {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
    ),
    "source": ("The source of the event; `id` is its sender's own id then.", {"type": "string"}),
    "skip": ("Drop what waited, unless the body says otherwise.", _FLAG),
    "dry_run": ("Send nothing and let no function have an effect.", _FLAG),
    "balancer_health": (
        "With 1, the health of the upstream as a whole.",
        {"type": "string", "enum": ["0", "1"], "default": "0"},
    ),
    "custom_id": ("Only the one with this `custom_id`.", {"type": "string"}),
}

_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": (
        "The same key with the same content stores nothing twice, for the life of the log; with"
        " other content it is refused with 409."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "description": "The versions that the entity may have, as its `ETag` tells them, or `*`.",
    "schema": {"type": "string", "minLength": 1},
}
_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of what is known already.",
    "schema": {"type": "string"},
}
_REQUEST_ID: Final = {
    "name": "X-Request-Id",
    "in": "header",
    "description": (
        "A name for this request, in its answer and in the log: 1 to 128 letters, digits and"
        " `._~-`. Anything else is not used, and one is made up."
    ),
    "schema": {"type": "string"},
}

_PATH_WORDS: Final = {
    "address": "An address of the target, like `10.0.0.5:8080`.",
    "delivery": "The id of a parked delivery.",
    "endpoint": "`*`, or a path without workspace; it may have slashes.",
    "entity": "The name of a table.",
    "event": "The name of an event.",
    "plugin": "The name of a plugin.",
    "source": "The name of a source.",
    "tag": "A tag.",
    "workspace": "The name or id of a workspace, or `*`.",
}
_ENUMS: Final[Mapping[str, list[str]]] = {"entity": list(TABLES)}


def components() -> dict[str, Schema]:
    """What operations refer to."""
    query = {
        name: {"name": name, "in": "query", "description": words, "schema": schema}
        for name, (words, schema) in _QUERY.items()
    }
    headers = {
        "IdempotencyKey": _KEY,
        "IfMatch": _MATCH,
        "IfNoneMatch": _NONE_MATCH,
        "XRequestId": _REQUEST_ID,
    }
    return query | headers


def plain_path(path: str) -> str:
    """A route's path without the kinds of its parameters."""
    return _NAME.sub(r"{\1}", path)


def of_path(path: str) -> list[Schema]:
    """The parameters that all operations of a path have."""
    return [*(_in_path(path, name) for name in _NAME.findall(path)), _ref("XRequestId")]


def of_operation(operation: Operation) -> list[Schema]:
    names: Iterable[str] = operation.query
    if operation.writes:
        names = (*names, "IdempotencyKey")
    if operation.versioned:
        names = (*names, "IfMatch")
    return [_ref(name) for name in names]


def _in_path(path: str, name: str) -> Schema:
    schema: Schema = {"type": "string", "minLength": 1}
    words = _PATH_WORDS.get(name, "")
    if name == "id":
        words = "A position, or an id" if path.startswith("/events") else "The id of an event hook"
        words += "." if path.startswith("/event-hooks") else " of an event."
        if path.startswith("/event-hooks"):
            schema = {"type": "string", "format": "uuid"}
    elif name == "delivery":
        schema = {"type": "string", "format": "uuid"}
    elif name in TABLES:
        schema, words = _of_table(name)
    if name in _ENUMS:
        schema["enum"] = _ENUMS[name]
    return {"name": name, "in": "path", "required": True, "description": words, "schema": schema}


def _of_table(name: str) -> tuple[Schema, str]:
    table = TABLES[name]
    other = table.key or (table.names and table.names.name)
    if other is None:
        return {"type": "string", "format": "uuid"}, f"The id of one of the {name}."
    return {"type": "string", "minLength": 1}, f"The id of one of the {name}, or its {other}."


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/parameters/{name}"}

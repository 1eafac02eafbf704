"""What is said of one operation in the document at `/openapi.json`, and what it is said with."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from api.openapi.schemas import EntitySchemas, Schema
from projections.tables import TABLES

Made = Callable[[EntitySchemas], Schema]
Shown = type[msgspec.Struct] | Made | None
"""A body: a Struct, a schema made with those of entities, or none at all."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """The words are those of the endpoint's docstring; `summary` goes before them.

    `body` is what is sent as JSON or as a form; `content` are the types of other bodies, by content
    type. `stores` says that an operation without a described body may store something all the same,
    `versioned` that it heeds `If-Match`, `etag` that it tells the version. `problems` are statuses
    of refusals that the others do not have, `query` the names of parameters. `open` operations need
    no token.
    """

    id: str
    tag: str
    summary: str = ""
    answers: Mapping[int, Shown]
    query: tuple[str, ...] = ()
    body: Shown = None
    body_required: bool = True
    content: Mapping[str, Any] | None = None
    stores: bool = False
    versioned: bool = False
    etag: bool = False
    problems: tuple[int, ...] = ()
    open: bool = False
    media_type: str = "application/json"

    @property
    def writes(self) -> bool:
        return self.stores or self.body is not None or self.content is not None


def one(table: str) -> Made:
    """An entity as it is shown."""
    return lambda schemas: schemas.answer(TABLES[table])


def many(item: Made) -> Made:
    return lambda schemas: {"type": "array", "items": item(schemas)}


def record(**members: Made) -> Made:
    """An object of which each member is required."""

    def made(schemas: EntitySchemas) -> Schema:
        properties = {name: member(schemas) for name, member in members.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}

    return made


def page(item: Made) -> Made:
    """A page of a collection, as Kong has them."""

    def made(schemas: EntitySchemas) -> Schema:
        following = {"type": ["string", "null"], "description": "The path of the next page."}
        properties = {
            "data": {"type": "array", "items": item(schemas)},
            "next": following,
            "offset": {"type": "string", "description": "Where the next page starts."},
        }
        return {"type": "object", "properties": properties, "required": ["data", "next"]}

    return made


def plain(kind: str | list[str]) -> Made:
    """A value of a JSON type, or of one of several."""
    return lambda _schemas: {"type": kind}

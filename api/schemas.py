"""`/schemas`: what the table of entities says, in the form that Kong's clients read."""

from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.responses import Json, NotFound
from api.routing import route
from api.stamping import stamped
from api.submission import made_up
from api.validation import inferred, validated
from projections.fields import Field, Record, Shape
from projections.plugins import PLUGINS
from projections.tables import TABLES, Table


class SchemaEndpoints:
    """Read-only: validating stores nothing."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def routes(self) -> list[Route]:
        return [
            route("/schemas/{entity}/validate", POST=self.validate),
            route("/schemas/plugins/{plugin}", GET=self.plugin),
            route("/schemas/{entity}", GET=self.entity),
        ]

    async def entity(self, http: Request) -> Response:
        return Json(described(_table(http).record))

    async def plugin(self, http: Request) -> Response:
        """The schema of a plugin's configuration. Only those are known that events come from."""
        name = http.path_params["plugin"]
        if name not in PLUGINS:
            raise NotFound(f"No plugin named '{name}'")
        config = {"type": "record", "required": True, **described(PLUGINS[name])}
        return Json({"name": name, "fields": [{"config": config}]})

    async def validate(self, http: Request) -> Response:
        """Whether an entity like this would be valid, apart from what depends on others."""
        table, body = _table(http), await read_body(http)
        args = inferred(table.record, body.args) if body.form else body.args
        if table.expand:
            args = table.expand(args)
        validated(table, stamped(table.record, args, made_up(self._admin)))
        return Json({"message": "schema validation successful"})


def described(record: Record) -> dict[str, Any]:
    """A record as Kong shows one: its fields in order, each an object with one key.

    `subschemas` are further fields of the field that they belong to, by the value that selects
    them.
    """
    fields = [field for field in record.fields.values() if not field.transient]
    shorthands = [field for field in record.fields.values() if field.transient]
    shown: dict[str, Any] = {"fields": [{f.name: _field(f)} for f in fields]}
    if shorthands:
        shown["shorthand_fields"] = [{f.name: _field(f)} for f in shorthands]
    if record.variant:
        shown["subschema_key"] = record.variant.by
        shown["subschemas"] = {
            name: {"fields": [{record.variant.field: {"type": "record", **described(inner)}}]}
            for name, inner in record.variant.records.items()
        }
    return shown


def _field(field: Field) -> dict[str, Any]:
    shown = _shape(field.shape)
    default = field.fresh_default()
    marks = {
        "required": not field.shape.nullable and not field.auto,
        "auto": field.auto or field.generated,
        "uuid": field.auto and field.shape.kind == "string",
        "timestamp": field.auto and field.shape.kind != "string",
        "unique": field.unique,
        "encrypted": field.secret or field.hashed,
    }
    shown |= {mark: True for mark, holds in marks.items() if holds}
    if default is not None and default is not msgspec.NODEFAULT:
        shown["default"] = default
    return shown


def _shape(shape: Shape) -> dict[str, Any]:
    return dict(_attributes(shape))


def _attributes(shape: Shape) -> Iterator[tuple[str, Any]]:
    yield "type", shape.kind
    if shape.foreign is not None:
        yield "reference", shape.foreign.table
        if shape.foreign.cascade:
            yield "on_delete", "cascade"
        return
    if shape.choices:
        yield "one_of", list(shape.choices)
    if shape.least is not None and shape.most is not None:
        yield "between", [shape.least, shape.most]
    if shape.kind in ("array", "set") and shape.min_length:
        yield "len_min", shape.min_length
    if shape.item is not None:
        yield "values" if shape.kind == "map" else "elements", _shape(shape.item)
    if shape.key is not None:
        yield "keys", _shape(shape.key)
    if shape.record is not None:
        yield from described(shape.record).items()


def _table(http: Request) -> Table:
    name = http.path_params["entity"]
    if name not in TABLES:
        raise NotFound(f"No entity named '{name}'")
    return TABLES[name]

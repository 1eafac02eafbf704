"""The schemas of entities in JSON Schema 2020-12, made from the table of entities.

An entity has up to four forms, each a component of its own:

    Consumer                what is answered: whole, without what is never shown
    ConsumerInput           what POST takes; what has to be sent is required
    ConsumerReplacement     what PUT takes, where the path says a field that POST requires
    ConsumerPatch           what PATCH takes: nothing is required

and below a parent `TargetOfUpstreamInput`, where the path says which parent. A schema promises that
what it refuses is refused; conditions between fields are not in it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from api.openapi.formats import conditions
from projections.checks import AtLeastOneOf
from projections.fields import Field, Record, Shape
from projections.tables import TABLES, Table

Schema = dict[str, Any]
Mode = Literal["answer", "listed", "input", "patch"]
"""What a schema is for. What an answer lists, in an array or map, has no null members."""

_SHOWN: Final = ("answer", "listed")
_EXACT: Final = 2**53 - 1
SHORTHANDS: Final[Mapping[str, Mapping[str, str]]] = {"services": {"host": "url"}}
"""By table: fields that need not be sent when another one stands for them."""


class EntitySchemas:
    """Makes the components that somebody refers to. `components` are all of them so far."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def answer(self, table: Table) -> Schema:
        """A reference to the schema of what is shown of an entity."""
        return self._component(name_of(table), lambda: _entity(table, "answer"))

    def input(
        self,
        table: Table,
        *,
        parent: str | None = None,
        key: str | None = None,
        generated: str | None = None,
    ) -> Schema:
        """The same for what makes an entity.

        `parent` and `key` are fields that the path says, `generated` is one that the endpoint does.
        """
        needed = required(table.record)
        name = name_of(table)
        if parent in needed:
            name += f"Of{pascal(parent or '')}"
        name += "Replacement" if key in needed else "Input"
        without = frozenset({parent, key, generated})
        return self._component(name, lambda: _entity(table, "input", without))

    def patch(self, table: Table) -> Schema:
        """The same for what changes an entity."""
        return self._component(f"{name_of(table)}Patch", lambda: _entity(table, "patch"))

    def detached(self, table: Table, mode: Mode) -> Schema:
        """A copy that is no component, to be changed for an endpoint with ways of its own."""
        return _entity(table, mode)

    def _component(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.components:
            self.components[name] = {"title": name, **make()}
        return {"$ref": f"#/components/schemas/{name}"}


def name_of(table: Table) -> str:
    """`rbac_users` are each an `RbacUser`."""
    return pascal(singular(table.name))


def singular(plural: str) -> str:
    return plural.removesuffix("s")


def pascal(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.replace("-", "_").split("_"))


def _entity(table: Table, mode: Mode, without: frozenset[str | None] = frozenset()) -> Schema:
    record, names = table.record, table.names
    schema = _variants(table, mode, without) or _record(record, mode, without)
    if mode == "input":
        _say_alternatives(schema, table, without)
    if names is not None and mode == "answer":
        shown = {"type": "array", "items": {"type": "string"}}
        schema["properties"][names.field] = shown
        schema["required"].append(names.field)
    return schema


def _say_alternatives(schema: Schema, table: Table, without: frozenset[str | None]) -> None:
    """Which fields can be sent instead of others, as far as the path says none of them."""
    for field, shorthand in SHORTHANDS.get(table.name, {}).items():
        schema["required"].remove(field)
        if not schema["required"]:
            del schema["required"]
        schema["anyOf"] = [{"required": [field]}, {"required": [shorthand]}]
    for check in table.checks:
        if isinstance(check, AtLeastOneOf) and without.isdisjoint(check.names):
            schema["anyOf"] = [_with_value(schema, name) for name in check.names]


def _with_value(schema: Schema, name: str) -> Schema:
    """A field that is there and is not null."""
    kind = next(each for each in schema["properties"][name]["type"] if each != "null")
    return {"required": [name], "properties": {name: {"type": kind}}}


def _variants(table: Table, mode: Mode, without: frozenset[str | None]) -> Schema | None:
    """One schema per variant, because tools understand that best. A patch need not name its own."""
    variant = table.record.variant
    if variant is None or mode == "patch":
        return None
    schemas = []
    for selected, config in variant.records.items():
        schema = _record(table.record, mode, without)
        properties = schema["properties"]
        properties[variant.by] = {"const": selected, "type": "string"}
        properties[variant.field] = _record(config, mode)
        if mode == "input" and "required" in properties[variant.field]:
            schema.setdefault("required", []).append(variant.field)
        schemas.append({"title": f"{name_of(table)} with {variant.by} {selected}", **schema})
    if variant.open:
        schema = _record(table.record, mode, without)
        schema["properties"][variant.by]["not"] = {"enum": list(variant.records)}
        schemas.append({"title": f"{name_of(table)} with any other {variant.by}", **schema})
    return {"oneOf": schemas}


def _record(record: Record, mode: Mode, without: frozenset[str | None] = frozenset()) -> Schema:
    shown = mode in _SHOWN
    fields = [field for field in record.fields.values() if not shown or _is_shown(field)]
    schema: Schema = {
        "type": "object",
        "properties": {field.name: _field(field, mode) for field in fields},
    }
    needed: list[str] = []
    if shown:
        needed = [field.name for field in fields if _is_always_shown(field, mode)]
    elif mode == "input":
        needed = [name for name in required(record) if name not in without]
    if needed:
        schema["required"] = needed
    if not shown and not record.open:
        schema["additionalProperties"] = False
    return schema


def _is_shown(field: Field) -> bool:
    return not (field.transient or field.hashed)


def _is_always_shown(field: Field, mode: Mode) -> bool:
    return not (field.extension or (mode == "listed" and field.shape.nullable))


def required(record: Record) -> list[str]:
    """The fields that have to be sent to make an entity."""
    return [
        field.name
        for field in record.fields.values()
        if not (field.auto or field.generated or field.shape.nullable)
        and field.fresh_default() is msgspec.NODEFAULT
    ]


def _field(field: Field, mode: Mode) -> Schema:
    schema = _shape(field.shape, mode)
    if mode in _SHOWN:
        return schema | ({"x-hooktape-extension": True} if field.extension else {})
    default = field.fresh_default()
    if mode == "input" and default is not None and default is not msgspec.NODEFAULT:
        schema["default"] = default
    marks = {
        "readOnly": field.auto and field.name == "updated_at",
        "writeOnly": field.hashed or field.transient,
        "x-hooktape-unique": field.unique,
        "x-hooktape-secret": field.secret,
        "x-hooktape-extension": field.extension,
    }
    return schema | {mark: True for mark, holds in marks.items() if holds}


def _shape(shape: Shape, mode: Mode) -> Schema:
    schema = dict(_foreign(shape, mode) if shape.foreign else _attributes(shape, mode))
    if shape.nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _attributes(shape: Shape, mode: Mode) -> Iterator[tuple[str, Any]]:
    match shape.kind:
        case "any":
            return
        case "array" | "set":
            yield from _items(shape, mode)
        case "map" | "record":
            yield from _members(shape, mode)
        case "integer" | "number" if not shape.choices:
            yield "type", shape.kind
            yield "minimum", -_EXACT if shape.least is None else shape.least
            yield "maximum", _EXACT if shape.most is None else shape.most
        case "string" if shape.min_length and not shape.choices:
            yield "type", shape.kind
            yield "minLength", shape.min_length
        case _:
            yield "type", shape.kind
    if shape.choices:
        yield "enum", list(shape.choices)
    yield from conditions(shape.checks)


def _items(shape: Shape, mode: Mode) -> Iterator[tuple[str, Any]]:
    yield "type", "array"
    if shape.item is not None:
        yield "items", _shape(shape.item, _inside(mode))
    if shape.min_length:
        yield "minItems", shape.min_length
    if shape.kind == "set" and mode in _SHOWN:
        yield "uniqueItems", True


def _members(shape: Shape, mode: Mode) -> Iterator[tuple[str, Any]]:
    if shape.record is not None:
        yield from _record(shape.record, mode).items()
        return
    yield "type", "object"
    if shape.item is not None:
        yield "additionalProperties", _shape(shape.item, _inside(mode))
    if shape.key is not None:
        yield "propertyNames", _shape(shape.key, _inside(mode))


def _inside(mode: Mode) -> Mode:
    """In arrays and maps, which PATCH replaces whole."""
    inside: dict[Mode, Mode] = {"answer": "listed", "patch": "input"}
    return inside.get(mode, mode)


def _foreign(shape: Shape, mode: Mode) -> Iterator[tuple[str, Any]]:
    """A reference is answered with its id, and can be made by any unique value of its target."""
    assert shape.foreign is not None  # noqa: S101 - asked by `_shape`
    target = TABLES[shape.foreign.table]
    names = {"id": {"type": "string", "format": "uuid"}}
    yield "type", "object"
    yield "x-hooktape-references", target.name
    if mode in _SHOWN:
        yield "properties", names
        yield "required", ["id"]
        return
    others = [fields[0] for fields in target.unique if len(fields) == 1]
    yield "properties", names | {name: {"type": "string"} for name in others}
    yield "anyOf", [{"required": [name]} for name in names | dict.fromkeys(others)]

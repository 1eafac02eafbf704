"""What a field of an entity can be: the marks used in the table of entities, and its compiled form.

A Struct declares a record: annotations give types, ranges and nullability, defaults are Kong's, and
the marks below say the rest. `compile_record` turns it into plain values that the validator, the
read model and the presentation walk.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, inspect

from .checks import Check

UNIQUE = Meta(extra={"unique": True})
"""No two entities of a workspace (of the whole table, if it has no workspaces) share this value."""
UNIQUE_EVERYWHERE = Meta(extra={"unique": True, "everywhere": True})
"""The same across all workspaces, although the table has them."""
SECRET = Meta(extra={"secret": True})
"""Kept apart from the entity; shown by the Admin API's own answers and by nothing else."""
HASHED = Meta(extra={"hashed": True})
"""A token or password: hashed before it reaches the log, kept apart, never shown."""
GENERATED = Meta(extra={"generated": True})
"""A random text when the caller sends none."""
AUTO = Meta(extra={"auto": True})
"""Filled in by the service when the caller does not: an id or a time."""
EXTENSION = Meta(extra={"extension": True})
"""Unknown to Kong: stored and shown only when it differs from its default."""
TRANSIENT = Meta(extra={"transient": True})
"""Accepted and checked, never stored or shown."""
SET = Meta(extra={"set": True})
"""A list without repetitions."""
FREE = Meta(extra={"free": True})
"""A map that counts as a record whose fields are not known here."""


Kind = Literal[
    "string", "integer", "number", "boolean", "array", "set", "map", "record", "foreign", "any"
]


_MARKS: Final = (
    "unique",
    "everywhere",
    "secret",
    "hashed",
    "auto",
    "generated",
    "extension",
    "transient",
)
_KINDS: Final[dict[str, Kind]] = {"foreign": "foreign", "set": "set", "free": "record"}
_SCALARS: Final[dict[type, Kind]] = {
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.AnyType: "any",
}


class Foreign(msgspec.Struct, frozen=True):
    """A reference `{"id": ...}` to `table`. With `cascade` the owner is deleted with its target."""

    table: str
    cascade: bool = False


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The type of a value. `kind` is the word that Kong's messages use.

    A record without `record` is free: its fields are not known here.
    """

    kind: Kind
    nullable: bool = False
    item: "Shape | None" = None  #: elements of an array or set, values of a map
    key: "Shape | None" = None  #: keys of a map
    record: "Record | None" = None
    choices: tuple[str | int, ...] = ()
    least: float | None = None
    most: float | None = None
    min_length: int = 1
    checks: tuple[Check, ...] = ()  #: conditions beyond the type; the first that fails is told
    foreign: Foreign | None = None


class Field(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    shape: Shape
    default: Any = msgspec.NODEFAULT
    factory: Callable[[], Any] | None = None
    unique: bool = False
    everywhere: bool = False
    secret: bool = False
    hashed: bool = False
    auto: bool = False
    generated: bool = False
    extension: bool = False
    transient: bool = False

    def fresh_default(self) -> Any:
        """The value of a field that was not sent; NODEFAULT when it has to be sent."""
        if self.factory is not None:
            return msgspec.to_builtins(self.factory())
        return self.default


class Variant(msgspec.Struct, frozen=True):
    """The record of field `field` is the one that the value of field `by` selects.

    For a value that selects none the field is as it was declared, if `open`, or else is not looked
    at: the value itself is the fault.
    """

    by: str
    field: str
    records: "Mapping[str, Record]"
    open: bool = False


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """With `open`, further fields are accepted as they are given."""

    fields: Mapping[str, Field]
    variant: Variant | None = None
    open: bool = False

    def field_of(self, name: str, entity: Mapping[str, Any]) -> Field:
        """Field `name` as it applies to `entity`."""
        field = self.fields[name]
        if self.variant is None or name != self.variant.field:
            return field
        selected = entity.get(self.variant.by)
        record = self.variant.records.get(selected) if isinstance(selected, str) else None
        if record is None and self.variant.open:
            return field
        shape = msgspec.structs.replace(
            field.shape, kind="record" if record else "any", record=record
        )
        return msgspec.structs.replace(field, shape=shape)


def checked(*checks: Check) -> Meta:
    """Conditions beyond the type; the first that does not hold is told."""
    return Meta(extra={"checks": checks})


def foreign(table: str, *, cascade: bool = False) -> Meta:
    return Meta(extra={"foreign": Foreign(table, cascade)})


class Open(msgspec.Struct, kw_only=True):
    """A record that takes further fields as they are given."""


def compile_record(struct: type[msgspec.Struct], variant: Variant | None = None) -> Record:
    """The compiled form of a Struct. Raises TypeError for a type that no field can have."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - what type_info gives for a Struct
    hints = get_type_hints(struct, include_extras=True)
    fields = {f.name: _field(f, dict(_literals(hints[f.name]))) for f in info.fields}
    return Record(fields=fields, variant=variant, open=issubclass(struct, Open))


def _literals(hint: Any) -> Iterator[tuple[frozenset[Any], tuple[Any, ...]]]:
    """The Literals of a type as they are written: msgspec sorts them, Kong's texts do not."""
    if get_origin(hint) is Literal:
        yield frozenset(get_args(hint)), get_args(hint)
    for part in get_args(hint):
        yield from _literals(part)


_Literals = Mapping[frozenset[Any], tuple[Any, ...]]


def _field(field: inspect.Field, literals: _Literals) -> Field:
    shape, extra = _shape(field.type, literals)
    factory = None if field.default_factory is msgspec.NODEFAULT else field.default_factory
    marks = {mark: True for mark in _MARKS if mark in extra}
    return Field(name=field.name, shape=shape, default=field.default, factory=factory, **marks)


def _shape(type_: inspect.Type, literals: _Literals) -> tuple[Shape, dict[str, Any]]:
    """The shape of a type, and the marks found around it."""
    match type_:
        case inspect.Metadata(type=inner, extra=extra):
            shape, marks = _shape(inner, literals)
            marks |= extra or {}
            kinds = (kind for mark, kind in _KINDS.items() if mark in marks)
            return msgspec.structs.replace(
                shape,
                kind=next(kinds, shape.kind),
                checks=marks.get("checks", ()),
                foreign=marks.get("foreign"),
            ), marks
        case inspect.UnionType(types=types):
            (inner,) = (member for member in types if not isinstance(member, inspect.NoneType))
            shape, marks = _shape(inner, literals)
            return msgspec.structs.replace(shape, nullable=True), marks
    return _plain_shape(type_, literals), {}


def _plain_shape(type_: inspect.Type, literals: _Literals) -> Shape:
    match type_:
        case inspect.StrType(min_length=least):
            return Shape(kind="string", min_length=1 if least is None else least)
        case inspect.IntType() | inspect.FloatType():
            return Shape(kind=_SCALARS[type(type_)], least=type_.ge, most=type_.le)
        case inspect.BoolType() | inspect.AnyType():
            return Shape(kind=_SCALARS[type(type_)], nullable=isinstance(type_, inspect.AnyType))
        case inspect.LiteralType(values=values):
            choices = literals[frozenset(values)]
            return Shape(
                kind="string" if isinstance(choices[0], str) else "integer", choices=choices
            )
        case inspect.ListType(item_type=item, min_length=least):
            return Shape(kind="array", item=_shape(item, literals)[0], min_length=least or 0)
        case inspect.DictType(key_type=key, value_type=value):
            keys, items = _shape(key, literals)[0], _shape(value, literals)[0]
            return Shape(kind="map", key=keys, item=items)
        case inspect.StructType(cls=struct):
            return Shape(kind="record", record=compile_record(struct))
    raise TypeError(f"no entity field can be of type {type_}")

"""What is sent, held against the table of entities: every fault at once, in Kong's words.

JSON is taken strictly, but for what Lua clients cannot help: 28.0 is an integer, and an empty array
and an empty map are the same. Forms are inferred first. Nothing here looks at other entities.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from api.responses import SchemaViolation
from projections.checks import ENTITY, INVALID, uuid
from projections.fields import Record, Shape
from projections.tables import Table

Wrong = str | dict[str, Any] | list[Any]
"""What is wrong with a value: a text, or the same by field, or by place in an array."""

Verdict = tuple[Any, Wrong | None]
"""The value as it is to be stored, and what is wrong with it if anything."""

_MISSING: Final = "required field missing"
_EXACT: Final = 2**53 - 1  #: integers beyond are not exact in Lua, nor in JavaScript
_MAX_DEPTH: Final = 64
_ANY: Final = Shape(kind="any", nullable=True)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def validated(table: Table, args: Mapping[str, Any]) -> dict[str, Any]:
    """The whole entity that `args` describes, defaults filled in. Raises SchemaViolation."""
    entity, wrong = _record(table.record, args)
    about_all = []
    candidate = {
        name: INVALID if name in wrong else entity.get(name) for name in table.record.fields
    }
    for check in table.checks:
        found = dict(check(candidate))
        if text := found.pop(ENTITY, None):
            about_all.append(text)
        wrong = found | wrong
    if wrong or about_all:
        raise SchemaViolation(wrong, about_all)
    return table.derive(entity) if table.derive else entity


def inferred(
    record: Record, args: Mapping[str, Any], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of a form, whose values are text, with the types that `record` wants.

    `known` is the entity that they are to change, for what they leave out may select a variant.
    """
    context = {**known, **args} if known else args
    return {
        name: _inferred(record.field_of(name, context).shape, value)
        if name in record.fields
        else value
        for name, value in args.items()
    }


def merged(record: Record, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` changed as PATCH does: records key by key, anything else is replaced.

    What a changed variant selects is replaced, for the old one has other fields.
    """
    result = {**old, **new}
    variant = record.variant
    for name, value in new.items():
        before = old.get(name)
        if not isinstance(before, dict) or not isinstance(value, dict):
            continue
        if name not in record.fields:
            result[name] = _joined(before, value)
            continue
        if variant and name == variant.field and result.get(variant.by) != old.get(variant.by):
            continue
        shape = record.field_of(name, result).shape
        if shape.kind == "record":
            result[name] = (
                merged(shape.record, before, value) if shape.record else _joined(before, value)
            )
    return result


def _joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Free records: what looks like a record is taken for one."""
    result = {**old, **new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            result[name] = _joined(before, value)
    return result


def _inferred(shape: Shape, value: Any) -> Any:
    if shape.kind == "any":
        return value
    if value == "":
        return None
    match shape.kind, value:
        case (("integer" | "number"), str()):
            return _number(value)
        case "boolean", "true" | "false":
            return value == "true"
        case (("array" | "set"), _):
            items = value if isinstance(value, list) else [value]
            return [_inferred(_item(shape), item) for item in items]
        case "map", dict():
            return {name: _inferred(_item(shape), item) for name, item in value.items()}
        case "record", dict() if shape.record is not None:
            return inferred(shape.record, value)
    return value


def _item(shape: Shape) -> Shape:
    assert shape.item is not None  # noqa: S101 - arrays, sets and maps have one
    return shape.item


def _number(text: str) -> float | str:
    """The number that `text` spells, or `text` itself."""
    if not _NUMBER.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def _value(shape: Shape, value: Any) -> Verdict:
    if value is None:
        return None, None if shape.nullable else _MISSING
    value, wrong = _TYPES[shape.kind](shape, value)
    return value, wrong if wrong else _out_of_bounds(shape, value)


def _out_of_bounds(shape: Shape, value: Any) -> str | None:
    if shape.choices:
        text = f"expected one of: {', '.join(map(str, shape.choices))}"
        return None if value in shape.choices else text
    if shape.kind in ("integer", "number"):
        least = -_EXACT if shape.least is None else shape.least
        most = _EXACT if shape.most is None else shape.most
        if not least <= value <= most:
            return f"value should be between {least:.0f} and {most:.0f}"
    elif shape.kind in ("string", "array", "set") and len(value) < shape.min_length:
        return f"length must be at least {shape.min_length}"
    return next(filter(None, (check(value) for check in shape.checks)), None)


def _string(_shape: Shape, value: Any) -> Verdict:
    if not isinstance(value, str):
        return value, "expected a string"
    if "\0" in value:
        return value, "must not contain NUL"
    return value, "invalid utf-8 character sequence" if _SURROGATE.search(value) else None


def _integer(_shape: Shape, value: Any) -> Verdict:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value, None if is_integer else "expected an integer"


def _real(_shape: Shape, value: Any) -> Verdict:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value, None if is_number and math.isfinite(value) else "expected a number"


def _boolean(_shape: Shape, value: Any) -> Verdict:
    return value, None if isinstance(value, bool) else "expected a boolean"


def _array(shape: Shape, value: Any) -> Verdict:
    if value == {}:
        value = []
    if not isinstance(value, list):
        return value, f"expected {'an array' if shape.kind == 'array' else 'a set'}"
    verdicts = [_value(_item(shape), item) for item in value]
    wrong = [fault for _, fault in verdicts]
    items = [item for item, _ in verdicts]
    if any(wrong):
        return items, wrong
    if shape.kind == "set":
        items = list({msgspec.json.encode(item): item for item in items}.values())
    return items, None


def _map(shape: Shape, value: Any) -> Verdict:
    """Kong says what is wrong with the first bad pair, without naming it."""
    if value == []:
        value = {}
    if not isinstance(value, dict):
        return value, "expected a map"
    result = {}
    for name, item in value.items():
        _, wrong = _value(shape.key, name) if shape.key else (name, None)
        result[name], wrong_item = _value(_item(shape), item)
        if wrong or wrong_item:
            return value, wrong or wrong_item
    return result, None


def _any_record(shape: Shape, value: Any) -> Verdict:
    if value == []:
        value = {}
    if not isinstance(value, dict):
        return value, "expected a record"
    if shape.record is None:
        return _free(shape, value)
    result, wrong = _record(shape.record, value)
    return result, wrong or None


def _record(record: Record, value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Wrong]]:
    unknown = {name: item for name, item in value.items() if name not in record.fields}
    result, wrong = _unknown(record, unknown)
    for name in record.fields:
        field = record.field_of(name, value)
        given = value[name] if name in value else field.fresh_default()
        if given is msgspec.NODEFAULT:
            wrong[name] = _MISSING
            continue
        result[name], fault = _value(field.shape, given)
        if fault:
            wrong[name] = fault
    return result, wrong


def _unknown(record: Record, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Wrong]]:
    """Fields that the record does not know: an open one takes them as they are."""
    if not record.open:
        return {}, dict.fromkeys(given, "unknown field")
    verdicts = {name: _free(_ANY, item) for name, item in given.items()}
    return dict(given), {name: wrong for name, (_, wrong) in verdicts.items() if wrong}


def _reference(_shape: Shape, value: Any) -> Verdict:
    if not isinstance(value, dict):
        return value, "expected a record"
    if value.get("id") is None:
        return value, {"id": "missing primary key"}
    identity, wrong = _string(_shape, value["id"])
    wrong = wrong or uuid(identity)
    return ({"id": identity.lower()}, None) if wrong is None else (value, {"id": wrong})


def _free(_shape: Shape, value: Any) -> Verdict:
    """A value of any type is only held against what can be stored."""
    layer = [value]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                inner += [*item, *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and (wrong := _string(_shape, item)[1]):
                return value, wrong
        if not inner:
            return value, None
        layer = inner
    return value, f"must not be nested deeper than {_MAX_DEPTH} levels"


_TYPES: Final[Mapping[str, Callable[[Shape, Any], Verdict]]] = {
    "string": _string,
    "integer": _integer,
    "number": _real,
    "boolean": _boolean,
    "array": _array,
    "set": _array,
    "map": _map,
    "record": _any_record,
    "foreign": _reference,
    "any": _free,
}

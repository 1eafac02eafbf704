"""An entity whole and as the log keeps it. Pure functions.

Whole: every field is there, those without a value as None. Stored: without nulls, without what is
transient or an extension at its default, and with secrets apart, by dotted path.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from .fields import Field, Record


def store(record: Record, whole: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The public part of a whole entity, and its secrets. Hashed fields are among the secrets."""
    public: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for name, value in whole.items():
        if name not in record.fields:  # of an open record
            public[name] = without_nulls(value)
            continue
        field = record.field_of(name, whole)
        if value is None or field.transient or (field.extension and value == field.default):
            continue
        if field.secret or field.hashed:
            secrets[name] = value
        elif field.shape.record is not None:
            public[name], inner = store(field.shape.record, value)
            secrets |= {f"{name}.{path}": secret for path, secret in inner.items()}
        else:
            public[name] = without_nulls(value)
    return public, secrets


def reveal(entity: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """A stored entity with its secrets put back in place."""
    revealed = dict(entity)
    for path, value in secrets.items():
        target = revealed
        *parents, name = path.split(".")
        for parent in parents:
            inner = dict(target.get(parent, {}))
            target[parent] = inner
            target = inner
        target[name] = value
    return revealed


def restore(
    record: Record, entity: Mapping[str, Any], secrets: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole entity. A field that is newer than the entity has its default."""
    return _filled(record, reveal(entity, secrets))


def shown(record: Record, entity: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """The whole entity as the Admin API answers it: secrets as Kong does, hashes never."""
    whole = restore(record, entity, secrets)
    hidden = {name for name, field in record.fields.items() if field.hashed}
    return {name: value for name, value in whole.items() if name not in hidden}


def without_nulls(value: Any) -> Any:
    """`value` without the null members of its maps; the items of arrays keep their places."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _filled(record: Record, entity: Mapping[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in entity.items() if record.open}
    for name in record.fields:
        field = record.field_of(name, entity)
        value = entity.get(name)
        if value is None:
            if not field.transient and not field.extension:
                whole[name] = _absent(field)
        elif field.shape.record is not None:
            whole[name] = _filled(field.shape.record, value)
        else:
            whole[name] = value
    return whole


def _absent(field: Field) -> Any:
    if field.shape.nullable:
        return None
    default = field.fresh_default()
    if field.shape.record is not None:
        return _filled(field.shape.record, {})
    return None if default is msgspec.NODEFAULT else default

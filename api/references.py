"""What an entity has to do with the others: references that lead somewhere, values not taken yet.

Pure: decided from the entities as they are. Refusals are the errors of `api.responses`.
"""

from collections.abc import Mapping
from typing import Any

from api.responses import ForeignKeysUnresolved, ForeignKeyViolation, UniqueViolation
from projections.entities import Entities, Entity
from projections.tables import TABLES, Table


def visible(view: Entities, table: Table, workspace: str, identity: str) -> Entity | None:
    """The entity with this id, if it can be seen from `workspace`."""
    row = view.get(table.name, identity)
    return row if row and table.scope(row.workspace) == table.scope(workspace) else None


def resolved(view: Entities, table: Table, workspace: str, args: dict[str, Any]) -> dict[str, Any]:
    """References may name their target by a unique field instead of its id.

    Raises ForeignKeysUnresolved.
    """
    unresolved: dict[str, dict[str, tuple[str, str]]] = {}
    for field in table.references:
        given = args.get(field.name)
        if not isinstance(given, dict) or given.get("id") is not None or not field.shape.foreign:
            continue
        target = TABLES[field.shape.foreign.table]
        names = [n for (n, *more) in target.unique if not more and isinstance(given.get(n), str)]
        found = (view.find(target.name, workspace, name, given[name]) for name in names)
        row = next(filter(None, found), None)
        if row is not None:
            args[field.name] = {"id": row.id}
        elif names:
            unresolved[field.name] = {name: (given[name], target.name) for name in names}
    if unresolved:
        raise ForeignKeysUnresolved(unresolved)
    return args


def refuse_unknown(view: Entities, table: Table, workspace: str, whole: Mapping[str, Any]) -> None:
    """Raises ForeignKeyViolation for a reference to what cannot be seen from `workspace`."""
    for field in table.references:
        key, foreign = whole[field.name], field.shape.foreign
        if key is None or foreign is None:
            continue
        if visible(view, TABLES[foreign.table], workspace, key["id"]) is None:
            raise ForeignKeyViolation.unknown(field.name, key, foreign.table)


def refuse_taken(view: Entities, table: Table, workspace: str, whole: Mapping[str, Any]) -> None:
    """Raises UniqueViolation for values that another entity has."""
    for fields in table.unique:
        key = {name: whole[name] for name in sorted(fields)}
        if all(value is None for value in key.values()):
            continue
        values = [whole[name] for name in fields]
        row = view.find_together(table.name, workspace, fields, values)
        if row is not None and row.id != whole["id"]:
            hashed = {name for name in fields if table.record.fields[name].hashed}
            raise UniqueViolation(key | dict.fromkeys(hashed, "(not shown)"))

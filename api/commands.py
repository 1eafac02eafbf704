"""What a write to an entity comes to: the events to append, decided from the entities as they are.

Pure: the same entities and the same request give the same decision, so it can be taken again when
configuration moved in between. Refusals are the errors of `api.responses`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from api.responses import (
    BadRequest,
    EntityNotFound,
    ForeignKeysUnresolved,
    ForeignKeyViolation,
    InvalidPrimaryKey,
    PrimaryKeyViolation,
    UniqueViolation,
)
from api.validation import inferred, merged, validated
from eventstore.codec import new_event
from eventstore.events import EntityCreated, EntityDeleted, EntityUpdated, Event
from eventstore.records import Kind, NewEvent
from projections import checks
from projections.entities import Entities, Entity
from projections.stored import restore, store
from projections.tables import DEFAULT_WORKSPACE, TABLES, Table


class Parent(msgspec.Struct, frozen=True):
    """The entity under whose path a request was made, and the field that refers to it."""

    field: str
    row: Entity


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One write: what was sent and where. `now` is in seconds; `new_id` is for what is created."""

    table: Table
    workspace: str
    args: Mapping[str, Any]
    form: bool = False
    now: int
    new_id: str
    parent: Parent | None = None


class Decision(msgspec.Struct, frozen=True):
    """`events` are to be stored together, the one about the entity itself last.

    `entity` is the whole entity as it will be, None when there will be none.
    """

    events: tuple[NewEvent, ...]
    entity: dict[str, Any] | None


def locate(
    view: Entities, table: Table, workspace: str, key: str, parent: Parent | None = None
) -> Entity | None:
    """The entity that a path names by id or key. Raises InvalidPrimaryKey if it names none."""
    if checks.uuid(key) is None:
        row = visible(view, table, workspace, key.lower())
    elif table.key is None:
        raise InvalidPrimaryKey()
    elif parent is not None:
        siblings = view.children(table.name, parent.field, parent.row.id)
        return next((row for row in siblings if row.entity.get(table.key) == key), None)
    else:
        row = view.find(table.name, workspace, table.key, key)
    if row is not None and parent is not None and _referred(row, parent.field) != parent.row.id:
        return None
    return row


def visible(view: Entities, table: Table, workspace: str, identity: str) -> Entity | None:
    """The entity with this id, if it can be seen from `workspace`."""
    row = view.get(table.name, identity)
    return row if row and table.scope(row.workspace) == table.scope(workspace) else None


def decide_create(view: Entities, request: Request) -> Decision:
    """POST: a new entity. The id may be sent along."""
    return _put(view, request, _args(view, request), None)


def decide_upsert(view: Entities, request: Request, key: str) -> Decision:
    """PUT: the entity at `key` is exactly what was sent, whether it existed or not."""
    table = request.table
    row = locate(view, table, request.workspace, key, request.parent)
    args = _args(view, request)
    if table.key is not None and checks.uuid(key):
        args |= {"id": row and row.id, table.key: key}
    else:
        args |= {"id": key.lower()}
    return _put(view, request, args, row)


def decide_update(view: Entities, request: Request, key: str) -> Decision:
    """PATCH: only what was sent changes, records key by key. Raises EntityNotFound."""
    table = request.table
    row = locate(view, table, request.workspace, key, request.parent)
    if row is None:
        raise EntityNotFound({"id" if checks.uuid(key) is None else table.key or "id": key})
    old = restore(table.record, row.entity, row.secrets)
    args = merged(table.record, old, _args(view, request, old)) | {"id": row.id}
    return _put(view, request, args, row)


def decide_delete(view: Entities, request: Request, key: str) -> Decision:
    """DELETE: the entity and what belongs to it. What is not there needs no deleting."""
    row = locate(view, request.table, request.workspace, key, request.parent)
    if row is None:
        return Decision((), None)
    if row.table == "workspaces":
        _refuse_occupied(view, row)
    return Decision(tuple(_deletions(view, row)), None)


def _args(
    view: Entities, request: Request, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What was sent, with types, shorthands spelt out and references by id."""
    table = request.table
    args = dict(request.args)
    if request.form:
        args = inferred(table.record, args, known)
    if table.expand:
        args = table.expand(args)
    if request.parent:
        args[request.parent.field] = {"id": request.parent.row.id}
    return _resolved(view, table, request.workspace, args)


def _put(view: Entities, request: Request, args: dict[str, Any], row: Entity | None) -> Decision:
    table = request.table
    whole = validated(table, _stamped(request, args))
    identity = whole["id"]
    if row is None and view.get(table.name, identity) is not None:
        raise PrimaryKeyViolation({"id": identity})
    whole |= {name: _hash(whole[name]) for name in _to_hash(request) if whole[name] is not None}
    _refuse_unknown(view, request, whole)
    _refuse_taken(view, request, whole)
    public, secrets = store(table.record, whole)
    event: Event = EntityCreated(entity=public, secrets=secrets)
    if row is not None:
        event = EntityUpdated(entity=public, old_entity=row.entity, secrets=secrets)
    return Decision((_config(event, f"{table.name}/{identity}"),), whole)


def _stamped(request: Request, args: dict[str, Any]) -> dict[str, Any]:
    """Ids and times that were not sent. `updated_at` is never taken from outside."""
    auto = {
        field.name: request.new_id if field.shape.kind == "string" else request.now
        for field in request.table.record.fields.values()
        if field.auto and args.get(field.name) is None
    }
    if isinstance(args.get("id"), str):
        auto["id"] = args["id"].lower()
    return args | auto | {"updated_at": request.now}


def _to_hash(request: Request) -> list[str]:
    """The hashed fields that came with this request; others are hashes already."""
    fields = request.table.record.fields.values()
    return [field.name for field in fields if field.hashed and field.name in request.args]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _resolved(view: Entities, table: Table, workspace: str, args: dict[str, Any]) -> dict[str, Any]:
    """References may name their target by a unique field instead of its id."""
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


def _refuse_unknown(view: Entities, request: Request, whole: Mapping[str, Any]) -> None:
    for field in request.table.references:
        key, foreign = whole[field.name], field.shape.foreign
        if key is None or foreign is None:
            continue
        if visible(view, TABLES[foreign.table], request.workspace, key["id"]) is None:
            raise ForeignKeyViolation.unknown(field.name, key, foreign.table)


def _refuse_taken(view: Entities, request: Request, whole: Mapping[str, Any]) -> None:
    table = request.table
    for fields in table.unique:
        key = {name: whole[name] for name in sorted(fields)}
        if all(value is None for value in key.values()):
            continue
        values = [whole[name] for name in fields]
        row = view.find_together(table.name, request.workspace, fields, values)
        if row is not None and row.id != whole["id"]:
            raise UniqueViolation(key)


def _refuse_occupied(view: Entities, row: Entity) -> None:
    if row.id == DEFAULT_WORKSPACE:
        raise BadRequest("Cannot delete default workspace")
    if not view.is_empty(row.id):
        raise BadRequest("Workspace is not empty")


def _deletions(view: Entities, row: Entity) -> Iterator[NewEvent]:
    """Owners first, so that at no position a reference leads nowhere."""
    for table in TABLES.values():
        for field in table.references:
            foreign = field.shape.foreign
            if foreign is None or foreign.table != row.table:
                continue
            for child in view.children(table.name, field.name, row.id):
                if not foreign.cascade:
                    raise ForeignKeyViolation.restricted(row.table, table.name)
                yield from _deletions(view, child)
    yield _config(EntityDeleted(entity=row.entity), row.stream)


def _config(event: Event, stream: str) -> NewEvent:
    return new_event(event, stream=stream, kind=Kind.CONFIG)


def _referred(row: Entity, field: str) -> Any:
    return row.entity.get(field, {}).get("id")

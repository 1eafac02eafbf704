"""What a write to an entity comes to: the events to append, decided from the entities as they are.

Pure: the same entities and the same request give the same decision, so it can be taken again when
configuration moved in between. Refusals are the errors of `api.responses`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from api.names import decide_names, owner_of
from api.references import refuse_taken, refuse_unknown, resolved, visible
from api.removal import deletions
from api.responses import (
    BadRequest,
    EntityNotFound,
    InvalidPrimaryKey,
    PreconditionFailed,
    PrimaryKeyViolation,
)
from api.stamping import Origin, stamped
from api.validation import inferred, merged, validated
from eventstore.codec import new_event
from eventstore.events import EntityCreated, EntityUpdated, Event
from eventstore.records import Kind, NewEvent
from projections import checks
from projections.entities import BUILT_IN, Entities, Entity
from projections.stored import restore, store
from projections.tables import DEFAULT_WORKSPACE, Table


class Parent(msgspec.Struct, frozen=True):
    """The entity under whose path a request was made, and the field that refers to it."""

    field: str
    row: Entity


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One write: what was sent, where and when.

    `digest` is what is kept of a token or password. `if_match` lists the versions that the entity
    may have, as the header of that name does.
    """

    table: Table
    workspace: str
    args: Mapping[str, Any]
    form: bool = False
    origin: Origin
    digest: Callable[[str], str]
    parent: Parent | None = None
    if_match: str | None = None


class Decision(msgspec.Struct, frozen=True):
    """`events` are to be stored together; of its table, the one about the entity itself is last.

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
    elif table.key is not None and parent is not None:
        siblings = view.children(table.name, parent.field, parent.row.id)
        return next((row for row in siblings if _value(row, table.key) == key), None)
    elif table.key is not None:
        row = view.find(table.name, workspace, table.key, key)
    elif table.names is not None:
        owner = owner_of(view, table.names, workspace, key)
        row = None if owner is None else view.get(table.name, owner)
    else:
        raise InvalidPrimaryKey()
    if row is not None and parent is not None and _referred(row, parent.field) != parent.row.id:
        return None
    return row


def etag(row: Entity) -> str:
    """The version of an entity, as the headers `ETag` and `If-Match` have it."""
    return f'"{row.version}"'


def decide_create(view: Entities, request: Request) -> Decision:
    """POST: a new entity. The id may be sent along."""
    return _put(view, request, _args(view, request), None)


def decide_upsert(view: Entities, request: Request, key: str) -> Decision:
    """PUT: the entity at `key` is exactly what was sent, whether it existed or not."""
    table = request.table
    row = locate(view, table, request.workspace, key, request.parent)
    _refuse_changed(request, row)
    args = _args(view, request)
    if checks.uuid(key) is None:
        args |= {"id": key.lower()}
    elif table.key is not None:
        args |= {"id": row and row.id, table.key: key}
    elif table.names is not None:
        args |= {"id": row.id} if row else {"id": None, table.names.field: [key]}
    return _put(view, request, args, row)


def decide_update(view: Entities, request: Request, key: str) -> Decision:
    """PATCH: only what was sent changes, records key by key. Raises EntityNotFound."""
    table = request.table
    row = locate(view, table, request.workspace, key, request.parent)
    if row is None:
        raise EntityNotFound({"id" if checks.uuid(key) is None else table.key or "id": key})
    _refuse_changed(request, row)
    old = restore(table.record, row.entity, row.secrets)
    args = merged(table.record, old, _args(view, request, old)) | {"id": row.id}
    return _put(view, request, args, row)


def decide_delete(view: Entities, request: Request, key: str) -> Decision:
    """DELETE: the entity and what belongs to it. What is not there needs no deleting."""
    row = locate(view, request.table, request.workspace, key, request.parent)
    _refuse_changed(request, row)
    if row is None:
        return Decision((), None)
    if row.table == "workspaces":
        _refuse_occupied(view, row)
    refuse_default(row)
    return Decision(tuple(deletions(view, row)), None)


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
    return resolved(view, table, request.workspace, args)


def _put(view: Entities, request: Request, args: dict[str, Any], row: Entity | None) -> Decision:
    table = request.table
    whole = validated(table, stamped(table.record, args, request.origin))
    identity = whole["id"]
    refuse_default(row)
    if row is None and view.get(table.name, identity) is not None:
        raise PrimaryKeyViolation({"id": identity})
    whole |= {
        name: request.digest(whole[name]) for name in _to_hash(request) if whole[name] is not None
    }
    refuse_unknown(view, table, request.workspace, whole)
    refuse_taken(view, table, request.workspace, whole)
    public, secrets = store(table.record, whole)
    event: Event = EntityCreated(entity=public, secrets=secrets)
    if row is not None:
        event = EntityUpdated(entity=public, old_entity=row.entity, secrets=secrets)
    beside = decide_names(view, table, request.workspace, whole, request.origin)
    return Decision((_config(event, f"{table.name}/{identity}"), *beside), whole)


def _to_hash(request: Request) -> list[str]:
    """The hashed fields that came with this request; others are hashes already."""
    fields = request.table.record.fields.values()
    return [field.name for field in fields if field.hashed and field.name in request.args]


def _refuse_changed(request: Request, row: Entity | None) -> None:
    """Whoever names a version wants to change that version and no other."""
    if request.if_match is None:
        return
    wanted = {version.strip() for version in request.if_match.split(",")}
    if row is None:
        raise PreconditionFailed("there is no such entity")
    if wanted.isdisjoint({"*", etag(row)}):
        raise PreconditionFailed(f"the entity has changed: its version is {etag(row)}")


def _refuse_occupied(view: Entities, row: Entity) -> None:
    if row.id == DEFAULT_WORKSPACE:
        raise BadRequest("Cannot delete default workspace")
    if not view.is_empty(row.id):
        raise BadRequest("Workspace is not empty")


def refuse_default(row: Entity | None) -> None:
    """Without the default roles nobody could be made super-admin again."""
    if row is not None and row.table != "workspaces" and row.stream in BUILT_IN:
        raise BadRequest("a default role cannot be changed or deleted")


def _config(event: Event, stream: str) -> NewEvent:
    return new_event(event, stream=stream, kind=Kind.CONFIG)


def _value(row: Entity, field: str) -> Any:
    return row.entity.get(field, row.secrets.get(field))


def _referred(row: Entity, field: str) -> Any:
    return row.entity.get(field, {}).get("id")

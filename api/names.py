"""The shorthand of a list of names, like the `snis` of a certificate: entities made and deleted.

Pure: decided from the entities as they are, together with the entity that the names belong to.
"""

from collections.abc import Mapping
from typing import Any

from api.responses import SchemaViolation
from api.stamping import Origin, stamped
from api.validation import validated
from eventstore.codec import new_event
from eventstore.events import EntityCreated, EntityDeleted, Event
from eventstore.records import Kind, NewEvent
from projections.entities import Entities, Entity
from projections.stored import store
from projections.tables import TABLES, Names, Table


def listed(view: Entities, names: Names, owner: str) -> list[str]:
    """The names of the entity `owner`, in order."""
    return sorted(_present(view, names, owner))


def owner_of(view: Entities, names: Names, workspace: str, name: str) -> str | None:
    """The id of the entity that has this name."""
    row = view.find(names.table, workspace, names.name, name)
    return None if row is None else row.entity.get(names.by, {}).get("id")


def decide_names(
    view: Entities, table: Table, workspace: str, entity: Mapping[str, Any], origin: Origin
) -> list[NewEvent]:
    """The events after which `entity` has exactly the names that it lists; none without a list.

    Raises SchemaViolation for a name that another entity has.
    """
    names = table.names
    if names is None or entity[names.field] is None:
        return []
    owner, wanted = entity["id"], entity[names.field]
    present = _present(view, names, owner)
    for name in wanted:
        other = owner_of(view, names, workspace, name)
        if other not in (None, owner):
            text = f"{name} already associated with existing {names.by} '{other}'"
            raise SchemaViolation({names.field: text})
    gone = [row for name, row in present.items() if name not in wanted]
    made = [name for name in wanted if name not in present]
    return [
        *(_event(EntityDeleted(entity=row.entity), row.stream) for row in gone),
        *(_created(names, owner, name, origin) for name in made),
    ]


def _created(names: Names, owner: str, name: str, origin: Origin) -> NewEvent:
    table = TABLES[names.table]
    args: Mapping[str, Any] = {names.name: name, names.by: {"id": owner}}
    whole = validated(table, stamped(table.record, args, origin, f"{names.table}\0{name}"))
    public, secrets = store(table.record, whole)
    event = EntityCreated(entity=public, secrets=secrets)
    return _event(event, f"{names.table}/{whole['id']}")


def _present(view: Entities, names: Names, owner: str) -> dict[str, Entity]:
    rows = view.children(names.table, names.by, owner)
    return {row.entity.get(names.name, row.id): row for row in rows}


def _event(event: Event, stream: str) -> NewEvent:
    return new_event(event, stream=stream, kind=Kind.CONFIG)

"""What has to go with an entity. Pure: decided from the entities as they are."""

from collections.abc import Iterable, Iterator

from api.responses import ForeignKeyViolation
from eventstore.codec import new_event
from eventstore.events import EntityDeleted
from eventstore.records import Kind, NewEvent
from projections.entities import Entities, Entity
from projections.tables import TABLES


def deletions(view: Entities, row: Entity) -> list[NewEvent]:
    """The events after which `row` and what belongs to it are gone, its own last.

    Owners come first, so that at no position a reference leads nowhere. Raises
    ForeignKeyViolation when something refers to one of them that does not belong to it.
    """
    return [
        new_event(EntityDeleted(entity=each.entity), stream=each.stream, kind=Kind.CONFIG)
        for each in _owners_first(view, [row], set())
    ]


def _owners_first(view: Entities, rows: Iterable[Entity], seen: set[str]) -> Iterator[Entity]:
    """Every row once, behind all that refer to it."""
    for row in rows:
        if row.stream not in seen:
            seen.add(row.stream)
            yield from _owners_first(view, _referring(view, row), seen)
            yield row


def _referring(view: Entities, row: Entity) -> Iterator[Entity]:
    for table in TABLES.values():
        for field in table.references:
            foreign = field.shape.foreign
            if foreign is None or foreign.table != row.table:
                continue
            found = view.children(table.name, field.name, row.id)
            if found and not foreign.cascade:
                raise ForeignKeyViolation.restricted(row.table, table.name)
            yield from found

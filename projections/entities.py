"""All entities as they are now, with the indexes that names, references and pages need.

Promises: `evolve` is pure and defined for erased bodies, after which an entity is known by its id
alone; a value that is unique in its scope is found without a search.
"""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from eventstore.codec import decode
from eventstore.events import EntityCreated, EntityUpdated
from eventstore.records import NO_STREAM, Kind, RecordedEvent

from . import built_in
from .model import Changes
from .tables import DEFAULT_WORKSPACE, TABLES, Table

Places = set[tuple[str, str]]

_MANY: Final = 32  #: from how many additions on sorting once is cheaper


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """One entity as stored: `entity` without nulls and secrets, `secrets` by dotted path.

    `version` is that of its stream, `seq` the position of the event that made it so.
    """

    table: str
    id: str
    workspace: str
    entity: dict[str, Any]
    secrets: dict[str, Any] = {}
    version: int
    seq: int

    @property
    def stream(self) -> str:
        return f"{self.table}/{self.id}"

    @property
    def kind(self) -> Table:
        return TABLES[self.table]


BUILT_IN: Final = {
    stream: Entity(
        table=stream.partition("/")[0],
        id=entity["id"],
        workspace=DEFAULT_WORKSPACE,
        entity=entity,
        version=NO_STREAM,
        seq=0,
    )
    for stream, entity in built_in.ENTITIES.items()
}
"""The default workspace and the default roles exist although no event created them."""


def evolve(event: RecordedEvent) -> dict[str, Entity | None]:
    """The entity that `event` changes, by its stream; None when it is deleted."""
    table, _, identity = event.stream.partition("/")
    if event.kind != Kind.CONFIG or table not in TABLES:
        return {}
    if event.type == "entity_deleted":
        return {event.stream: None}
    body = decode(event)
    known = body if isinstance(body, EntityCreated | EntityUpdated) else None
    return {
        event.stream: Entity(
            table=table,
            id=identity,
            workspace=event.workspace,
            entity=known.entity if known else {"id": identity},
            secrets=known.secrets if known else {},
            version=event.version,
            seq=event.seq,
        )
    }


class Entities:
    """The view in memory. `apply` alone changes it, and keeps the indexes in step."""

    name = "entities"
    version = 1
    item = Entity
    resident = True

    def __init__(self) -> None:
        #: grows with every change, so that what was worked out before can be thrown away
        self.revision = 0
        self.clear()

    def clear(self) -> None:
        self._items: dict[str, Entity] = {}
        # by table and workspace; workspace "" holds those of all of them
        self._ids: defaultdict[tuple[str, str], _Ids] = defaultdict(_Ids)
        # the id that has a value, by table, scope, fields and value
        self._unique: dict[tuple[Any, ...], str] = {}
        # streams of the entities that refer to an id, by table, field and that id
        self._children: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.apply(BUILT_IN)

    def evolve(self, event: RecordedEvent) -> dict[str, Entity | None]:
        return evolve(event)

    def key(self, event: RecordedEvent) -> str:
        return event.stream

    def erase(self, event: RecordedEvent, found: object) -> dict[str, Entity | None]:
        row = self._items.get(event.stream)
        return evolve(event) if row is not None and row.seq == event.seq else {}

    def apply(self, changes: Changes) -> None:
        self.revision += 1
        for stream, new in changes.items():
            old = self._items.pop(stream, None)
            if old is not None:
                self._forget(old, _places(new))
            if new is not None:
                self._items[stream] = new
                self._remember(new, _places(old))

    def get(self, table: str, identity: str) -> Entity | None:
        return self._items.get(f"{table}/{identity}")

    def find(self, table: str, workspace: str, field: str, value: Any) -> Entity | None:
        """The entity whose unique `field` has this value, as seen from `workspace`."""
        return self.find_together(table, workspace, (field,), (value,))

    def find_together(
        self, table: str, workspace: str, fields: tuple[str, ...], values: Iterable[Any]
    ) -> Entity | None:
        """The same for fields that are unique in combination."""
        scope = TABLES[table].unique_scope(fields, workspace)
        identity = self._unique.get((table, scope, fields, tuple(map(_plain, values))))
        return None if identity is None else self.get(table, identity)

    def page(
        self,
        table: str,
        workspace: str,
        *,
        after: str = "",
        size: int,
        match: Callable[[Entity], bool] | None = None,
    ) -> tuple[list[Entity], bool]:
        """Up to `size` entities that match, in order of their ids, and whether there are more.

        `workspace` "" stands for all of them.
        """
        rows = self.each(table, workspace, after)
        return _cut(filter(match, rows) if match else rows, size)

    def each(self, table: str, workspace: str, after: str = "") -> Iterator[Entity]:
        """Those with ids beyond `after`, in order of their ids; none may change meanwhile."""
        ids = self._ids[table, workspace].after(after)
        return (self._items[f"{table}/{identity}"] for identity in ids)

    def count(self, table: str, workspace: str) -> int:
        """How many entities of `table` belong to `workspace`."""
        return len(self._ids[table, workspace])

    def children(self, table: str, field: str, identity: str) -> list[Entity]:
        """The entities of `table` whose `field` refers to `identity`, in order of their ids."""
        streams = self._children.get((table, field, identity), ())
        return [self._items[stream] for stream in sorted(streams)]

    def workspace(self, name_or_id: str) -> str | None:
        """The id of a workspace; None if there is none of that name or id."""
        table = "workspaces"
        row = self.get(table, name_or_id.lower()) or self.find(table, "", "name", name_or_id)
        return None if row is None else row.id

    def is_empty(self, workspace: str) -> bool:
        """Whether no entity belongs to `workspace`."""
        tables = (table.name for table in TABLES.values() if table.scoped)
        return not any(self.page(table, workspace, size=1)[0] for table in tables)

    def _remember(self, row: Entity, places: Places) -> None:
        """Put `row` into the indexes; into the lists of `places` its id has been put before."""
        for place in _places(row) - places:
            self._ids[place].add(row.id)
        for key in _unique_keys(row):
            self._unique[key] = row.id
        for key in _parents(row):
            self._children[key].add(row.stream)

    def _forget(self, row: Entity, places: Places) -> None:
        """Take `row` out of the indexes; in the lists of `places` its id stays."""
        for place in _places(row) - places:
            self._ids[place].discard(row.id)
        for key in _unique_keys(row):
            if self._unique.get(key) == row.id:
                del self._unique[key]
        for key in _parents(row):
            self._children[key].discard(row.stream)
            if not self._children[key]:
                del self._children[key]


class _Ids:
    """Ids in order. Additions wait until the order is asked for: a replay asks for it once."""

    def __init__(self) -> None:
        self._ordered: list[str] = []
        self._added: list[str] = []

    def add(self, identity: str) -> None:
        self._added.append(identity)

    def discard(self, identity: str) -> None:
        ids = self._settled()
        del ids[bisect_left(ids, identity)]

    def __len__(self) -> int:
        return len(self._ordered) + len(self._added)

    def after(self, identity: str) -> Iterator[str]:
        ids = self._settled()
        return (ids[place] for place in range(bisect_right(ids, identity), len(ids)))

    def _settled(self) -> list[str]:
        if len(self._added) < _MANY:
            for identity in self._added:
                insort(self._ordered, identity)
        else:
            self._ordered.extend(self._added)
            self._ordered.sort()
        self._added.clear()
        return self._ordered


def _places(row: Entity | None) -> Places:
    """The table and workspaces in whose lists of ids `row` is."""
    if row is None:
        return set()
    return {(row.table, ""), (row.table, row.kind.scope(row.workspace))}


def _unique_keys(row: Entity) -> Iterator[tuple[Any, ...]]:
    for fields in row.kind.unique:
        scope = row.kind.unique_scope(fields, row.workspace)
        values = tuple(_plain(row.entity.get(f, row.secrets.get(f))) for f in fields)
        if any(value is not None for value in values):
            yield row.table, scope, fields, values


def _parents(row: Entity) -> Iterator[tuple[str, str, str]]:
    for field in row.kind.references:
        if target := row.entity.get(field.name):
            yield row.table, field.name, target["id"]


def _plain(value: Any) -> Any:
    """A value as a key: of a reference, its id."""
    return value["id"] if isinstance(value, dict) else value


def _cut(rows: Iterable[Entity], size: int) -> tuple[list[Entity], bool]:
    page = list(islice(rows, size + 1))
    return page[:size], len(page) > size

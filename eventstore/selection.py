"""Which events an audit is about."""

from collections.abc import Collection
from typing import Any

import msgspec

from eventstore.events import DELIVERIES_PREFIX, HOOKS_PREFIX
from eventstore.records import Kind


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """All that is set must be true of an event. `last` and `until_us` are inclusive.

    `entity` is a table or `<table>/<id>`; `hook` means the hook's own changes and its deliveries.
    Times are the log's own, in microseconds.
    """

    first: int | None = None
    last: int | None = None
    workspace: str | None = None
    actor: str | None = None
    hook: str | None = None
    entity: str | None = None
    kinds: Collection[Kind] = ()
    since_us: int | None = None
    until_us: int | None = None

    @property
    def filters(self) -> dict[str, Any]:
        """What was set beside the range, for a manifest."""
        values = {name: getattr(self, name) for name in self.__struct_fields__[2:]}
        values["kinds"] = sorted(kind.name.lower() for kind in self.kinds)
        return {name: value for name, value in values.items() if value not in (None, [])}

    def where(self) -> tuple[str, list[Any]]:
        """As an SQL condition with its values; empty when every event is meant."""
        conditions: list[tuple[str, list[Any]]] = []
        if self.workspace is not None:
            conditions.append(("workspace = ?", [self.workspace]))
        if self.actor is not None:
            conditions.append(("actor = ?", [self.actor]))
        if self.hook is not None:
            streams = [HOOKS_PREFIX + self.hook, DELIVERIES_PREFIX + self.hook]
            conditions.append(("stream IN (?, ?)", streams))
        if self.entity is not None:
            conditions.append(_of_entity(self.entity))
        if self.kinds:
            marks = ", ".join("?" * len(self.kinds))
            conditions.append((f"kind IN ({marks})", [int(kind) for kind in self.kinds]))
        if self.since_us is not None:
            conditions.append(("time_us >= ?", [self.since_us]))
        if self.until_us is not None:
            conditions.append(("time_us <= ?", [self.until_us]))
        return (
            " AND ".join(condition for condition, _ in conditions),
            [value for _, values in conditions for value in values],
        )


def _of_entity(entity: str) -> tuple[str, list[Any]]:
    config = f"kind = {int(Kind.CONFIG)}"
    if "/" in entity:
        return f"{config} AND stream = ?", [entity]
    return f"{config} AND substr(stream, 1, ?) = ?", [len(entity) + 1, f"{entity}/"]

"""What a table of entities is; `gateway`, `credentials` and `administration` declare them all.

Adding an entity is adding one Struct there. Fields, defaults and conditions are Kong's; what each
mark means is said in `fields`. The `table` decorator says what holds for an entity as a whole.
Everything else, from the endpoints and their errors to cascading deletes and the indexes of the
read model, follows from here.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Final, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec

from .checks import EntityCheck
from .fields import AUTO, Field, Record, Variant, compile_record
from .typedefs import AutoTimestamp, Uuid

DEFAULT_WORKSPACE: Final = str(uuid5(NAMESPACE_URL, "hooktape:workspaces/default"))
"""Requests without a workspace prefix are about this one. It is there from the start."""


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The texts in field `field` are the `name`s of entities of `table` that refer to this one.

    `by` is the field that refers. Each of the texts also stands for the id in a path.
    """

    field: str
    table: str
    name: str
    by: str


class Table(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One kind of entity. `name` is that of its streams and of its crud events.

    `key` is a field that may stand for the id in a path, `search` one that a list can be asked for.
    `scoped` entities belong to a workspace, the others to all of them. No two entities have the
    same values in all fields of `together`, nulls included.
    `expand` turns shorthands into fields before the validation, `derive` computes fields after it.
    `wrapped` is the name under which the answer to a POST holds the entity, with status 200;
    `shown_as` the same for the answer to a GET of one entity.
    `nested` replaces `path` below the entities that it refers to. Without `endpoints` the table is
    only reached through endpoints of others. `names` are a shorthand in its fields and answers.
    """

    name: str
    path: str
    record: Record
    nested: str | None = None
    endpoints: bool = True
    shown_as: str | None = None
    names: Names | None = None
    key: str | None = None
    search: str | None = None
    scoped: bool = True
    together: tuple[str, ...] = ()
    checks: tuple[EntityCheck, ...] = ()
    expand: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    derive: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    wrapped: str | None = None

    def scope(self, workspace: str) -> str:
        """Within what its unique values are unique: a workspace, or "" for everywhere."""
        return workspace if self.scoped else ""

    def unique_scope(self, fields: tuple[str, ...], workspace: str) -> str:
        """The same for the values of these fields alone."""
        everywhere = all(self.record.fields[name].everywhere for name in fields)
        return "" if everywhere else self.scope(workspace)

    @cached_property
    def unique(self) -> list[tuple[str, ...]]:
        """The fields, and the combinations of fields, whose values no two entities share."""
        fields = self.record.fields.values()
        combinations = [(field.name,) for field in fields if field.unique]
        return [*combinations, *filter(None, [self.together])]

    @cached_property
    def references(self) -> list[Field]:
        """The fields that refer to another entity."""
        return [field for field in self.record.fields.values() if field.shape.foreign]


TABLES: Final[dict[str, Table]] = {}
"""By name, in order of declaration."""

S = TypeVar("S", bound=type[msgspec.Struct])


def table(
    name: str, *, path: str | None = None, variant: Variant | None = None, **options: Any
) -> Callable[[S], S]:
    """Enter the decorated Struct into `TABLES`. `options` are fields of `Table`."""

    def enter(struct: S) -> S:
        record = compile_record(struct, variant)
        TABLES[name] = Table(name=name, path=path or name, record=record, **options)
        return struct

    return enter


class Dated(msgspec.Struct, kw_only=True):
    """What every entity has."""

    id: Annotated[Uuid, AUTO]
    created_at: AutoTimestamp


class Entity(Dated, kw_only=True):
    """What most entities have."""

    updated_at: AutoTimestamp

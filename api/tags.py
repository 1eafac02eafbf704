"""`/tags`: which entities have which tags, over all tables."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.pages import after, following
from api.queries import page_size
from api.references import visible
from api.responses import Json
from api.routing import route
from api.visibility import sees_table
from projections.entities import Entities, Entity
from projections.tables import TABLES, Table


class Tagged(msgspec.Struct, frozen=True, order=True):
    """One tag of one entity. They are listed in this order."""

    entity_name: str
    entity_id: str
    tag: str


class TagEndpoints:
    """Tags of the workspace of the path."""

    def __init__(self, view: Entities) -> None:
        self._view = view

    def routes(self) -> list[Route]:
        return [route("/tags", GET=self.list), route("/tags/{tag}", GET=self.list)]

    async def list(self, http: Request) -> Response:
        """All tags, or the entities that have the one of the path."""
        size = page_size(http)
        start = after(http, tuple[str, str, str], ("", "", ""))
        tables = [TABLES[name] for name in sorted(TABLES)]
        seen = [table for table in tables if sees_table(http.scope, table)]
        rows = self._tagged(seen, http.state.workspace, http.path_params.get("tag"), Tagged(*start))
        page = list(islice(rows, size + 1))
        answer: dict[str, Any] = {"data": page[:size], "next": None}
        if len(page) > size:
            answer |= following(http, msgspec.structs.astuple(page[size - 1]))
        return Json(answer)

    def _tagged(
        self, tables: Sequence[Table], workspace: str, tag: str | None, start: Tagged
    ) -> Iterator[Tagged]:
        """Everything behind `start`, which need not be there any more."""
        for table in tables:
            if table.name < start.entity_name or "tags" not in table.record.fields:
                continue
            for row in self._rows(table, workspace, start):
                tags = sorted(row.entity.get("tags", ()))
                found = (Tagged(table.name, row.id, each) for each in tags if tag in (None, each))
                yield from (each for each in found if each > start)

    def _rows(self, table: Table, workspace: str, start: Tagged) -> Iterator[Entity]:
        """The entities from that of `start` on, if it is of this table, or else all."""
        first = start.entity_id if table.name == start.entity_name else ""
        row = visible(self._view, table, workspace, first)
        if row is not None:
            yield row
        yield from self._view.each(table.name, table.scope(workspace), after=first)

"""The endpoints of all entities, made from the table of entities.

/{path}                               GET POST
/{path}/{key}                         GET PUT PATCH DELETE
/{parent}/{key}/{path}[/{key}]        the same, for entities that refer to a parent
/{path}/{key}/{field}                 GET PUT PATCH DELETE, for what an entity refers to
"""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin, Circumstances, Examine
from api.bodies import Body, idempotency, read_body
from api.commands import (
    Decision,
    Parent,
    Request,
    decide_create,
    decide_delete,
    decide_update,
    decide_upsert,
    etag,
    locate,
)
from api.names import listed
from api.pages import after, following
from api.queries import Match, page_size, tag_filter
from api.responses import Json, NotFound
from api.routing import route
from api.submission import made_up
from projections.entities import Entities, Entity
from projections.stored import shown
from projections.tables import TABLES, Table


def entity_routes(admin: Admin) -> list[Route]:
    """The routes of every table that has any."""
    tables = [table for table in TABLES.values() if table.endpoints]
    return [made for table in tables for made in table_routes(admin, table)]


def table_routes(admin: Admin, table: Table) -> list[Route]:
    """The routes of one table: its own, those under its parents, and those of its parents."""
    made = Endpoints(admin, table).routes()
    for field in table.references:
        if field.shape.foreign is None:
            continue
        parent = TABLES[field.shape.foreign.table]
        made += Endpoints(admin, table, nested=Nested(field.name, parent)).routes()
        made.append(Endpoints(admin, parent, referred=Referred(field.name, table)).item_route())
    return made


def present(view: Entities, row: Entity) -> dict[str, Any]:
    """What the Admin API shows of an entity."""
    whole, names = shown(row.kind.record, row.entity, row.secrets), row.kind.names
    return whole if names is None else whole | {names.field: listed(view, names, row.id)}


class Nested(msgspec.Struct, frozen=True):
    """Paths under a parent: the field that refers to it, and its table."""

    field: str
    table: Table


class Referred(msgspec.Struct, frozen=True):
    """The path under an entity of `table` of what its `field` refers to."""

    field: str
    table: Table


class Subject(msgspec.Struct, frozen=True):
    """What endpoints are about: the entities of a table, all or some of them."""

    table: Table
    nested: Nested | None
    referred: Referred | None


class Endpoints:
    """The endpoints of one table. `examine` sees every entity before it is stored."""

    def __init__(
        self,
        admin: Admin,
        table: Table,
        *,
        nested: Nested | None = None,
        referred: Referred | None = None,
        examine: Examine | None = None,
    ) -> None:
        self._admin = admin
        self._table = table
        self._nested = nested
        self._referred = referred
        self._examine = examine

    @property
    def subject(self) -> Subject:
        return Subject(self._table, self._nested, self._referred)

    def routes(self) -> list[Route]:
        return [route(self._path(), GET=self.list, POST=self.create), self.item_route()]

    def item_route(self) -> Route:
        """The route of one entity."""
        path = f"{self._path()}/{{{self._table.name}}}"
        if self._referred is not None:
            path = f"{item_path(self._referred.table)}/{self._referred.field}"
        return route(path, GET=self.show, PUT=self.upsert, PATCH=self.update, DELETE=self.delete)

    async def list(self, http: HttpRequest) -> Response:
        """One page, in order of ids."""
        size, match = page_size(http), self._match(http)
        (start,) = after(http, tuple[str], ("",))
        parent = self._parent(http)
        view, table = self._admin.view, self._table
        if parent is None:
            scope = table.scope(http.state.workspace)
            rows, more = view.page(table.name, scope, after=start, size=size, match=match)
        else:
            rows, more = _page_of_children(view, table, parent, start, size, match)
        answer: dict[str, Any] = {"data": [present(view, row) for row in rows], "next": None}
        if more:
            answer |= following(http, [rows[-1].id])
        return Json(answer)

    async def create(self, http: HttpRequest) -> Response:
        row = await self._write(http, decide_create)
        wrapped = self._table.wrapped
        return self._answer(row, 200, wrapped) if wrapped else self._answer(row, 201)

    async def show(self, http: HttpRequest) -> Response:
        return self._answer(self.find(http), wrapped=self._table.shown_as)

    async def upsert(self, http: HttpRequest) -> Response:
        return self._answer(await self._write(http, decide_upsert, self._key))

    async def update(self, http: HttpRequest) -> Response:
        return self._answer(await self._write(http, decide_update, self._key))

    async def delete(self, http: HttpRequest) -> Response:
        await self._write(http, decide_delete, self._key)
        return Response(status_code=204)

    def find(self, http: HttpRequest) -> Entity:
        """The entity that the path names. Raises NotFound."""
        workspace, parent = http.state.workspace, self._parent(http)
        row = locate(self._admin.view, self._table, workspace, self._key(http), parent)
        if row is None:
            raise NotFound
        return row

    async def _write(
        self,
        http: HttpRequest,
        decide: Callable[..., Decision],
        *keys: Callable[[HttpRequest], str],
    ) -> Entity | None:
        body = await read_body(http)
        origin = made_up(self._admin)

        def decided() -> Decision:
            request = Request(
                table=self._table,
                workspace=http.state.workspace,
                args=body.args,
                form=body.form,
                origin=origin,
                digest=self._admin.digest,
                parent=self._parent(http),
                if_match=http.headers.get("if-match"),
            )
            return decide(self._admin.view, request, *(key(http) for key in keys))

        return await self._admin.write(
            decided, circumstances(http, body), self._table.name, self._examine
        )

    def _answer(self, row: Entity | None, status: int = 200, wrapped: str | None = None) -> Json:
        if row is None:  # only a deletion leaves none
            raise AssertionError("unreachable")
        entity = present(self._admin.view, row)
        return Json({wrapped: entity} if wrapped else entity, status, [("etag", etag(row))])

    def _match(self, http: HttpRequest) -> Match | None:
        """What the query asks for: tags, or the value that a table is searched by."""
        name = self._table.search or ""
        given = http.query_params.get(name)
        if not name or given is None:
            return tag_filter(http, self._table)
        return lambda row: row.entity.get(name) == given

    def _path(self) -> str:
        if self._nested is None:
            return f"/{self._table.path}"
        return f"{item_path(self._nested.table)}/{self._table.nested or self._table.path}"

    def _parent(self, http: HttpRequest) -> Parent | None:
        if self._nested is None:
            return None
        return Parent(self._nested.field, found(self._admin.view, self._nested.table, http))

    def _key(self, http: HttpRequest) -> str:
        if self._referred is None:
            key: str = http.path_params[self._table.name]
            return key
        row = found(self._admin.view, self._referred.table, http)
        if self._referred.field not in row.entity:
            raise NotFound
        identity: str = row.entity[self._referred.field]["id"]
        return identity


def item_path(table: Table) -> str:
    """The path of one entity; the parameter has the name of the table, as in Kong."""
    return f"/{table.path}/{{{table.name}}}"


def found(view: Entities, table: Table, http: HttpRequest) -> Entity:
    """The entity of `table` that the path names. Raises NotFound."""
    row = locate(view, table, http.state.workspace, http.path_params[table.name])
    if row is None:
        raise NotFound
    return row


def circumstances(http: HttpRequest, body: Body) -> Circumstances:
    """What the front door found out about a write."""
    return Circumstances(
        workspace=http.state.workspace,
        actor=http.state.actor,
        request_id=http.state.request_id,
        idempotency=idempotency(http, body.digest),
    )


def _page_of_children(
    view: Entities,
    table: Table,
    parent: Parent,
    after: str,
    size: int,
    match: Match | None,
) -> tuple[list[Entity], bool]:
    rows = view.children(table.name, parent.field, parent.row.id)
    rows = [row for row in rows if row.id > after and (match is None or match(row))]
    return rows[:size], len(rows) > size

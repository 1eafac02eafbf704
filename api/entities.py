"""The endpoints of all entities, made from the table of entities.

/{path}                               GET POST
/{path}/{key}                         GET PUT PATCH DELETE
/{parent}/{key}/{path}[/{key}]        the same, for entities that refer to a parent
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

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
    locate,
)
from api.queries import page_size
from api.responses import InvalidOffset, InvalidOption, Json, NotFound
from api.routing import route
from projections.entities import Entities, Entity
from projections.stored import shown
from projections.tables import TABLES, Table

_MOST_TAGS = 5


def entity_routes(
    admin: Admin, *, without: frozenset[str] = frozenset({"event_hooks"})
) -> list[Route]:
    """The routes of every table but those named, nested ones first."""
    tables = [table for table in TABLES.values() if table.name not in without]
    nested = [
        made
        for table in tables
        for field in table.references
        if field.shape.foreign
        for made in Endpoints(
            admin, table, nested=Nested(field.name, TABLES[field.shape.foreign.table])
        ).routes()
    ]
    return [*nested, *(made for table in tables for made in Endpoints(admin, table).routes())]


def present(row: Entity) -> dict[str, Any]:
    """What the Admin API shows of an entity."""
    return shown(row.kind.record, row.entity, row.secrets)


class Nested(msgspec.Struct, frozen=True):
    """Paths under a parent: the field that refers to it, and its table."""

    field: str
    table: Table


class Endpoints:
    """The endpoints of one table. `examine` sees every entity before it is stored."""

    def __init__(
        self,
        admin: Admin,
        table: Table,
        *,
        nested: Nested | None = None,
        examine: Examine | None = None,
    ) -> None:
        self._admin = admin
        self._table = table
        self._nested = nested
        self._examine = examine

    def routes(self) -> list[Route]:
        prefix = f"/{self._nested.table.path}/{{parent}}" if self._nested else ""
        path = f"{prefix}/{self._table.path}"
        return [
            route(path, GET=self.list, POST=self.create),
            route(
                f"{path}/{{key}}",
                GET=self.show,
                PUT=self.upsert,
                PATCH=self.update,
                DELETE=self.delete,
            ),
        ]

    async def list(self, http: HttpRequest) -> Response:
        """One page, in order of ids."""
        size, after, match = page_size(http), _offset(http), _tags(http, self._table)
        parent = self._parent(http)
        view, table = self._admin.view, self._table
        if parent is None:
            scope = table.scope(http.state.workspace)
            rows, more = view.page(table.name, scope, after=after, size=size, match=match)
        else:
            rows, more = _page_of_children(view, table, parent, after, size, match)
        answer: dict[str, Any] = {"data": [present(row) for row in rows], "next": None}
        if more:
            offset = base64.b64encode(msgspec.json.encode([rows[-1].id])).decode()
            answer |= {"offset": offset, "next": _next(http, offset)}
        return Json(answer)

    async def create(self, http: HttpRequest) -> Response:
        row = await self._write(http, decide_create)
        wrapped = self._table.wrapped
        return Json({wrapped: _shown(row)}, 200) if wrapped else Json(_shown(row), 201)

    async def show(self, http: HttpRequest) -> Response:
        return Json(present(self.find(http)))

    async def upsert(self, http: HttpRequest) -> Response:
        return Json(_shown(await self._write(http, decide_upsert, self._key(http))))

    async def update(self, http: HttpRequest) -> Response:
        return Json(_shown(await self._write(http, decide_update, self._key(http))))

    async def delete(self, http: HttpRequest) -> Response:
        await self._write(http, decide_delete, self._key(http))
        return Response(status_code=204)

    def find(self, http: HttpRequest) -> Entity:
        """The entity that the path names. Raises NotFound."""
        workspace, parent = http.state.workspace, self._parent(http)
        row = locate(self._admin.view, self._table, workspace, self._key(http), parent)
        if row is None:
            raise NotFound
        return row

    async def _write(
        self, http: HttpRequest, decide: Callable[..., Decision], *key: str
    ) -> Entity | None:
        body = await read_body(http)
        new_id, now = str(uuid4()), int(self._admin.clock())

        def decided() -> Decision:
            request = Request(
                table=self._table,
                workspace=http.state.workspace,
                args=body.args,
                form=body.form,
                now=now,
                new_id=new_id,
                parent=self._parent(http),
            )
            return decide(self._admin.view, request, *key)

        return await self._admin.write(decided, circumstances(http, body), self._examine)

    def _parent(self, http: HttpRequest) -> Parent | None:
        if self._nested is None:
            return None
        table, key = self._nested.table, http.path_params["parent"]
        row = locate(self._admin.view, table, http.state.workspace, key)
        if row is None:
            raise NotFound
        return Parent(self._nested.field, row)

    def _key(self, http: HttpRequest) -> str:
        key: str = http.path_params["key"]
        return key


def circumstances(http: HttpRequest, body: Body) -> Circumstances:
    """What the front door found out about a write."""
    return Circumstances(
        workspace=http.state.workspace,
        actor=http.state.actor,
        request_id=http.state.request_id,
        idempotency=idempotency(http, body.digest),
    )


def _shown(row: Entity | None) -> dict[str, Any]:
    if row is None:  # only a deletion leaves none
        raise AssertionError("unreachable")
    return present(row)


def _page_of_children(
    view: Entities,
    table: Table,
    parent: Parent,
    after: str,
    size: int,
    match: Callable[[Entity], bool] | None,
) -> tuple[list[Entity], bool]:
    rows = view.children(table.name, parent.field, parent.row.id)
    rows = [row for row in rows if row.id > after and (match is None or match(row))]
    return rows[:size], len(rows) > size


def _offset(http: HttpRequest) -> str:
    """The id after which a page starts. Raises InvalidOffset."""
    given = http.query_params.get("offset")
    if given is None:
        return ""
    try:
        raw = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidOffset(given, "bad base64 encoding") from error
    try:
        (after,) = msgspec.json.decode(raw, type=tuple[str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidOffset(given, "bad json encoding") from error
    return after


def _next(http: HttpRequest, offset: str) -> str:
    """The path of the next page: Kong's order of parameters, and no host."""
    path = f"{http.state.prefix}{quote(http.scope['path'])}?offset={quote(offset, safe='')}"
    for name in ("tags", "size"):
        if value := http.query_params.get(name):
            path += f"&{name}={quote(value, safe='')}"
    return path


def _tags(http: HttpRequest, table: Table) -> Callable[[Entity], bool] | None:
    """`?tags=a,b` asks for both, `a/b` for either. Raises InvalidOption."""
    given = http.query_params.get("tags")
    if given is None:
        return None
    if "tags" not in table.record.fields:
        raise InvalidOption({"tags": f"cannot be used with '{table.name}'"})
    if not given:
        raise InvalidOption({"tags": "cannot be null"})
    separator = "/" if "/" in given else ","
    wanted = set(given.split(separator))
    if "" in wanted or (separator == "/" and "," in given):
        raise InvalidOption({"tags": "invalid filter syntax"})
    if len(wanted) > _MOST_TAGS:
        raise InvalidOption({"tags": f"cannot query more than {_MOST_TAGS} tags"})
    if separator == "/":
        return lambda row: not wanted.isdisjoint(row.entity.get("tags", ()))
    return lambda row: wanted.issubset(row.entity.get("tags", ()))

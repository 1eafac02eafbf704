"""Who belongs to which group of consumers.

GET POST DELETE  /consumer_groups/{g}/consumers        POST consumer=<name or id>
GET POST DELETE  /consumers/{c}/consumer_groups        POST group=<name or id>
DELETE           either of them with the other's name or id behind it
"""

from typing import Any, Final

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import Body, read_body
from api.commands import Decision, decide_create, locate
from api.entities import circumstances, found, item_path, present
from api.pages import after, following
from api.queries import page_size
from api.removal import deletions
from api.responses import Json, NotFound, SchemaViolation
from api.routing import route
from api.submission import asked, made_up
from projections.entities import Entity
from projections.tables import TABLES, Table

_MEMBERSHIP: Final = TABLES["consumer_group_consumers"]


class Side(msgspec.Struct, frozen=True):
    """One end of a membership: the field that refers to it, and how it is called outside."""

    field: str
    argument: str  #: in bodies
    plural: str  #: in paths and answers

    @property
    def table(self) -> Table:
        return TABLES[self.plural]


GROUP: Final = Side("consumer_group", "group", "consumer_groups")
CONSUMER: Final = Side("consumer", "consumer", "consumers")


def group_routes(admin: Admin) -> list[Route]:
    return [
        *MemberEndpoints(admin, GROUP, CONSUMER).routes(),
        *MemberEndpoints(admin, CONSUMER, GROUP).routes(),
    ]


class MemberEndpoints:
    """The members of `one`, each of which is one of the `other` side."""

    def __init__(self, admin: Admin, one: Side, other: Side) -> None:
        self._admin = admin
        self._one = one
        self._other = other

    def routes(self) -> list[Route]:
        path = f"{item_path(self._one.table)}/{self._other.plural}"
        return [
            route(path, GET=self.members, POST=self.add, DELETE=self.remove),
            route(f"{path}/{{{self._other.plural}}}", GET=self.show, DELETE=self.remove),
        ]

    async def members(self, http: HttpRequest) -> Response:
        """One page. Kong has the members under their own name, and no pages; here are both."""
        size = page_size(http)
        (start,) = after(http, tuple[str], ("",))
        rows = [row for row in self._memberships(http) if row.id > start]
        members = [self._member(row) for row in rows[:size]]
        shown = [self._shown(row) for row in members if row is not None]
        answer: dict[str, Any] = {self._other.plural: shown, "data": shown, "next": None}
        if len(rows) > size:
            answer |= following(http, [rows[size - 1].id])
        return Json(answer)

    async def show(self, http: HttpRequest) -> Response:
        (row,) = self._memberships(http) or (None,)
        member = None if row is None else self._member(row)
        if member is None:
            raise NotFound
        return Json({self._other.field: self._shown(member)})

    async def add(self, http: HttpRequest) -> Response:
        """One more member."""
        body = await read_body(http)
        origin = made_up(self._admin)

        def decide() -> Decision:
            owner, member = self._owner(http), self._named(http, body)
            args = {self._one.field: {"id": owner.id}, self._other.field: {"id": member.id}}
            request = asked(self._admin, http, body, _MEMBERSHIP, origin, args=args)
            return decide_create(self._admin.view, request)

        await self._admin.store(decide, circumstances(http, body))
        owner, member = self._owner(http), self._named(http, body)
        shown = {self._one.field: self._shown(owner), self._other.plural: [self._shown(member)]}
        return Json(shown, 201)

    async def remove(self, http: HttpRequest) -> Response:
        """One member, or all of them."""
        body = await read_body(http)

        def decide() -> Decision:
            rows = self._memberships(http)
            gone = [event for row in rows for event in deletions(self._admin.view, row)]
            return Decision(tuple(gone), None)

        await self._admin.store(decide, circumstances(http, body))
        return Response(status_code=204)

    def _owner(self, http: HttpRequest) -> Entity:
        return found(self._admin.view, self._one.table, http)

    def _named(self, http: HttpRequest, body: Body) -> Entity:
        """The member that the body names. Raises SchemaViolation, and NotFound if it is none."""
        key = body.args.get(self._other.argument)
        if not isinstance(key, str) or not key:
            fault = "required field missing" if key in (None, "") else "expected a string"
            raise SchemaViolation({self._other.argument: fault})
        row = locate(self._admin.view, self._other.table, http.state.workspace, key)
        if row is None:
            raise NotFound
        return row

    def _memberships(self, http: HttpRequest) -> list[Entity]:
        """All of the owner's, or the one that the path names."""
        owner = self._owner(http)
        rows = self._admin.view.children(_MEMBERSHIP.name, self._one.field, owner.id)
        key = http.path_params.get(self._other.plural)
        if key is None:
            return rows
        member = locate(self._admin.view, self._other.table, http.state.workspace, key)
        return [row for row in rows if member and self._member(row) == member]

    def _member(self, row: Entity) -> Entity | None:
        identity = row.entity.get(self._other.field, {}).get("id")
        return self._admin.view.get(self._other.plural, identity)

    def _shown(self, row: Entity) -> dict[str, Any]:
        return present(self._admin.view, row)

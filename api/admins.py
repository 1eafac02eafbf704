"""The endpoints of admins: people who are invited, each with a user of their own.

/admins                       GET POST
/admins/{admins}              GET PUT PATCH DELETE
/admins/{admins}/roles        GET POST DELETE
/admins/{admins}/workspaces   GET

An admin's user has their name and is enabled while `rbac_token_enabled` is. Nobody knows its first
token: set one with `PATCH /rbac/users/{name}`. It goes with the admin.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.commands import (
    Decision,
    Request,
    decide_create,
    decide_delete,
    decide_update,
    decide_upsert,
    locate,
)
from api.entities import Endpoints, circumstances, found, present
from api.rbac import adding, change_roles, dropping, roles_of
from api.removal import deletions
from api.responses import Json, NotFound
from api.routing import route
from api.submission import asked, made_up
from eventstore.records import NewEvent
from projections.entities import Entities, Entity
from projections.tables import TABLES

_TABLE: Final = TABLES["admins"]
_USERS: Final = TABLES["rbac_users"]

Decide = Callable[[Entities, Request], Decision]


class AdminEndpoints:
    """Whatever changes an admin changes the user of that admin with it, in one append."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._entities = Endpoints(admin, _TABLE)

    def routes(self) -> list[Route]:
        each = self._entities
        return [
            route("/admins", GET=each.list, POST=self.create),
            route(
                "/admins/{admins}",
                GET=each.show,
                PUT=self.upsert,
                PATCH=self.update,
                DELETE=self.delete,
            ),
            route(
                "/admins/{admins}/roles",
                GET=self.roles,
                POST=self.add_roles,
                DELETE=self.drop_roles,
            ),
            route("/admins/{admins}/workspaces", GET=self.workspaces),
        ]

    async def create(self, http: HttpRequest) -> Response:
        """Kong answers an invitation with 200, and the admin under a name of its own."""
        return Json({"admin": await self._write(http, decide_create)})

    async def upsert(self, http: HttpRequest) -> Response:
        key = http.path_params["admins"]
        return Json(await self._write(http, lambda view, it: decide_upsert(view, it, key)))

    async def update(self, http: HttpRequest) -> Response:
        key = http.path_params["admins"]
        return Json(await self._write(http, lambda view, it: decide_update(view, it, key)))

    async def delete(self, http: HttpRequest) -> Response:
        """The user goes too, and with it the roles it had."""
        body, origin = await read_body(http), made_up(self._admin)

        def decide() -> Decision:
            view, key = self._admin.view, http.path_params["admins"]
            decision = decide_delete(view, asked(self._admin, http, body, _TABLE, origin), key)
            row = locate(view, _TABLE, http.state.workspace, key)
            user = row and view.get(_USERS.name, user_id(row.id))
            return Decision((*(deletions(view, user) if user else ()), *decision.events), None)

        await self._admin.store(decide, circumstances(http, body))
        return Response(status_code=204)

    async def roles(self, http: HttpRequest) -> Response:
        return Json({"roles": roles_of(self._admin.view, self._user(http))})

    async def add_roles(self, http: HttpRequest) -> Response:
        await change_roles(self._admin, http, self._user, adding)
        return Json({"roles": roles_of(self._admin.view, self._user(http))}, 201)

    async def drop_roles(self, http: HttpRequest) -> Response:
        await change_roles(self._admin, http, self._user, dropping)
        return Response(status_code=204)

    async def workspaces(self, http: HttpRequest) -> Response:
        """The one in which the admin was invited."""
        row = found(self._admin.view, _TABLE, http)
        own = self._admin.view.get("workspaces", row.workspace)
        return Json([] if own is None else [present(self._admin.view, own)])

    def _user(self, http: HttpRequest) -> Entity:
        row = self._admin.view.get(_USERS.name, user_id(found(self._admin.view, _TABLE, http).id))
        if row is None:
            raise NotFound
        return row

    async def _write(self, http: HttpRequest, decide: Decide) -> dict[str, Any]:
        body, origin = await read_body(http), made_up(self._admin)

        def decided() -> Decision:
            view = self._admin.view
            request = asked(self._admin, http, body, _TABLE, origin)
            decision = decide(view, request)
            whole: dict[str, Any] = decision.entity or {}
            return Decision((*decision.events, *_user_events(view, request, whole)), whole)

        row = await self._admin.write(decided, circumstances(http, body), _TABLE.name)
        if row is None:  # only a deletion leaves none
            raise AssertionError("unreachable")
        return present(self._admin.view, row)


def user_id(admin: str) -> str:
    """The id of the user that belongs to an admin."""
    return str(uuid5(UUID(admin), _USERS.name))


def _user_events(view: Entities, request: Request, admin: dict[str, Any]) -> tuple[NewEvent, ...]:
    """What makes an admin's user as it should be; nothing if it is."""
    user = view.get(_USERS.name, user_id(admin["id"]))
    wanted = {"name": admin["username"], "enabled": admin["rbac_token_enabled"]}
    if user is not None and wanted.items() <= user.entity.items():
        return ()
    about = msgspec.structs.replace(request, table=_USERS, args=wanted, form=False, if_match=None)
    if user is not None:
        return decide_update(view, about, user.id).events
    made = {"id": user_id(admin["id"]), "user_token": request.origin.text("user_token")}
    return decide_create(view, msgspec.structs.replace(about, args=wanted | made)).events

"""The endpoints of users and of the roles they have. Those of permissions are in `api.grants`.

/rbac/users                    GET POST      without `user_token` one is made up, and shown once
/rbac/users/{rbac_users}              GET PUT PATCH DELETE
/rbac/users/{rbac_users}/roles        GET POST DELETE
/rbac/users/{rbac_users}/permissions  GET

Users and roles belong to a workspace, and a user has roles of their own workspace only.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID, uuid5

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.commands import Decision, decide_create, locate
from api.entities import Endpoints, circumstances, present
from api.grants import permissions_of
from api.responses import BadRequest, Json, SchemaViolation
from api.routing import route
from api.stamping import Origin
from api.submission import asked, made_up
from eventstore.codec import new_event
from eventstore.events import EntityCreated, EntityDeleted
from eventstore.records import Kind, NewEvent
from projections.entities import Entities, Entity
from projections.tables import TABLES

_USERS: Final = TABLES["rbac_users"]


class UserEndpoints:
    """Users are entities with a secret of their own making."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._entities = Endpoints(admin, _USERS)

    def routes(self) -> list[Route]:
        each = self._entities
        return [
            route("/rbac/users", GET=each.list, POST=self.create),
            route(
                "/rbac/users/{rbac_users}",
                GET=each.show,
                PUT=each.upsert,
                PATCH=each.update,
                DELETE=each.delete,
            ),
            route(
                "/rbac/users/{rbac_users}/roles",
                GET=self.roles,
                POST=self.add_roles,
                DELETE=self.drop_roles,
            ),
            route("/rbac/users/{rbac_users}/permissions", GET=self.permissions),
        ]

    async def create(self, http: HttpRequest) -> Response:
        """Whoever is named like a role gets it, as in Kong."""
        body, origin = await read_body(http), made_up(self._admin)
        token = origin.text("user_token")
        args = {"user_token": token, **body.args}

        def decide() -> Decision:
            view = self._admin.view
            decision = decide_create(
                view, asked(self._admin, http, body, _USERS, origin, args=args)
            )
            made: dict[str, Any] = decision.entity or {}
            role = view.find("rbac_roles", http.state.workspace, "name", made["name"])
            links = [] if role is None else [link(made["id"], role, origin)]
            return Decision((*decision.events, *links), made)

        row = await self._admin.write(decide, circumstances(http, body), _USERS.name)
        if row is None:  # only a deletion leaves none
            raise AssertionError("unreachable")
        shown = present(self._admin.view, row)
        if row.secrets.get("user_token") == self._admin.digest(token):
            shown["user_token"] = token
        return Json(shown, 201)

    async def roles(self, http: HttpRequest) -> Response:
        return Json(self._with_roles(http))

    async def add_roles(self, http: HttpRequest) -> Response:
        await change_roles(self._admin, http, self._entities.find, adding)
        return Json(self._with_roles(http), 201)

    async def drop_roles(self, http: HttpRequest) -> Response:
        await change_roles(self._admin, http, self._entities.find, dropping)
        return Response(status_code=204)

    async def permissions(self, http: HttpRequest) -> Response:
        view, user = self._admin.view, self._entities.find(http)
        roles = (row.entity["role"]["id"] for row in links_of(view, user))
        return Json(permissions_of(view, roles))

    def _with_roles(self, http: HttpRequest) -> dict[str, Any]:
        view, user = self._admin.view, self._entities.find(http)
        return {"roles": roles_of(view, user), "user": present(view, user)}


Change = Callable[[Entities, Entity, list[Entity], Origin], Iterable[NewEvent]]
"""What makes a user have roles, or not have them any more."""


async def change_roles(
    admin: Admin, http: HttpRequest, user: Callable[[HttpRequest], Entity], change: Change
) -> None:
    """Store what `change` comes to for the roles that the body names."""
    body, origin = await read_body(http), made_up(admin)
    names = listed_names(body.args, "roles")

    def decide() -> Decision:
        row = user(http)
        roles = [_role(admin.view, row.workspace, name) for name in names]
        return Decision(tuple(change(admin.view, row, roles, origin)), None)

    await admin.store(decide, circumstances(http, body))


def adding(view: Entities, user: Entity, roles: list[Entity], origin: Origin) -> Iterable[NewEvent]:
    present_ones = {row.entity["role"]["id"] for row in links_of(view, user)}
    return [link(user.id, role, origin) for role in roles if role.id not in present_ones]


def dropping(
    view: Entities, user: Entity, roles: list[Entity], _origin: Origin
) -> Iterable[NewEvent]:
    gone = {role.id for role in roles}
    rows = (row for row in links_of(view, user) if row.entity["role"]["id"] in gone)
    return [
        new_event(EntityDeleted(entity=row.entity), stream=row.stream, kind=Kind.CONFIG)
        for row in rows
    ]


def link(user: str, role: Entity, origin: Origin) -> NewEvent:
    """The event that gives a user a role. The same two always meet in the same stream."""
    identity, now = str(uuid5(UUID(user), role.id)), int(origin.now)
    entity = {
        "id": identity,
        "created_at": now,
        "updated_at": now,
        "user": {"id": user},
        "role": {"id": role.id},
    }
    stream = f"rbac_user_roles/{identity}"
    return new_event(EntityCreated(entity=entity), stream=stream, kind=Kind.CONFIG)


def links_of(view: Entities, user: Entity) -> list[Entity]:
    return view.children("rbac_user_roles", "user", user.id)


def roles_of(view: Entities, user: Entity) -> list[dict[str, Any]]:
    rows = (view.get("rbac_roles", row.entity["role"]["id"]) for row in links_of(view, user))
    return sorted((present(view, row) for row in rows if row), key=lambda role: str(role["name"]))


def listed_names(args: dict[str, Any], field: str) -> list[str]:
    """Names separated by commas, or a list of them. Raises SchemaViolation."""
    if unknown := {name: "unknown field" for name in args if name != field}:
        raise SchemaViolation(unknown)
    given = args.get(field)
    items = [*filter(None, given.split(","))] if isinstance(given, str) else given
    if not items:
        raise SchemaViolation({field: "required field missing"})
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise SchemaViolation({field: "expected names separated by commas"})
    return [item.strip() for item in items]


def _role(view: Entities, workspace: str, name: str) -> Entity:
    row = locate(view, TABLES["rbac_roles"], workspace, name)
    if row is None:
        raise BadRequest(f"role not found with name '{name}'")
    return row

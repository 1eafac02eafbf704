"""The endpoints of what roles may do: their permissions on endpoints.

/rbac/roles/{rbac_roles}/endpoints                         GET POST
/rbac/roles/{rbac_roles}/endpoints/{workspace}/{endpoint}  GET PATCH DELETE
/rbac/roles/{rbac_roles}/permissions                       GET

A role of the default workspace may have permissions for any workspace, or with `*` for all of
them; a role of another workspace has them for that one alone. The default roles never change.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin, Decide
from api.bodies import Body, read_body
from api.commands import (
    Decision,
    decide_create,
    decide_delete,
    decide_update,
    refuse_default,
)
from api.entities import circumstances, found, present
from api.permissions import ANY
from api.responses import Json, NotFound, SchemaViolation
from api.routing import route
from api.submission import asked, made_up
from projections.entities import Entities, Entity
from projections.tables import DEFAULT_WORKSPACE, TABLES

_TABLE: Final = TABLES["rbac_role_endpoints"]
_KEY: Final = ("role", "workspace", "endpoint")


class GrantEndpoints:
    """What a role may do, or must not do, at which endpoints."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def routes(self) -> list[Route]:
        path = "/rbac/roles/{rbac_roles}/endpoints"
        return [
            route("/rbac/roles/{rbac_roles}/permissions", GET=self.permissions),
            route(path, GET=self.list, POST=self.create),
            route(
                f"{path}/{{workspace}}/{{endpoint:path}}",
                GET=self.show,
                PATCH=self.update,
                DELETE=self.delete,
            ),
        ]

    async def permissions(self, http: HttpRequest) -> Response:
        return Json(permissions_of(self._admin.view, [self._role(http).id]))

    async def list(self, http: HttpRequest) -> Response:
        view = self._admin.view
        rows = view.children(_TABLE.name, "role", self._role(http).id)
        return Json({"data": [_shown(view, row) for row in rows]})

    async def show(self, http: HttpRequest) -> Response:
        row = self._find(http)
        if row is None:
            raise NotFound
        return Json(_shown(self._admin.view, row))

    async def create(self, http: HttpRequest) -> Response:
        body, origin = await read_body(http), made_up(self._admin)

        def decide() -> Decision:
            view, role = self._admin.view, self._role(http)
            refuse_default(role)
            given = body.args.get("workspace", http.state.workspace)
            args = body.args | {
                "role": {"id": role.id},
                "workspace": _workspace(view, role.workspace, given),
            }
            return decide_create(view, asked(self._admin, http, body, _TABLE, origin, args=args))

        return await self._answer(decide, http, body, 201)

    async def update(self, http: HttpRequest) -> Response:
        """What a permission is about stays; for another endpoint there is another permission."""
        body, origin = await read_body(http), made_up(self._admin)
        fixed: dict[str, str] = {n: "cannot be changed" for n in (*_KEY, "id") if n in body.args}
        if fixed:
            raise SchemaViolation(fixed)

        def decide() -> Decision:
            row = self._find(http)
            if row is None:
                raise NotFound
            return decide_update(
                self._admin.view, asked(self._admin, http, body, _TABLE, origin), row.id
            )

        return await self._answer(decide, http, body, 200)

    async def delete(self, http: HttpRequest) -> Response:
        body, origin = await read_body(http), made_up(self._admin)

        def decide() -> Decision:
            row = self._find(http)
            if row is None:
                return Decision((), None)
            request = asked(self._admin, http, body, _TABLE, origin)
            return decide_delete(self._admin.view, request, row.id)

        await self._admin.store(decide, circumstances(http, body))
        return Response(status_code=204)

    async def _answer(self, decide: Decide, http: HttpRequest, body: Body, status: int) -> Response:
        row = await self._admin.write(decide, circumstances(http, body), _TABLE.name)
        if row is None:  # only a deletion leaves none
            raise AssertionError("unreachable")
        return Json(_shown(self._admin.view, row), status)

    def _role(self, http: HttpRequest) -> Entity:
        return found(self._admin.view, TABLES["rbac_roles"], http)

    def _find(self, http: HttpRequest) -> Entity | None:
        view, role = self._admin.view, self._role(http)
        given, path = http.path_params["workspace"], http.path_params["endpoint"]
        workspace = ANY if given == ANY else view.workspace(given)
        if workspace is None:
            return None
        for endpoint in (path, f"/{path}"):
            values = ({"id": role.id}, workspace, endpoint)
            row = view.find_together(_TABLE.name, role.workspace, _KEY, values)
            if row is not None:
                return row
        return None


def permissions_of(view: Entities, roles: Iterable[str]) -> dict[str, Any]:
    """What roles may do: by workspace, then by endpoint. An endpoint has its workspace before it.

    Where several roles speak about the same endpoint, their actions are listed together; those that
    are denied to one are denied.
    """
    found: dict[str, dict[str, Any]] = {}
    for role in roles:
        for row in view.children(_TABLE.name, "role", role):
            grant = _shown(view, row)
            workspace, endpoint = grant["workspace"], grant["endpoint"]
            key = endpoint if endpoint == ANY else f"/{workspace}{endpoint}"
            _merge(found.setdefault(workspace, {}), key, grant)
    return {"endpoints": found, "entities": {}}


def _merge(by_endpoint: dict[str, Any], key: str, grant: Mapping[str, Any]) -> None:
    said = {"actions": grant["actions"], "negative": grant["negative"]}
    other = by_endpoint.get(key)
    if other is None or (said["negative"] and not other["negative"]):
        by_endpoint[key] = said
    elif other["negative"] == said["negative"]:
        more = [action for action in said["actions"] if action not in other["actions"]]
        by_endpoint[key] = other | {"actions": [*other["actions"], *more]}


def _workspace(view: Entities, own: str, given: object) -> str:
    """The id of the workspace that a permission is for, or `*`. Raises SchemaViolation."""
    if not isinstance(given, str):
        raise SchemaViolation({"workspace": "expected a string"})
    found = ANY if given == ANY else view.workspace(given)
    if own != DEFAULT_WORKSPACE and found != own:
        text = "a role of this workspace can only have permissions in this workspace"
        raise SchemaViolation({"workspace": text})
    if found is None:
        raise SchemaViolation({"workspace": f"there is no workspace '{given}'"})
    return found


def _shown(view: Entities, row: Entity) -> dict[str, Any]:
    """As Kong shows it: without an id, and the workspace by its name."""
    entity = present(view, row)
    workspace = view.get("workspaces", entity["workspace"])
    name = entity["workspace"] if workspace is None else workspace.entity.get("name")
    shown = entity | {"workspace": name}
    return {key: value for key, value in shown.items() if key not in ("id", "updated_at")}

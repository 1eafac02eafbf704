"""All paths of the Admin API in one list, of which it tells itself (`/endpoints`, `/docs`)."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api import __version__
from api.admin import Admin
from api.admins import AdminEndpoints
from api.app import first_segments
from api.consumer_groups import group_routes
from api.documents import Documents
from api.entities import entity_routes
from api.grants import GrantEndpoints
from api.rbac import UserEndpoints
from api.responses import Json
from api.routing import route
from api.schemas import SchemaEndpoints
from api.tags import TagEndpoints
from api.upstreams import HealthEndpoints
from api.workspaces import workspace_routes
from projections.health import Health
from projections.tables import TABLES


def all_routes(
    admin: Admin, health: Health, node: str, own: Sequence[BaseRoute]
) -> list[BaseRoute]:
    """`own` routes, and behind them everything that has to do with entities.

    Of two routes for one path the first counts. No workspace can have the name of a table, or of
    the first segment of a path.
    """

    async def endpoints(_http: Request) -> Response:
        return Json({"data": listed, "next": None})

    routes: list[BaseRoute] = [
        *own,
        *UserEndpoints(admin).routes(),
        *GrantEndpoints(admin).routes(),
        *AdminEndpoints(admin).routes(),
        route("/endpoints", GET=endpoints),
        *HealthEndpoints(admin, health, node).routes(),
        *group_routes(admin),
        *SchemaEndpoints(admin).routes(),
        *TagEndpoints(admin.view).routes(),
        *Documents(lambda: routes, __version__).routes(),
    ]
    entities = entity_routes(admin)
    reserved = {*first_segments([*routes, *entities]), *TABLES} - {""}
    routes += workspace_routes(admin, reserved)
    routes += [made for made in entities if made.path not in _paths(routes)]
    listed = sorted(_paths(routes))
    return routes


def _paths(routes: Sequence[BaseRoute]) -> set[str]:
    return {route.path for route in routes if isinstance(route, Route)}

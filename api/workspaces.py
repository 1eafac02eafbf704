"""What workspaces have beyond other entities: names that are not free, and counts."""

from collections.abc import Collection

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.entities import found, item_path, table_routes
from api.responses import Json
from api.routing import route
from projections import checks
from projections.tables import TABLES

_TABLE = TABLES["workspaces"]


def workspace_routes(admin: Admin, reserved: Collection[str]) -> list[Route]:
    """The routes of workspaces, none of which may have a `reserved` name."""

    async def meta(http: Request) -> Response:
        """How many entities of each kind there are, as Kong counts them."""
        workspace = found(admin.view, _TABLE, http).id
        tables = [table.name for table in TABLES.values() if table.scoped]
        return Json({"counts": {name: admin.view.count(name, workspace) for name in tables}})

    excluding = checks.excluding("name", reserved)
    table = msgspec.structs.replace(_TABLE, checks=(*_TABLE.checks, excluding))
    return [route(f"{item_path(table)}/meta", GET=meta), *table_routes(admin, table)]

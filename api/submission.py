"""From an HTTP request to the write that it asks for, for endpoints that decide on their own."""

import os
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as HttpRequest

from api.admin import Admin
from api.bodies import Body
from api.commands import Request
from api.stamping import Origin
from projections.tables import Table


def made_up(admin: Admin) -> Origin:
    """When a request came, and what it brings along that nobody could foresee."""
    return Origin(now=admin.clock(), seed=os.urandom(16))


def asked(
    admin: Admin,
    http: HttpRequest,
    body: Body,
    table: Table,
    origin: Origin,
    *,
    args: Mapping[str, Any] | None = None,
) -> Request:
    """A write to `table` in the workspace of the path; `args` replaces what was sent."""
    return Request(
        table=table,
        workspace=http.state.workspace,
        args=body.args if args is None else args,
        form=body.form,
        origin=origin,
        digest=admin.digest,
        if_match=http.headers.get("if-match"),
    )

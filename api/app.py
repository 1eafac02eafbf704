"""The application: every route behind the front door. No I/O and no state of its own."""

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from api.bodies import BODY_LIMIT
from api.front_door import FrontDoor, Observe, Permit, Policy, Tenancy
from api.responses import NotFound, refuse


def create_app(
    routes: Sequence[BaseRoute],
    *,
    version: str,
    policy: Policy,
    resolve_workspace: Callable[[str], str | None],
    default_workspace: str,
    body_limit: int = BODY_LIMIT,
    observe: Observe | None = None,
    guard: Permit | None = None,
) -> ASGIApp:
    """`routes` in the order in which they are tried, `/x/fixed` before `/x/{id}`.

    `guard` says who may do what; without one everybody may do everything.
    `resolve_workspace` gives the id for a name or an id, None for an unknown workspace. No
    workspace can be reached whose name is the first segment of a route.
    """
    plain = [route for route in routes if isinstance(route, Route)]
    # The front door has taken the closing slash off; a redirect would lose the body of a POST.
    router = Router(routes, redirect_slashes=False, default=refuse(NotFound()))
    return FrontDoor(
        router,
        policy=policy,
        tenancy=Tenancy(frozenset(first_segments(routes)), resolve_workspace, default_workspace),
        version=version,
        direct={route.path: route for route in plain if not route.param_convertors},
        body_limit=body_limit,
        observe=observe,
        guard=guard,
    )


def first_segments(routes: Sequence[BaseRoute]) -> set[str]:
    """`events` of `/events/{id}`: names that a workspace must not have."""
    return {route.path.split("/")[1] for route in routes if isinstance(route, Route)}

"""One route per path: it knows every method of the path, so `Allow` is complete."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.responses import MethodNotAllowed, answer, refuse

Endpoint = Callable[[Request], Awaitable[Response]]


def route(path: str, **endpoints: Endpoint) -> Route:
    """`path` served by one endpoint per method: `route("/x", GET=show, POST=create)`.

    HEAD follows GET and OPTIONS is answered from the list of methods. An exception with an answer
    of its own (see `api.responses.answer`) becomes that answer; any other is the front door's.
    """
    return Route(path, _Resource(endpoints))


def endpoints_of(route: Route) -> dict[str, Endpoint]:
    """The endpoints of a route made by `route`, by method, as they were given: without HEAD."""
    resource = route.endpoint
    assert isinstance(resource, _Resource)  # noqa: S101 - there are no other routes
    return dict(resource.given)


class _Resource:
    """An ASGI application, which spares the hot path one layer of Starlette's wrapping."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self.given = endpoints
        self._endpoints = dict(endpoints)
        if "GET" in endpoints:
            self._endpoints["HEAD"] = endpoints["GET"]
        self._allow = ", ".join(sorted({*self._endpoints, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["method"])
        response: Response | None
        if endpoint is not None:
            try:
                response = await endpoint(Request(scope, receive))
            except Exception as error:
                response = answer(error)
                if response is None:
                    raise
        elif scope["method"] == "OPTIONS":
            listed = {"allow": self._allow, "access-control-allow-methods": self._allow}
            response = Response(status_code=204, headers=listed)
        else:
            response = refuse(MethodNotAllowed(self._allow))
        await response(scope, receive, send)

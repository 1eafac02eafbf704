"""What every request passes before it is routed, and every answer on its way out.

Form posts to a loopback port need no preflight, so any web page could reach the Admin API: requests
that a browser sends for another site, or to a name that is not ours, are refused here.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from random import getrandbits
from time import perf_counter
from urllib.parse import quote

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.bodies import BODY_LIMIT
from api.responses import BadRequest, Forbidden, Json, NotFound, RequestError, TooLarge, refuse

logger = logging.getLogger("hooktape.api")

Headers = Mapping[bytes, bytes]
Observe = Callable[[str, str, int, float], None]
"""Called after every answer with method, path template, status and seconds."""

Permit = Callable[[Scope, Headers], RequestError | None]
"""Why nobody or somebody else may do what a request asks; None when its sender may.

The state of the scope has the workspace then, None for an unknown one; the guard sets the actor.
"""

_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
_PRINTABLE = re.compile(rb"[ -~]{1,255}")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_CORS = [
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, if-match, kong-admin-token, x-request-id",
    ),
    (b"access-control-expose-headers", b"etag, retry-after, x-kong-admin-request-id"),
    (b"access-control-max-age", b"600"),
]


_PREFLIGHT = Response(
    status_code=204,
    headers={"access-control-allow-methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"},
)


class Policy(msgspec.Struct, frozen=True):
    """Whom the door lets in.

    `hosts` are names without port by which this server may be addressed, in lower case; the
    loopback names always belong to them. `cors_origins` are the origins, as browsers send them,
    whose pages may use the API.
    """

    hosts: frozenset[bytes]
    cors_origins: frozenset[bytes]

    @classmethod
    def of(cls, hosts: Collection[str] = (), cors_origins: Collection[str] = ()) -> "Policy":
        """The same from text, as settings hold it. An IPv6 address may come without brackets."""
        names = (f"[{name}]" if name.count(":") > 1 and name[0] != "[" else name for name in hosts)
        return cls(
            frozenset(name.lower().encode() for name in (*_LOOPBACK, *names)),
            frozenset(origin.lower().rstrip("/").encode() for origin in cors_origins),
        )


class Tenancy(msgspec.Struct, frozen=True):
    """How `/{workspace}/...` is told from a plain path.

    `roots` are the first segments of our own paths; anything else before a path is looked up with
    `resolve`, by name or id. `default` is the id of the workspace of a plain path.
    """

    roots: frozenset[str]
    resolve: Callable[[str], str | None]
    default: str


def refusal(headers: Headers, policy: Policy) -> RequestError | None:
    """Why a request with these headers is turned away; None when it may come in."""
    host = headers.get(b"host", b"").lower()
    named = _HOST.fullmatch(host)
    if named is None or named[1] not in policy.hosts:
        return Forbidden("this Host is not allowed: add it to the configured host names")
    origin = headers.get(b"origin")
    if origin is not None and origin in policy.cors_origins:
        return None
    if origin is not None and origin.partition(b"://")[2].lower() != host:
        return Forbidden("requests from pages of other origins are not allowed")
    if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
        return Forbidden("requests from pages of other sites are not allowed")
    return None


class FrontDoor:
    """ASGI middleware; the request's circumstances go into `scope["state"]`.

    `workspace` (an id), `prefix` (the workspace part of the path as given, or ""), `request_id`,
    `idempotency_key` (or None), `actor` (None until authentication sets it) and `body_limit`.
    A `guard` sets `actor`, and further what `api.authentication` says.
    `direct` are the routes without parameters, by path: they need no search.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        policy: Policy,
        tenancy: Tenancy,
        version: str,
        direct: Mapping[str, Route],
        body_limit: int = BODY_LIMIT,
        observe: Observe | None = None,
        guard: Permit | None = None,
    ) -> None:
        self._app = app
        self._policy = policy
        self._tenancy = tenancy
        self._server = (b"server", f"hooktape/{version}".encode())
        self._direct = direct
        self._body_limit = body_limit
        self._observe = observe
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, send, self._server, self._policy.cors_origins)
        try:
            await self._enter(visit)(scope, receive, visit.send)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception:
            logger.exception("unexpected error", extra={"request_id": visit.request_id})
            if visit.status:
                raise
            failure = Json({"message": "An unexpected error occurred"}, 500)
            await failure(scope, receive, visit.send)
        finally:
            if self._observe is not None:
                visit.report(self._observe)

    def _enter(self, visit: "_Visit") -> ASGIApp:
        """The application that answers: ours, or a refusal. Fills in the scope it will see."""
        scope, headers = visit.scope, visit.headers
        key = headers.get(b"idempotency-key")
        scope["state"] = {
            "request_id": visit.request_id,
            "idempotency_key": None if key is None else key.decode("latin-1"),
            "actor": None,
            "body_limit": self._body_limit,
        }
        problem = refusal(headers, self._policy) or self._malformed(headers)
        if problem is None:
            if self._guard is not None and self._is_preflight(scope["method"], headers):
                return _PREFLIGHT
            found = self._locate(scope)
            if self._guard is not None:
                problem = self._guard(scope, headers)
            if problem is None and not found:
                problem = NotFound()
        if problem is not None:
            return refuse(problem)
        direct = self._direct.get(scope["path"])
        if direct is None:
            return self._app
        scope["route"] = direct
        return direct.app

    def _is_preflight(self, method: str, headers: Headers) -> bool:
        """What a browser asks on behalf of a page, without the token that the page will send.

        The answer is the same for every path, so it tells nothing about any.
        """
        return (
            method == "OPTIONS"
            and b"access-control-request-method" in headers
            and headers.get(b"origin") in self._policy.cors_origins
        )

    def _malformed(self, headers: Headers) -> RequestError | None:
        key = headers.get(b"idempotency-key")
        if key is not None and not _PRINTABLE.fullmatch(key):
            return BadRequest("Idempotency-Key must be 1 to 255 printable ASCII characters")
        length = headers.get(b"content-length", b"0")
        if len(length) > 18 or not length.isdigit() or int(length) > self._body_limit:
            return TooLarge(self._body_limit)
        return None

    def _locate(self, scope: Scope) -> bool:
        """Take workspace and closing slash off the path; False for an unknown workspace."""
        path: str = scope["path"]
        state = scope["state"]
        if len(path) > 1 and path.endswith("/"):
            path = scope["path"] = path[:-1]
        first, _, rest = path[1:].partition("/")
        if first in self._tenancy.roots:
            state["workspace"] = self._tenancy.default
            state["prefix"] = ""
            return True
        state["workspace"] = self._tenancy.resolve(first)
        state["prefix"] = f"/{quote(first)}"
        scope["path"] = f"/{rest}"
        return state["workspace"] is not None


def _new_id() -> str:
    # A name, not a secret; and os.urandom gives the log's thread the interpreter each time.
    return f"{getrandbits(128):032x}"


class _Visit:
    """One request from its arrival to the start of its answer. `status` is 0 until then."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        server: tuple[bytes, bytes],
        origins: Collection[bytes],
    ) -> None:
        self.started = perf_counter()
        self.scope = scope
        self.headers: Headers = dict(scope["headers"])
        given = self.headers.get(b"x-request-id") or self.headers.get(
            b"x-kong-admin-request-id", b""
        )
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else _new_id()
        self.status = 0
        self._server = server
        self._origins = origins
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            identity = self.request_id.encode()
            message["headers"] = [
                *message["headers"],
                self._server,
                (b"x-kong-admin-latency", b"%d" % ((perf_counter() - self.started) * 1000)),
                (b"x-request-id", identity),
                (b"x-kong-admin-request-id", identity),
                *(self._cors() if self._origins else ()),
            ]
        await self._send(message)

    def _cors(self) -> list[tuple[bytes, bytes]]:
        origin = self.headers.get(b"origin")
        vary = (b"vary", b"origin")
        if origin is None or origin not in self._origins:
            return [vary]
        return [vary, (b"access-control-allow-origin", origin), *_CORS]

    def report(self, observe: Observe) -> None:
        """The template of the path, not the path: one time series per route.

        499 stands for those who left before their answer, as nginx has it.
        """
        route = self.scope.get("route")
        template = "unrouted" if route is None else route.path
        seconds = perf_counter() - self.started
        observe(self.scope["method"], template, self.status or 499, seconds)

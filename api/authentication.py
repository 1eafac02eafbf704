"""Who asks, known by a token, and whether they may: what the front door asks with RBAC enforced.

Promises: nothing but `OPEN` is answered without a valid token; whoever may do nothing in a
workspace gets the same answer whether it exists or not.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.types import Scope

from api.permissions import Permission, Permissions, action_of, segments
from api.reach import beyond
from api.responses import Forbidden, RequestError, Unauthorized
from projections.entities import Entities, Entity

OPEN: Final = frozenset(
    {
        "/docs",
        "/docs/openapi-explorer.min.js",
        "/health/live",
        "/health/ready",
        "/openapi.json",
    }
)
"""Paths that need no token.

An orchestrator asks whether all is well, and is not told why it is not. A browser cannot send a
token with the address of a page, and what the API looks like is the same everywhere: no secret.
"""

_READING: Final = ("GET", "HEAD")
_BEARER: Final = b"bearer "


class Principal(msgspec.Struct, frozen=True):
    """The user whose token came with a request."""

    id: str
    name: str
    permissions: Permissions

    @property
    def actor(self) -> str:
        """How the log names who did something: nothing personal."""
        return f"rbac_users/{self.id}"

    def may(self, action: str, path: str, workspace: str | None) -> bool:
        """Whether an action is permitted at a path without workspace. None: an unknown one."""
        if beyond(workspace, segments(path), action):
            return self.permissions.allow_everywhere(path, action)
        return self.permissions.allow(workspace, path, action)


class Principals:
    """All users by their tokens. What was worked out holds until some entity changes.

    Tokens are kept and looked up as keyed digests (see `api.admin.Admin.digest`). How long a
    look-up takes tells nothing: without the key nobody knows which digest a guess has.
    """

    def __init__(self, view: Entities, digest: Callable[[str], str]) -> None:
        self._view = view
        self._digest = digest
        self._revision = -1
        self._known: dict[str, Principal] = {}

    def find(self, token: str) -> Principal | None:
        """The user with this token, if there is one and it is enabled."""
        if self._revision != self._view.revision:
            self._revision = self._view.revision
            self._known.clear()
        digest = self._digest(token)
        known = self._known.get(digest)
        if known is None:
            row = self._view.find("rbac_users", "", "user_token", digest)
            if row is None or not _is_valid(row, digest):
                return None
            known = self._known[digest] = principal(self._view, row)
        return known


def principal(view: Entities, user: Entity) -> Principal:
    """A user with all that their roles permit."""
    links = view.children("rbac_user_roles", "user", user.id)
    roles = (link.entity["role"]["id"] for link in links)
    rows = (row for role in roles for row in view.children("rbac_role_endpoints", "role", role))
    permissions = Permissions(Permission.of(row.entity) for row in rows)
    return Principal(user.id, user.entity.get("name", user.id), permissions)


class Guard:
    """Lets a request in whose token permits it. Called when the workspace has been looked up.

    The state of the request gets the `principal`, or is `anonymous`.
    """

    def __init__(self, principals: Principals) -> None:
        self._principals = principals

    def __call__(self, scope: Scope, headers: Mapping[bytes, bytes]) -> RequestError | None:
        """Why a request is refused; None when it may go on."""
        path, method, state = scope["path"], scope["method"], scope["state"]
        token, action = token_of(headers), action_of(method)
        found = None if token is None else self._principals.find(token)
        if found is not None and found.may(action, path, state["workspace"]):
            state["principal"] = found
            state["actor"] = found.actor
            return None
        if path in OPEN and not state["prefix"] and method in _READING:
            state["anonymous"] = True
            return None
        return (
            Unauthorized() if found is None else _refusal(found, action, path, state["workspace"])
        )


def _refusal(found: Principal, action: str, path: str, workspace: str | None) -> Forbidden:
    """Kong's sentence; and where a permission for one workspace is too little, it says so."""
    message = f"{found.name}, you do not have permissions to {action} this resource"
    if found.permissions.allow(workspace, path, action):
        message += ": it concerns all workspaces, so a permission for workspace '*' is needed"
    return Forbidden(message)


def token_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The token in `Kong-Admin-Token`, or else in `Authorization: Bearer`."""
    token = headers.get(b"kong-admin-token")
    if token is None:
        given = headers.get(b"authorization", b"")
        token = given[len(_BEARER) :].strip() if given[:7].lower() == _BEARER else None
    return token.decode("utf-8", "surrogateescape") if token else None


def _is_valid(user: Entity, digest: str) -> bool:
    kept: Any = user.secrets.get("user_token", "")
    return hmac.compare_digest(kept, digest) and bool(user.entity.get("enabled", False))

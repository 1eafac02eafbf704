"""What exists from the start, although no event created it: a workspace and Kong's default roles.

Promise: the ids are the same in every installation, so references to these entities outlive a
rebuild, an export and a restore.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from .tables import DEFAULT_WORKSPACE

_ALL: Final = ["delete", "create", "update", "read"]
_WRITES: Final = ["delete", "create", "update"]
_RBAC: Final = [f"/rbac{'/*' * depth}" for depth in range(1, 6)]
_ADMINS: Final = [f"/admins{'/*' * depth}" for depth in range(3)]


def role_id(name: str) -> str:
    """The id of a default role."""
    return str(uuid5(NAMESPACE_URL, f"hooktape:rbac_roles/{name}"))


SUPER_ADMIN: Final = role_id("super-admin")


def _permission(
    role: str, endpoint: str, actions: list[str], *, negative: bool = False
) -> dict[str, Any]:
    name = f"hooktape:rbac_role_endpoints/{role}/{endpoint}"
    return {
        "id": str(uuid5(NAMESPACE_URL, name)),
        "role": {"id": role_id(role)},
        "workspace": "*",
        "endpoint": endpoint,
        "actions": actions,
        "negative": negative,
    }


def _role(name: str, comment: str) -> dict[str, Any]:
    return {"id": role_id(name), "name": name, "comment": comment, "is_default": True}


_ROLES: Final = [
    _role("read-only", "Read access to all endpoints, across all workspaces"),
    _role("admin", "Full access to all endpoints, across all workspaces - except RBAC Admin API"),
    _role("super-admin", "Full access to all endpoints, across all workspaces"),
]

# Whoever may invite admins may give them roles, so `admin` may only look at them.
_PERMISSIONS: Final = [
    _permission("read-only", "*", ["read"]),
    _permission("admin", "*", _ALL),
    *(_permission("admin", endpoint, _ALL, negative=True) for endpoint in _RBAC),
    *(_permission("admin", endpoint, _WRITES, negative=True) for endpoint in _ADMINS),
    _permission("super-admin", "*", _ALL),
]

_WORKSPACE: Final = {"id": DEFAULT_WORKSPACE, "name": "default", "config": {}, "meta": {}}


def _rows() -> Iterator[tuple[str, dict[str, Any]]]:
    times = {"created_at": 0, "updated_at": 0}
    for table, entities in (
        ("workspaces", [_WORKSPACE]),
        ("rbac_roles", _ROLES),
        ("rbac_role_endpoints", _PERMISSIONS),
    ):
        for entity in entities:
            yield f"{table}/{entity['id']}", entity | times


ENTITIES: Final[Mapping[str, dict[str, Any]]] = dict(_rows())
"""By stream, in the form in which entities are stored. All are in the default workspace."""

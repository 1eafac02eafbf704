"""Who may do what, event hooks, workspaces, and what else is no business of a gateway."""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from . import checks, shorthands
from .fields import (
    FREE,
    HASHED,
    SECRET,
    SET,
    UNIQUE,
    UNIQUE_EVERYWHERE,
    Variant,
    checked,
    compile_record,
    foreign,
)
from .hooks import CONFIGS
from .tables import Entity, table
from .typedefs import EventName, Name, Reference, Seconds

Action = Literal["read", "create", "update", "delete"]
"""What a permission is about; Kong's words."""


@table("licenses", scoped=False)
class License(Entity, kw_only=True):
    """Kept as it is given: no licence is checked, and none is needed."""

    payload: Annotated[str, UNIQUE, SECRET]


@table("admins", key="username", wrapped="admin")
class Admin(Entity, kw_only=True):
    """`status`: 0 approved, 1 pending, 2 rejected, 3 revoked, 4 invited, 5 unverified."""

    username: Annotated[str, UNIQUE]
    email: Annotated[str | None, UNIQUE] = None
    custom_id: Annotated[str | None, UNIQUE] = None
    rbac_token_enabled: bool = True
    status: Literal[0, 1, 2, 3, 4, 5] = 4


@table("rbac_roles", path="rbac/roles", key="name")
class RbacRole(Entity, kw_only=True):
    name: Annotated[Name, UNIQUE]
    comment: str | None = None
    is_default: bool = False


@table("rbac_users", path="rbac/users", key="name")
class RbacUser(Entity, kw_only=True):
    """Whoever has the token."""

    name: Annotated[str, UNIQUE]
    user_token: Annotated[str, UNIQUE_EVERYWHERE, HASHED, checked(checks.header_value)]
    comment: str | None = None
    enabled: bool = True


@table("rbac_user_roles", path="rbac/user_roles", endpoints=False, together=("user", "role"))
class RbacUserRole(Entity, kw_only=True):
    """A user has a role."""

    user: Annotated[Reference, foreign("rbac_users", cascade=True)]
    role: Annotated[Reference, foreign("rbac_roles", cascade=True)]


@table(
    "rbac_role_endpoints",
    path="rbac/role_endpoints",
    endpoints=False,
    expand=shorthands.grant,
    together=("role", "workspace", "endpoint"),
)
class RbacRoleEndpoint(Entity, kw_only=True):
    """What a role may do at an endpoint, or with `negative` must not.

    `workspace` is an id or `*`; `endpoint` is `*` or a path, in which `*` stands for one segment.
    """

    role: Annotated[Reference, foreign("rbac_roles", cascade=True)]
    workspace: str
    endpoint: Annotated[str, checked(checks.endpoint)]
    actions: Annotated[list[Action], SET, Meta(min_length=1)]
    negative: bool = False
    comment: str | None = None


@table("sessions", key="session_id")
class Session(Entity, kw_only=True):
    """The sessions of Kong's session plugin, as far as hooks are concerned with them."""

    session_id: Annotated[str, UNIQUE]
    expires: int | None = None
    data: str | None = None


@table(
    "event_hooks",
    path="event-hooks",
    variant=Variant("handler", "config", {h: compile_record(c) for h, c in CONFIGS.items()}),
)
class EventHook(Entity, kw_only=True):
    """A null `event` stands for every event of the source."""

    source: EventName
    event: EventName | None = None
    handler: Literal["webhook", "webhook-custom", "log", "lambda"]
    on_change: bool | None = None
    snooze: Seconds | None = None
    config: Annotated[dict[str, Any], FREE] = field(default_factory=dict)


@table("workspaces", key="name", scoped=False)
class Workspace(Entity, kw_only=True):
    name: Annotated[Name, UNIQUE]
    comment: str | None = None
    config: Annotated[dict[str, Any], FREE] = field(default_factory=dict)
    meta: Annotated[dict[str, Any], FREE] = field(default_factory=dict)

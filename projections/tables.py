"""The table of entities: adding an entity is adding one Struct.

Fields, defaults and conditions are Kong's; what each mark means is said in `fields`. The `table`
decorator says what holds for an entity as a whole. Everything else, from the endpoints and their
errors to cascading deletes and the indexes of the read model, follows from here.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Meta, field

from . import checks, protocols, shorthands
from .checks import EntityCheck
from .fields import (
    AUTO,
    FREE,
    HASHED,
    SECRET,
    SET,
    TRANSIENT,
    UNIQUE,
    Field,
    Record,
    Variant,
    checked,
    compile_record,
    foreign,
)
from .hooks import CONFIGS
from .typedefs import (
    AutoTimestamp,
    Certificate,
    EventName,
    HeaderName,
    Host,
    HttpMethod,
    Name,
    Path,
    Port,
    PrivateKey,
    Protocol,
    Protocols,
    Reference,
    RouteHost,
    RoutePath,
    Seconds,
    Tags,
    Timeout,
    Uuid,
    WildcardHost,
)
from .upstreams import HASH_CHECKS, HashOn, Healthchecks, hashing

DEFAULT_WORKSPACE: Final = str(uuid5(NAMESPACE_URL, "hooktape:workspaces/default"))
"""Requests without a workspace prefix are about this one. It is there from the start."""


class Table(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One kind of entity. `name` is that of its streams and of its crud events.

    `key` is a field that may stand for the id in a path. `scoped` entities belong to a workspace,
    the others to all of them. No two entities have the same values in all fields of `together`,
    nulls included.
    `expand` turns shorthands into fields before the validation, `derive` computes fields after it.
    `wrapped` is the name under which the answer to a POST holds the entity, with status 200.
    """

    name: str
    path: str
    record: Record
    key: str | None = None
    scoped: bool = True
    together: tuple[str, ...] = ()
    checks: tuple[EntityCheck, ...] = ()
    expand: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    derive: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    wrapped: str | None = None

    def scope(self, workspace: str) -> str:
        """Within what its unique values are unique: a workspace, or "" for everywhere."""
        return workspace if self.scoped else ""

    @cached_property
    def unique(self) -> list[tuple[str, ...]]:
        """The fields, and the combinations of fields, whose values no two entities share."""
        fields = self.record.fields.values()
        combinations = [(field.name,) for field in fields if field.unique]
        return [*combinations, *filter(None, [self.together])]

    @cached_property
    def references(self) -> list[Field]:
        """The fields that refer to another entity."""
        return [field for field in self.record.fields.values() if field.shape.foreign]


TABLES: Final[dict[str, Table]] = {}
"""By name, in order of declaration."""

S = TypeVar("S", bound=type[msgspec.Struct])


def table(
    name: str, *, path: str | None = None, variant: Variant | None = None, **options: Any
) -> Callable[[S], S]:
    """Enter the decorated Struct into `TABLES`. `options` are fields of `Table`."""

    def enter(struct: S) -> S:
        record = compile_record(struct, variant)
        TABLES[name] = Table(name=name, path=path or name, record=record, **options)
        return struct

    return enter


class Entity(msgspec.Struct, kw_only=True):
    """What every entity has."""

    id: Annotated[Uuid, AUTO]
    created_at: AutoTimestamp
    updated_at: AutoTimestamp


@table(
    "consumers",
    key="username",
    checks=(checks.at_least_one_of("custom_id", "username"),),
    derive=shorthands.lower_username,
)
class Consumer(Entity, kw_only=True):
    username: Annotated[str | None, UNIQUE] = None
    username_lower: str | None = None
    custom_id: Annotated[str | None, UNIQUE] = None
    type: Literal[0, 1, 2, 3] = 0
    tags: Tags = None


@table("consumer_groups", key="name")
class ConsumerGroup(Entity, kw_only=True):
    name: Annotated[Name, UNIQUE]
    tags: Tags = None


_NO_TLS: Final = ("grpc", "grpcs", "http", "tcp", "tls_passthrough", "udp")


@table(
    "services",
    key="name",
    checks=(
        checks.when("protocol", ("tcp", "tls", "udp", "grpc", "grpcs"), "path", checks.absent),
        checks.when("protocol", _NO_TLS, "client_certificate", checks.absent),
        checks.when("protocol", _NO_TLS, "tls_verify", checks.absent),
        checks.when("protocol", _NO_TLS, "tls_verify_depth", checks.absent),
        checks.when("protocol", _NO_TLS, "ca_certificates", checks.absent),
    ),
    expand=shorthands.from_url,
)
class Service(Entity, kw_only=True):
    name: Annotated[Name | None, UNIQUE] = None
    url: Annotated[str | None, TRANSIENT] = None
    retries: Annotated[int, Meta(ge=0, le=32767)] | None = 5
    protocol: Protocol = "http"
    host: Host
    port: Port = 80
    path: Path | None = None
    connect_timeout: Timeout | None = 60000
    write_timeout: Timeout | None = 60000
    read_timeout: Timeout | None = 60000
    tags: Tags = None
    client_certificate: Annotated[Reference | None, foreign("certificates")] = None
    tls_verify: bool | None = None
    tls_verify_depth: Annotated[int, Meta(ge=0, le=64)] | None = None
    ca_certificates: list[Uuid] | None = None
    enabled: bool = True


class Endpoint(msgspec.Struct):
    """A source or destination of a stream route."""

    ip: str | None = None
    port: Port | None = None


@table("routes", key="name", checks=(protocols.matches_something, protocols.fits_protocols))
class Route(Entity, kw_only=True):
    name: Annotated[Name | None, UNIQUE] = None
    protocols: Protocols = field(default_factory=lambda: ["http", "https"])
    https_redirect_status_code: Literal[426, 301, 302, 307, 308] = 426
    strip_path: bool = True
    preserve_host: bool = False
    request_buffering: bool = True
    response_buffering: bool = True
    tags: Tags = None
    service: Annotated[Reference | None, foreign("services")] = None
    snis: Annotated[list[WildcardHost] | None, SET] = None
    sources: Annotated[list[Endpoint] | None, SET] = None
    destinations: Annotated[list[Endpoint] | None, SET] = None
    methods: Annotated[list[HttpMethod] | None, SET] = None
    hosts: list[RouteHost] | None = None
    paths: list[RoutePath] | None = None
    headers: dict[HeaderName, list[str]] | None = None
    regex_priority: int | None = 0
    path_handling: Literal["v0", "v1"] | None = "v0"


@table("plugins", key="instance_name", together=("name", "route", "service", "consumer"))
class Plugin(Entity, kw_only=True):
    """`config` is accepted as given: what plugins want is known to the gateway that runs them."""

    name: str
    instance_name: Annotated[Name | None, UNIQUE] = None
    route: Annotated[Reference | None, foreign("routes", cascade=True)] = None
    service: Annotated[Reference | None, foreign("services", cascade=True)] = None
    consumer: Annotated[Reference | None, foreign("consumers", cascade=True)] = None
    config: Annotated[dict[str, Any], FREE] = field(default_factory=dict)
    protocols: Annotated[list[Protocol], SET, Meta(min_length=1)] = field(
        default_factory=lambda: ["grpc", "grpcs", "http", "https"]
    )
    enabled: bool = True
    tags: Tags = None


@table("upstreams", key="name", checks=HASH_CHECKS, expand=hashing)
class Upstream(Entity, kw_only=True):
    name: Annotated[str, UNIQUE, checked(checks.upstream_name)]
    algorithm: Literal["consistent-hashing", "least-connections", "round-robin", "latency"] = (
        "round-robin"
    )
    hash_on: HashOn = "none"
    hash_fallback: HashOn = "none"
    hash_on_header: HeaderName | None = None
    hash_fallback_header: HeaderName | None = None
    hash_on_cookie: str | None = None
    hash_on_cookie_path: Path | None = "/"
    hash_on_query_arg: str | None = None
    hash_fallback_query_arg: str | None = None
    hash_on_uri_capture: str | None = None
    hash_fallback_uri_capture: str | None = None
    slots: Annotated[int, Meta(ge=10, le=2**16)] = 10000
    healthchecks: Healthchecks = field(default_factory=Healthchecks)
    tags: Tags = None
    host_header: str | None = None
    client_certificate: Annotated[Reference | None, foreign("certificates")] = None
    use_srv_name: bool | None = False


@table("targets", key="target", together=("upstream", "target"), derive=shorthands.with_port)
class Target(Entity, kw_only=True):
    upstream: Annotated[Reference, foreign("upstreams", cascade=True)]
    target: Annotated[str, checked(checks.target)]
    weight: Annotated[int, Meta(ge=0, le=65535)] = 100
    tags: Tags = None


@table("certificates", checks=(checks.all_or_none_of("cert_alt", "key_alt"),))
class CertificateEntity(Entity, kw_only=True):
    cert: Certificate
    key: Annotated[PrivateKey, SECRET]
    cert_alt: Certificate | None = None
    key_alt: Annotated[PrivateKey | None, SECRET] = None
    tags: Tags = None


@table("ca_certificates", scoped=False, derive=shorthands.with_digest)
class CaCertificate(Entity, kw_only=True):
    cert: Certificate
    cert_digest: Annotated[str | None, UNIQUE] = None
    tags: Tags = None


@table("snis", key="name", scoped=False)
class Sni(Entity, kw_only=True):
    name: Annotated[WildcardHost, UNIQUE]
    certificate: Annotated[Reference, foreign("certificates", cascade=True)]
    tags: Tags = None


@table("admins", key="username", scoped=False, wrapped="admin")
class Admin(Entity, kw_only=True):
    """`status`: 0 approved, 1 pending, 2 rejected, 3 revoked, 4 invited, 5 unverified."""

    username: Annotated[str, UNIQUE]
    email: Annotated[str | None, UNIQUE] = None
    custom_id: Annotated[str | None, UNIQUE] = None
    rbac_token_enabled: bool = True
    status: Literal[0, 1, 2, 3, 4, 5] = 4


@table("rbac_roles", path="rbac/roles", key="name", scoped=False)
class RbacRole(Entity, kw_only=True):
    name: Annotated[Name, UNIQUE]
    comment: str | None = None
    is_default: bool = False


@table("rbac_users", path="rbac/users", key="name", scoped=False)
class RbacUser(Entity, kw_only=True):
    name: Annotated[str, UNIQUE]
    user_token: Annotated[str, UNIQUE, HASHED]
    comment: str | None = None
    enabled: bool = True


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


_PATHS: Final = [
    "docs",
    "endpoints",
    "events",
    "health",
    "ingest",
    "metrics",
    "schemas",
    "status",
    "tags",
    "workspaces",
]

RESERVED: Final = frozenset(
    {*TABLES, *(t.path.partition("/")[0] for t in TABLES.values()), *_PATHS}
)
"""First segments of paths, and so no names of workspaces."""


@table("workspaces", key="name", scoped=False)
class Workspace(Entity, kw_only=True):
    name: Annotated[str, UNIQUE, checked(checks.name, checks.not_one_of(RESERVED))]
    comment: str | None = None
    config: Annotated[dict[str, Any], FREE] = field(default_factory=dict)
    meta: Annotated[dict[str, Any], FREE] = field(default_factory=dict)

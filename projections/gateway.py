"""The entities that a gateway is configured with, and those who call it."""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from . import checks, protocols, shorthands
from .fields import AUTO, FREE, SECRET, SET, TRANSIENT, UNIQUE, Variant, checked, foreign
from .plugins import PLUGINS
from .tables import Entity, Names, table
from .typedefs import (
    AutoTimestampMs,
    Certificate,
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
    Tags,
    Timeout,
    Uuid,
    WildcardHost,
)
from .upstreams import HASH_CHECKS, HashOn, Healthchecks, hashing


@table(
    "consumers",
    key="username",
    search="custom_id",
    checks=(checks.AtLeastOneOf("custom_id", "username"),),
    derive=shorthands.lower_username,
)
class Consumer(Entity, kw_only=True):
    username: Annotated[str | None, UNIQUE] = None
    username_lower: str | None = None
    custom_id: Annotated[str | None, UNIQUE] = None
    type: Literal[0, 1, 2, 3] = 0
    tags: Tags = None


@table("consumer_groups", key="name", shown_as="consumer_group")
class ConsumerGroup(Entity, kw_only=True):
    name: Annotated[Name, UNIQUE]
    tags: Tags = None


@table("consumer_group_consumers", endpoints=False, together=("consumer_group", "consumer"))
class Membership(Entity, kw_only=True):
    """A consumer belongs to a group."""

    consumer_group: Annotated[Reference, foreign("consumer_groups", cascade=True)]
    consumer: Annotated[Reference, foreign("consumers", cascade=True)]


_NO_TLS: Final = ("grpc", "grpcs", "http", "tcp", "tls_passthrough", "udp", "ws")


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


@table(
    "plugins",
    key="instance_name",
    together=("name", "route", "service", "consumer", "consumer_group"),
    variant=Variant("name", "config", PLUGINS, open=True),
)
class Plugin(Entity, kw_only=True):
    """`config` is accepted as given, but for the plugins that events come from."""

    name: str
    instance_name: Annotated[Name | None, UNIQUE] = None
    route: Annotated[Reference | None, foreign("routes", cascade=True)] = None
    service: Annotated[Reference | None, foreign("services", cascade=True)] = None
    consumer: Annotated[Reference | None, foreign("consumers", cascade=True)] = None
    consumer_group: Annotated[Reference | None, foreign("consumer_groups", cascade=True)] = None
    config: Annotated[dict[str, Any], FREE] = field(default_factory=dict)
    protocols: Annotated[list[Protocol], SET, Meta(min_length=1)] = field(
        default_factory=lambda: ["grpc", "grpcs", "http", "https"]
    )
    enabled: bool = True
    tags: Tags = None
    ordering: Annotated[dict[str, Any] | None, FREE] = None


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
class Target(msgspec.Struct, kw_only=True):
    """Its times are finer than those of other entities, as in Kong."""

    id: Annotated[Uuid, AUTO]
    created_at: AutoTimestampMs
    updated_at: AutoTimestampMs
    upstream: Annotated[Reference, foreign("upstreams", cascade=True)]
    target: Annotated[str, checked(checks.target)]
    weight: Annotated[int, Meta(ge=0, le=65535)] = 100
    tags: Tags = None


@table(
    "certificates",
    checks=(checks.all_or_none_of("cert_alt", "key_alt"),),
    names=Names(field="snis", table="snis", name="name", by="certificate"),
)
class CertificateEntity(Entity, kw_only=True):
    cert: Certificate
    key: Annotated[PrivateKey, SECRET]
    cert_alt: Certificate | None = None
    key_alt: Annotated[PrivateKey | None, SECRET] = None
    snis: Annotated[list[WildcardHost] | None, SET, TRANSIENT] = None
    tags: Tags = None


@table("ca_certificates", scoped=False, derive=shorthands.with_digest)
class CaCertificate(Entity, kw_only=True):
    cert: Certificate
    cert_digest: Annotated[str | None, UNIQUE] = None
    tags: Tags = None


@table("snis", key="name")
class Sni(Entity, kw_only=True):
    name: Annotated[WildcardHost, UNIQUE]
    certificate: Annotated[Reference, foreign("certificates", cascade=True)]
    tags: Tags = None


class Filter(msgspec.Struct):
    name: str
    enabled: bool = True
    config: Any = None


@table(
    "filter_chains",
    path="filter-chains",
    key="name",
    together=("route", "service"),
    checks=(checks.exactly_one_of("service", "route"),),
)
class FilterChain(Entity, kw_only=True):
    name: Annotated[Name | None, UNIQUE] = None
    enabled: bool = True
    route: Annotated[Reference | None, foreign("routes", cascade=True)] = None
    service: Annotated[Reference | None, foreign("services", cascade=True)] = None
    filters: Annotated[list[Filter], Meta(min_length=1)]
    tags: Tags = None

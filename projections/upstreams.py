"""The parts of an upstream: health checks and hashing. Defaults and conditions are Kong's."""

from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta, field

from .checks import EntityCheck, distinct, one_of, required, when
from .typedefs import HeaderName, HeaderValue, Path, WildcardHost

HashOn = Literal["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]

_Seconds = Annotated[float, Meta(ge=0, le=65535)]
_Count = Annotated[int, Meta(ge=0, le=255)]
_Statuses = list[Annotated[int, Meta(ge=100, le=999)]]
_Check = Literal["tcp", "http", "https", "grpc", "grpcs"]


class ActiveHealthy(msgspec.Struct):
    interval: _Seconds | None = 0
    http_statuses: _Statuses | None = field(default_factory=lambda: [200, 302])
    successes: _Count | None = 0


class ActiveUnhealthy(msgspec.Struct):
    interval: _Seconds | None = 0
    http_statuses: _Statuses | None = field(
        default_factory=lambda: [429, 404, 500, 501, 502, 503, 504, 505]
    )
    tcp_failures: _Count | None = 0
    timeouts: _Count | None = 0
    http_failures: _Count | None = 0


class PassiveHealthy(msgspec.Struct):
    http_statuses: _Statuses | None = field(
        default_factory=lambda: [*range(200, 209), 226, *range(300, 309)]
    )
    successes: _Count | None = 0


class PassiveUnhealthy(msgspec.Struct):
    http_statuses: _Statuses | None = field(default_factory=lambda: [429, 500, 503])
    tcp_failures: _Count | None = 0
    timeouts: _Count | None = 0
    http_failures: _Count | None = 0


class Active(msgspec.Struct):
    type: _Check | None = "http"
    timeout: _Seconds | None = 1
    concurrency: Annotated[int, Meta(ge=1, le=2**31)] | None = 10
    http_path: Path | None = "/"
    https_sni: WildcardHost | None = None
    https_verify_certificate: bool = True
    headers: dict[HeaderName, list[HeaderValue]] | None = None
    healthy: ActiveHealthy = field(default_factory=ActiveHealthy)
    unhealthy: ActiveUnhealthy = field(default_factory=ActiveUnhealthy)


class Passive(msgspec.Struct):
    type: _Check | None = "http"
    healthy: PassiveHealthy = field(default_factory=PassiveHealthy)
    unhealthy: PassiveUnhealthy = field(default_factory=PassiveUnhealthy)


class Healthchecks(msgspec.Struct):
    active: Active = field(default_factory=Active)
    passive: Passive = field(default_factory=Passive)
    threshold: Annotated[float, Meta(ge=0, le=100)] | None = 0


_HASHED_FIELDS: Final = {
    "header": ("hash_on_header", "hash_fallback_header"),
    "cookie": ("hash_on_cookie", "hash_on_cookie"),
    "query_arg": ("hash_on_query_arg", "hash_fallback_query_arg"),
    "uri_capture": ("hash_on_uri_capture", "hash_fallback_uri_capture"),
}


def _others(hash_on: str) -> list[str]:
    return [choice for choice in get_args(HashOn) if choice != hash_on]


HASH_CHECKS: Final[tuple[EntityCheck, ...]] = (
    *(
        when(hash_field, (value,), names[index], required)
        for value, names in _HASHED_FIELDS.items()
        for index, hash_field in enumerate(("hash_on", "hash_fallback"))
    ),
    when("hash_on", ("none", "cookie"), "hash_fallback", one_of("none")),
    *(
        when("hash_on", (value,), "hash_fallback", one_of(*_others(value)))
        for value in ("consumer", "ip", "path")
    ),
    *(distinct(*names) for value, names in _HASHED_FIELDS.items() if value != "cookie"),
)
"""What is hashed on is named, and the fallback is something else."""


def hashing(args: dict[str, Any]) -> dict[str, Any]:
    """The algorithm decides whether to hash, and hashing decides the algorithm."""
    if args.get("algorithm") in ("least-connections", "latency"):
        return args | {"hash_on": "none"}
    if args.get("hash_on") not in (None, "none"):
        return args | {"algorithm": "consistent-hashing"}
    return args

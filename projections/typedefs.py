"""The types that the table of entities is written in, named as in Kong."""

from typing import Annotated, Literal

from msgspec import Meta

from . import checks, protocols
from .fields import AUTO, SECRET, SET, checked

Uuid = Annotated[str, checked(checks.uuid)]
AutoTimestamp = Annotated[int, Meta(ge=0), AUTO]  #: whole seconds
AutoTimestampMs = Annotated[float, Meta(ge=0), AUTO]  #: seconds, to the millisecond
Name = Annotated[str, checked(checks.name)]
EventName = Annotated[str, checked(checks.event_name)]
Tag = Annotated[str, checked(checks.tag)]
Tags = Annotated[list[Tag] | None, SET]
Host = Annotated[str, checked(checks.host)]
RouteHost = Annotated[str, checked(checks.route_host)]
WildcardHost = Annotated[str, checked(checks.wildcard_host)]
Path = Annotated[str, checked(checks.path)]
RoutePath = Annotated[str, checked(checks.route_path)]
HttpUrl = Annotated[str, checked(checks.http_url)]
HttpMethod = Annotated[str, checked(checks.http_method)]
HeaderName = Annotated[str, checked(checks.header_name)]
HeaderValue = Annotated[str, checked(checks.header_value)]
Headers = dict[HeaderName, HeaderValue]
Certificate = Annotated[str, checked(checks.certificate)]
PrivateKey = Annotated[str, checked(checks.private_key)]
Secret = Annotated[str | None, SECRET]
Port = Annotated[int, Meta(ge=0, le=65535)]
Timeout = Annotated[int, Meta(ge=1, le=2**31 - 2)]  #: milliseconds
Seconds = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Reference = dict[str, str]  #: `{"id": ...}`
Protocol = Literal[
    "grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp", "ws", "wss"
]  # fmt: skip
Protocols = Annotated[list[Protocol], SET, Meta(min_length=1), checked(protocols.one_family)]

"""The configurations of the plugins that events come from, as far as they are documented.

Any other plugin's configuration is accepted as it is given, and so are fields that are not listed
here: what plugins want is known to the gateway that runs them. What is listed has types, so that
forms can be read, and defaults, so that hooks see what Kong's would.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from .fields import FREE, SECRET, Open, Record, compile_record
from .typedefs import HeaderName, HttpMethod, HttpUrl, Path, Port, Secret

_Window = Annotated[float, Meta(ge=0)]
_WindowType = Literal["fixed", "sliding"]
_Strategy = Literal["cluster", "redis", "local"]


class Redis(Open, kw_only=True):
    host: str | None = None
    port: Port | None = None
    username: str | None = None
    password: Secret = None
    sentinel_username: str | None = None
    sentinel_password: Secret = None


class RateLimit(Open, kw_only=True):
    """What the rate-limiting plugins of Kong Enterprise have in common."""

    window_type: _WindowType = "sliding"
    sync_rate: float | None = None
    strategy: _Strategy = "local"
    dictionary_name: str = "kong_rate_limiting_counters"
    hide_client_headers: bool = False
    retry_after_jitter_max: _Window = 0
    disable_penalty: bool = False
    error_code: float = 429
    error_message: str = "API rate limit exceeded"
    redis: Redis | None = None


class RateLimitingAdvanced(RateLimit, kw_only=True):
    identifier: Literal[
        "ip", "credential", "consumer", "service", "header", "path", "consumer-group"
    ] = "consumer"
    limit: Annotated[list[float], Meta(min_length=1)]
    window_size: Annotated[list[float], Meta(min_length=1)]
    namespace: str | None = None
    header_name: HeaderName | None = None
    path: Path | None = None
    consumer_groups: list[str] | None = None
    enforce_consumer_groups: bool = False


class ServiceProtection(RateLimit, kw_only=True):
    limit: Annotated[list[float], Meta(min_length=1)]
    window_size: Annotated[list[float], Meta(min_length=1)]
    namespace: str | None = None


class AiRateLimitingAdvanced(RateLimit, kw_only=True):
    """Limits are per provider, or since 3.11 in `policies`."""

    identifier: Literal[
        "ip", "credential", "consumer", "service", "header", "path", "consumer-group"
    ] = "consumer"
    llm_providers: list[Annotated[dict[str, Any], FREE]] | None = None
    header_name: HeaderName | None = None
    path: Path | None = None


class OasValidation(Open, kw_only=True):
    api_spec: str
    verbose_response: bool = False
    validate_request_body: bool = True
    validate_request_header_params: bool = True
    validate_request_query_params: bool = True
    validate_request_uri_params: bool = True
    validate_response_body: bool = False
    notify_only_request_validation_failure: bool = False
    notify_only_response_body_validation_failure: bool = False
    header_parameter_check: bool = False
    query_parameter_check: bool = False
    allowed_header_parameters: str = "Host,Content-Type,User-Agent,Accept,Content-Length"


class HttpLog(Open, kw_only=True):
    """The plugin by which a gateway can report its requests to `/ingest/kong-http-log`.

    Its headers may hold a token, so they are kept apart.
    """

    http_endpoint: HttpUrl
    method: HttpMethod = "POST"
    content_type: str = "application/json"
    timeout: float = 10000
    keepalive: float = 60000
    headers: Annotated[dict[HeaderName, str] | None, SECRET] = None
    queue: Annotated[dict[str, Any], FREE] = field(default_factory=dict)
    custom_fields_by_lua: dict[str, str] | None = None


class RateLimiting(Open, kw_only=True):
    """The plugin of the open-source gateway, whose 429 answers the bridge takes for events."""

    second: _Window | None = None
    minute: _Window | None = None
    hour: _Window | None = None
    day: _Window | None = None
    month: _Window | None = None
    year: _Window | None = None
    limit_by: Literal["consumer", "credential", "ip", "service", "header", "path"] = "consumer"
    header_name: HeaderName | None = None
    path: Path | None = None
    policy: _Strategy = "local"
    fault_tolerant: bool = True
    hide_client_headers: bool = False
    error_code: float = 429
    error_message: str = "API rate limit exceeded"
    redis: Redis | None = None
    redis_host: str | None = None
    redis_port: Port | None = None
    redis_username: str | None = None
    redis_password: Secret = None


_CONFIGS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "ai-rate-limiting-advanced": AiRateLimitingAdvanced,
    "http-log": HttpLog,
    "http-log-enterprise": HttpLog,
    "oas-validation": OasValidation,
    "rate-limiting": RateLimiting,
    "rate-limiting-advanced": RateLimitingAdvanced,
    "service-protection": ServiceProtection,
}

PLUGINS: Final[Mapping[str, Record]] = {
    name: compile_record(config) for name, config in _CONFIGS.items()
}

"""Records as Kong's logging plugins write them.

Made from the sample that Kong publishes with its log format, and from what its issues quote of
failed tries; no gateway was at hand to capture any.
"""

from typing import Any

REQUEST_ID = "2f6946328ffc4946b8c9120704a4a155"
SERVICE = {
    "write_timeout": 60000,
    "read_timeout": 60000,
    "updated_at": 1726782459,
    "host": "httpbin.konghq.com",
    "name": "example_service",
    "id": "fb4eecf8-dec2-40ef-b779-16de7e2384c7",
    "port": 80,
    "enabled": True,
    "created_at": 1726782459,
    "protocol": "http",
    "ws_id": "f381e34e-5c25-4e65-b91b-3c0a86cfc393",
    "connect_timeout": 60000,
    "retries": 5,
}
ROUTE = {
    "updated_at": 1726782477,
    "tags": [],
    "response_buffering": True,
    "path_handling": "v0",
    "protocols": ["http", "https"],
    "service": {"id": "fb4eecf8-dec2-40ef-b779-16de7e2384c7"},
    "https_redirect_status_code": 426,
    "regex_priority": 0,
    "name": "example_route",
    "id": "0f1a4101-3327-4274-b1e4-484a4ab0c030",
    "strip_path": True,
    "preserve_host": False,
    "created_at": 1726782477,
    "request_buffering": True,
    "ws_id": "f381e34e-5c25-4e65-b91b-3c0a86cfc393",
    "paths": ["/example-route"],
}
CONSUMER: dict[str, Any] = {
    "id": "0fd2319f-1f4e-4d0b-9d5c-9f6fb7f43c5f",
    "username": "Ada",
    "created_at": 1627581878,
}
SECRETS = ("Bearer t0ken", "session=c00kie", "s3cret-key", "querys3cret")

_TRY = {
    "balancer_start": 1726783839539,
    "balancer_start_ns": 1.7267838395395e18,
    "ip": "34.237.204.224",
    "balancer_latency": 0,
    "port": 80,
    "balancer_latency_ns": 27904,
}


def record(id_: str | None = REQUEST_ID, **more: Any) -> dict[str, Any]:
    """A request that was answered by its upstream, with every header that holds a secret."""
    request = {
        "headers": {
            "accept": "*/*",
            "authorization": "Bearer t0ken",
            "cookie": "session=c00kie",
            "apikey": "s3cret-key",
            "host": "localhost:8000",
        },
        "uri": "/example-route?apikey=querys3cret",
        "size": 139,
        "method": "GET",
        "querystring": {"apikey": "querys3cret"},
        "url": "http://localhost:8000/example-route?apikey=querys3cret",
    }
    known: dict[str, Any] = {
        "response": {
            "size": 9982,
            "headers": {
                "content-type": "text/html; charset=utf-8",
                "set-cookie": ["session=c00kie", "a=b"],
                "via": "1.1 kong/3.8.0",
                "x-kong-request-id": REQUEST_ID,
            },
            "status": 200,
        },
        "route": ROUTE,
        "workspace": "f381e34e-5c25-4e65-b91b-3c0a86cfc393",
        "workspace_name": "default",
        "tries": [_TRY],
        "client_ip": "192.168.65.1",
        "request": request if id_ is None else request | {"id": id_},
        "upstream_uri": "/?apikey=querys3cret",
        "started_at": 1726783839538,
        "source": "upstream",
        "upstream_status": "200",
        "latencies": {"kong": 1, "proxy": 171, "request": 173, "receive": 1},
        "authenticated_entity": {"id": "7bb4eecf-dec2-40ef-b779-16de7e2384c7"},
        "service": SERVICE,
    }
    return known | more


def limited(headers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request that the gateway itself answered with 429: it has no tries, an empty Lua table."""
    response = {"size": 41, "headers": headers, "status": 429}
    refused: dict[str, Any] = {"response": response, "tries": {}, "source": "kong"}
    return {
        name: value
        for name, value in (record() | refused | more).items()
        if name != "upstream_status" or name in more
    }


MINUTE = {
    "x-ratelimit-limit-minute": "3",
    "x-ratelimit-remaining-minute": "0",
    "ratelimit-limit": "3",
    "ratelimit-remaining": "0",
    "ratelimit-reset": "42",
    "retry-after": "42",
}


def failed(ip: str, port: int, code: int = 502) -> dict[str, Any]:
    """A try that did not succeed."""
    return _TRY | {"ip": ip, "port": port, "state": "failed", "code": code}


def answered(ip: str, port: int) -> dict[str, Any]:
    return _TRY | {"ip": ip, "port": port}

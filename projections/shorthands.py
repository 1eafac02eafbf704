"""Fields that stand for others and fields that are computed from others. Pure functions."""

import hashlib
from typing import Any, Final
from urllib.parse import urlsplit

from .checks import pem_bytes

_ACTIONS: Final = ("delete", "create", "update", "read")


def from_url(args: dict[str, Any]) -> dict[str, Any]:
    """A service's `url` stands for protocol, host, port and path, and wins over them."""
    url = args.get("url")
    if not isinstance(url, str):
        return args
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return args | {"host": None}
    protocol = parts.scheme or ("https" if port == 443 else "http")
    return args | {
        "protocol": protocol,
        "host": parts.hostname,
        "port": port or (443 if protocol == "https" else 80),
        "path": parts.path or None,
    }


def lower_username(entity: dict[str, Any]) -> dict[str, Any]:
    username = entity["username"]
    return entity | {"username_lower": username and username.lower()}


def with_port(entity: dict[str, Any]) -> dict[str, Any]:
    """A target without a port means port 8000, as in Kong."""
    target = entity["target"]
    bare = target.rpartition("]")[2] if target.startswith("[") else target
    return entity if bare.count(":") == 1 else entity | {"target": f"{target}:8000"}


def with_digest(entity: dict[str, Any]) -> dict[str, Any]:
    """The SHA-256 of a CA certificate, by which it is unique."""
    der = pem_bytes(entity["cert"], "CERTIFICATE") or b""
    return entity | {"cert_digest": hashlib.sha256(der).hexdigest()}


def grant(args: dict[str, Any]) -> dict[str, Any]:
    """Actions may be separated by commas, `*` are all of them; a closing slash means nothing."""
    actions, endpoint = args.get("actions"), args.get("endpoint")
    given = [actions] if isinstance(actions, str) else actions
    if isinstance(given, list) and all(isinstance(item, str) for item in given):
        names = [name.strip() for item in given for name in item.split(",")]
        args = args | {"actions": list(_ACTIONS) if "*" in names else names}
    if isinstance(endpoint, str):
        args = args | {"endpoint": endpoint.rstrip("/") or endpoint[:1]}
    return args

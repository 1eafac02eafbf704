"""What a route may match on, by its protocols. The texts are Kong's.

`ws` and `wss` are those of Kong Enterprise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .checks import ENTITY, INVALID, quoted

_FAMILIES: Final = (
    ("http", "https"),
    ("tcp", "tls", "udp"),
    ("tls_passthrough",),
    ("grpc", "grpcs"),
    ("ws", "wss"),
)
_STREAM: Final = "'tcp', 'tls', 'tls_passthrough' or 'udp'"
_HTTP: Final = ("methods", "hosts", "headers", "paths")
_GRPC: Final = ("hosts", "headers", "paths")
_MATCHABLE: Final = (("http", "https", _HTTP), ("grpc", "grpcs", _GRPC), ("ws", "wss", _GRPC))
_TLS: Final = {"grpcs", "https", "tls", "tls_passthrough", "wss"}


def one_family(protocols: Sequence[str]) -> str | None:
    """Protocols of different families do not go together."""
    if sum(not set(protocols).isdisjoint(family) for family in _FAMILIES) < 2:
        return None
    families = ", ".join(f"({quoted(family)})" for family in _FAMILIES)
    return f"these sets are mutually exclusive: {families}"


def matches_something(route: Mapping[str, Any]) -> dict[str, str]:
    """A route has at least one of the fields that its protocols can match on."""
    if route["protocols"] is INVALID:
        return {}
    names, what = _matchable(route["protocols"])
    if any(map(route.get, names)):
        return {}
    one_of = "snis" if names == ("snis",) else f"one of {quoted(names)}"
    return {ENTITY: f"must set {one_of} when 'protocols' is {what}"}


def fits_protocols(route: Mapping[str, Any]) -> dict[str, str]:
    """A route has no field that its protocols cannot match on."""
    protocols = route["protocols"]
    if protocols is INVALID:
        return {}
    wrong = {}
    if _TLS.isdisjoint(protocols) and route["snis"]:
        needed = "'grpcs', 'https', 'tls' or 'tls_passthrough'"
        wrong[ENTITY] = f"'snis' can only be set when 'protocols' is {needed}"
    unusable, what = _unusable(protocols)
    wrong |= {
        name: f"cannot set '{name}' when 'protocols' is {what}"
        for name in unusable
        if route[name] is not None
    }
    return wrong


def _matchable(protocols: Sequence[str]) -> tuple[tuple[str, ...], str]:
    for plain, secure, names in _MATCHABLE:
        if secure in protocols:
            return (*names, "snis"), f"'{secure}'"
        if plain in protocols:
            return names, f"'{plain}'"
    if "tls_passthrough" in protocols:
        return ("snis",), "'tls_passthrough'"
    return ("sources", "destinations", "snis"), "'tcp', 'tls' or 'udp'"


def _unusable(protocols: Sequence[str]) -> tuple[tuple[str, ...], str]:
    if "http" in protocols or "https" in protocols:
        return ("sources", "destinations"), "'http' or 'https'"
    for plain, secure in (("grpc", "grpcs"), ("ws", "wss")):
        if plain in protocols or secure in protocols:
            return ("methods", "sources", "destinations"), f"'{plain}' or '{secure}'"
    return _HTTP, _STREAM

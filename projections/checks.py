"""Kong's conditions on values beyond their type, with Kong's texts. Pure functions.

A check of a value answers with the text of what is wrong, or None. A check of an entity is given
all of its fields, `INVALID` standing for those that are wrong already, and answers with texts by
field; `ENTITY` is the whole.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

Check = Callable[[Any], str | None]
EntityCheck = Callable[[Mapping[str, Any]], Mapping[str, str]]
ENTITY: Final = "@entity"
INVALID: Final[Any] = object()

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_METHOD: Final = re.compile(r"[A-Z]+")
_NAME: Final = re.compile(r"[A-Za-z0-9._~\x80-\U0010ffff-]+")
_TAG: Final = re.compile(r"[ -+\-.0-~\x80-\U0010ffff]+")
_HEADER: Final = re.compile(r"[A-Za-z0-9_-]+")
_LABELS: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~/%:@!$&'()*+,;=-]*")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_VAULT: Final = re.compile(r"\{vault://[^\s{}]+\}")
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]+)-----END \1-----")


def uuid(value: str) -> str | None:
    return None if _UUID.fullmatch(value) else "expected a valid UUID"


def http_method(value: str) -> str | None:
    return None if _METHOD.fullmatch(value) else f"invalid value: {value}"


def name(value: str) -> str | None:
    if _NAME.fullmatch(value):
        return None
    return (
        f"invalid value '{value}': the only accepted ascii characters are alphanumerics"
        " or ., -, _, and ~"
    )


def tag(value: str) -> str | None:
    if _TAG.fullmatch(value):
        return None
    return (
        f"invalid tag '{value}': expected printable ascii (except `,` and `/`)"
        " or valid utf-8 sequences"
    )


def event_name(value: str) -> str | None:
    """A name of a source or event is a segment of paths and of stream names."""
    if len(value) <= 128 and value.isprintable() and "/" not in value:
        return None
    return "invalid value: expected 1 to 128 printable characters without '/'"


def http_url(value: str) -> str | None:
    """An absolute URL that a webhook can be sent to."""
    if _CONTROL.search(value) or " " in value:
        return "could not parse url. it contains blanks or control characters"
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        return f"could not parse url. {error}"
    if not parts.hostname:
        return "missing host in url"
    if not parts.scheme:
        return "missing scheme in url"
    if parts.scheme not in ("http", "https"):
        return "expected an http or https url"
    return None if port_is_valid else "could not parse url. Port out of range 1-65535"


def header_name(value: str) -> str | None:
    if _HEADER.fullmatch(value):
        return None
    return f"bad header name '{value}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


def header_value(value: str) -> str | None:
    """A line break in a value would start another header."""
    return "invalid value: control character" if _CONTROL.search(value) else None


def path(value: str) -> str | None:
    if not value.startswith("/"):
        return "should start with: /"
    if "//" in value:
        return "must not have empty segments"
    if not _PATH.fullmatch(value):
        return (
            f"invalid path: '{value}' (characters outside of the reserved list of RFC 3986 found)"
        )
    bad = _PERCENT.search(value)
    return f"invalid url-encoded value: '{bad.group()}'" if bad else None


def route_path(value: str) -> str | None:
    """A prefix `/...` or a regular expression `~/...`; the expression is not compiled."""
    if value.startswith("~/"):
        return None
    if not value.startswith("/"):
        return "should start with: / (fixed path) or ~/ (regex path)"
    return path(value)


def endpoint(value: str) -> str | None:
    """`*`, or the path of endpoints without workspace and closing slash."""
    if value == "*":
        return None
    return "must be * or start with /" if not value.startswith("/") else None


def host(value: str) -> str | None:
    """A host name or an address, without a port."""
    if _is_address(value.strip("[]")):
        return None
    if ":" in value:
        return "must not have a port"
    return None if _LABELS.fullmatch(value) else f"invalid value: {value}"


def wildcard_host(value: str) -> str | None:
    """A host name that may start or end with one `*`."""
    if value.count("*") > 1:
        return "only one wildcard must be specified"
    if "*" in value.strip("*"):
        return "wildcard must be leftmost or rightmost character"
    plain = value.replace("*", "wildcard")
    return "must not be an IP" if _is_address(plain) else host(plain)


def route_host(value: str) -> str | None:
    """A host name, with or without a wildcard and a port, or an address."""
    plain, _, port = value.rpartition(":")
    name = plain if _PORT.fullmatch(port) else value
    return host(name) if _is_address(name) else wildcard_host(name)


def upstream_name(value: str) -> str | None:
    if _is_address(value.strip("[]")):
        return f"Invalid name ('{value}'); no ip addresses allowed"
    wrong = host(value)
    if wrong == "must not have a port":
        return f"Invalid name ('{value}'); no port allowed"
    return f"Invalid name ('{value}'); must be a valid hostname" if wrong else None


def target(value: str) -> str | None:
    """A host or address, with or without a port."""
    name, _, port = value.rpartition(":")
    has_port = _PORT.fullmatch(port) is not None and int(port) <= 65535
    if host(name if has_port else value) is None:
        return None
    return f"Invalid target ('{value}'); not a valid hostname or ip address"


def certificate(value: str) -> str | None:
    """PEM that holds a certificate, or where it is kept. Contents and dates are not looked at."""
    if pem_bytes(value, "CERTIFICATE") or _VAULT.fullmatch(value):
        return None
    return "invalid certificate: not in PEM format"


def private_key(value: str) -> str | None:
    if pem_bytes(value, "PRIVATE KEY") or _VAULT.fullmatch(value):
        return None
    return "invalid key: not in PEM format"


def public_key(value: str) -> str | None:
    return None if pem_bytes(value, "PUBLIC KEY") else "invalid key"


def pem_bytes(text: str, label: str) -> bytes | None:
    """The first PEM block whose label ends with `label`, decoded."""
    for block in _PEM.finditer(text):
        if block.group(1).endswith(label):
            try:
                return base64.b64decode("".join(block.group(2).split()), validate=True)
            except binascii.Error:
                return None
    return None


def excluding(field: str, names: Collection[str]) -> EntityCheck:
    """Texts that `field` must not have."""
    text = f"must not be one of: {', '.join(sorted(names))}"
    return lambda entity: {field: text} if entity[field] in names else {}


class AtLeastOneOf:
    """One of the fields `names`, or several, must have a value."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._text = f"at least one of these fields must be non-empty: {quoted(names)}"

    def __call__(self, entity: Mapping[str, Any]) -> dict[str, str]:
        return {} if any(map(entity.get, self.names)) else {ENTITY: self._text}


def exactly_one_of(*names: str) -> EntityCheck:
    text = f"exactly one of these fields must be non-empty: {quoted(names)}"
    return lambda entity: {} if sum(map(bool, map(entity.get, names))) == 1 else {ENTITY: text}


def all_or_none_of(*names: str) -> EntityCheck:
    text = f"all or none of these fields must be set: {quoted(names)}"
    return lambda entity: {} if len({bool(entity[name]) for name in names}) == 1 else {ENTITY: text}


def distinct(one: str, other: str) -> EntityCheck:
    wrong = {ENTITY: f"values of these fields must be distinct: {quoted((one, other))}"}
    return lambda entity: wrong if entity[one] and entity[one] == entity[other] else {}


def when(field: str, values: Collection[str], then: str, rule: Check) -> EntityCheck:
    """While `field` has one of `values`, `then` has to satisfy `rule`."""
    text = f"failed conditional validation given value of field '{field}'"

    def check(entity: Mapping[str, Any]) -> dict[str, str]:
        applies = entity[then] is not INVALID and entity[field] in values
        wrong = rule(entity[then]) if applies else None
        return {} if wrong is None else {ENTITY: text, then: wrong}

    return check


def required(value: Any) -> str | None:
    return "required field missing" if value is None else None


def absent(value: Any) -> str | None:
    return None if value is None else "value must be null"


def one_of(*choices: str) -> Check:
    text = f"expected one of: {', '.join(choices)}"
    return lambda value: None if value in choices else text


def quoted(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True

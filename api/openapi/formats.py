"""What JSON Schema can say of the conditions on values in `projections.checks`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from projections import checks
from projections.checks import Check

_ADDRESS: Final = r"\[*[0-9A-Fa-f:.]+(%[^\]]+)?\]*"
_LABELS: Final = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
_PEM: Final = {"contentMediaType": "application/x-pem-file"}

FORMATS: Final[Mapping[Check, Mapping[str, Any]]] = {
    checks.uuid: {"format": "uuid"},
    checks.name: {"pattern": r"^[^\u0000-,/:-@\[-\^`{-}\u007f]+$"},
    checks.tag: {"pattern": r"^[^\u0000-\u001f,/\u007f]+$"},
    checks.event_name: {"pattern": r"^[^\u0000-\u001f/\u007f]+$", "maxLength": 128},
    checks.http_url: {"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://."},
    checks.http_method: {"pattern": "^[A-Z]+$"},
    checks.header_name: {"pattern": "^[A-Za-z0-9_-]+$"},
    checks.header_value: {"pattern": r"^[^\u0000-\u001f\u007f]*$"},
    checks.path: {"pattern": "^/"},
    checks.route_path: {"pattern": "^~?/"},
    checks.endpoint: {"pattern": r"^(\*$|/)"},
    checks.host: {"pattern": f"^({_LABELS}|{_ADDRESS})$"},
    checks.certificate: _PEM,
    checks.private_key: _PEM,
    checks.public_key: _PEM,
}
"""What a schema can say of a condition; the others are said in words only."""


def conditions(given: Iterable[Check]) -> Iterator[tuple[str, Any]]:
    """The keywords for these conditions, and in words what they want."""
    words = []
    for check in given:
        yield from FORMATS.get(check, {}).items()
        words += [line for line in (check.__doc__ or "").strip().splitlines()[:1] if line]
    if words:
        yield "description", " ".join(words)

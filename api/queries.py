"""Parameters of queries, checked."""

import math
from collections.abc import Callable

from starlette.requests import Request

from api.responses import InvalidOffset, InvalidOption, InvalidSize
from projections.entities import Entity
from projections.tables import Table

_PAGE = 100
_LARGEST_PAGE = 1000
_MOST_TAGS = 5

Match = Callable[[Entity], bool]
"""Whether a list shows an entity."""


def page_size(request: Request) -> int:
    """`?size=`, 100 by default. Raises InvalidSize."""
    given = request.query_params.get("size")
    if given is None:
        return _PAGE
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= _LARGEST_PAGE:
        raise InvalidSize
    return int(given)


def position(request: Request, name: str) -> int | None:
    """A position in the log; None when it is not given. Raises InvalidOffset."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise InvalidOffset(given, "expected a position")
    return int(given)


def seconds(request: Request, name: str, most: float) -> float:
    """A duration between 0, the default, and `most`. Raises InvalidOption."""
    try:
        value = float(request.query_params.get(name, "0"))
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise InvalidOption({name: f"expected a number of seconds between 0 and {most:.0f}"})
    return value


def flag(request: Request, name: str) -> bool:
    """`true` or `false`, false by default. Raises InvalidOption."""
    given = request.query_params.get(name, "false")
    if given not in ("true", "false"):
        raise InvalidOption({name: "expected a boolean"})
    return given == "true"


def tag_filter(http: Request, table: Table) -> Match | None:
    """`?tags=a,b` asks for both, `a/b` for either. Raises InvalidOption."""
    given = http.query_params.get("tags")
    if given is None:
        return None
    if "tags" not in table.record.fields:
        raise InvalidOption({"tags": f"cannot be used with '{table.name}'"})
    if not given:
        raise InvalidOption({"tags": "cannot be null"})
    separator = "/" if "/" in given else ","
    wanted = set(given.split(separator))
    if "" in wanted or (separator == "/" and "," in given):
        raise InvalidOption({"tags": "invalid filter syntax"})
    if len(wanted) > _MOST_TAGS:
        raise InvalidOption({"tags": f"cannot query more than {_MOST_TAGS} tags"})
    if separator == "/":
        return lambda row: not wanted.isdisjoint(row.entity.get("tags", ()))
    return lambda row: wanted.issubset(row.entity.get("tags", ()))

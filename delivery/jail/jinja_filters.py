"""What Jinja templates may do with values: filters, tests and functions, all pure and bounded.

Numbers, nulls and booleans print as from the resty engine. Jinja's own filters are used only where
they neither turn values into text nor take a size: the others would print Python's `None`, or make
gigabytes of a few characters. Missing here because they cannot be bounded, or reach more than data:
attr, batch, center, format, groupby, indent, pprint, random, slice, urlize, wordwrap, xmlattr.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec
from jinja2 import Environment, TemplateRuntimeError, Undefined, filters, pass_environment, tests

from delivery.templates import number_text

MAX_TEXT: Final = 1024 * 1024
"""Characters of a text that a template makes on its way: the largest event has as many."""

MAX_ITEMS: Final = 100_000
"""Of a range, or of a list made of others."""

_MAX_DIGITS: Final = 20
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "/": "&#47;"}
)
_KINDS: Final = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    range: "a list",
    dict: "a mapping",
}


def kind(value: object) -> str:
    """What the value is, in a template author's words."""
    return _KINDS.get(type(value), "a part of the template")


def text(value: Any) -> str:
    """The value as it prints. Lists and mappings, which have no text in Lua, print as JSON."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Undefined):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    return json(value)


def json(value: Any) -> str:
    """Plain JSON: `<`, `>` and `&` as they are, numbers in full, and null for what is missing."""
    _measure(value)
    made = msgspec.json.encode(value, enc_hook=_plain).decode()
    bounded(len(made))
    return made


def joined(parts: list[str], separator: str = "") -> str:
    """The parts as one text."""
    bounded(sum(map(len, parts)) + len(separator) * (len(parts) - 1))
    return separator.join(parts)


def bounded_range(*arguments: int) -> range:
    """Python's range, with at most `MAX_ITEMS`."""
    items = range(*arguments)
    if items[MAX_ITEMS:]:
        raise TemplateRuntimeError(f"a range of more than {MAX_ITEMS} items")
    return items


def bounded(size: int) -> None:
    """Raises when so many characters are too many."""
    if size > MAX_TEXT:
        raise TemplateRuntimeError("the text becomes too long")


def number(value: Any) -> Any:
    """The value, which must be a number: Python's operators would take others, too."""
    if not isinstance(value, int | float | Undefined):
        raise TemplateRuntimeError(f"{kind(value)} where a number is needed")
    return value


def _measure(value: Any) -> None:
    # A few lists, each holding the one before many times, are more than any memory as JSON.
    size = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        size += len(item) if isinstance(item, str) else 1
        bounded(size)
        if isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


def _plain(value: object) -> Any:
    if isinstance(value, Undefined):
        return None
    if isinstance(value, range):
        return list(value)
    raise TemplateRuntimeError(f"{kind(value)} has no text form")


def _of_text(function: Callable[..., str]) -> Callable[..., str]:
    """A filter that takes any value as its text."""

    def of_text(value: Any, *rest: Any, **named: Any) -> str:
        made = function(text(value), *rest, **named)
        bounded(len(made))
        return made

    return of_text


def _eager(function: Callable[..., Iterable[Any]]) -> Callable[..., list[Any]]:
    """A filter that makes a list, which unlike a generator has a length, an end and a text."""

    @functools.wraps(function)  # also keeps what Jinja is to pass
    def eager(*arguments: Any, **named: Any) -> list[Any]:
        return list(function(*arguments, **named))

    return eager


def _escape(value: str) -> str:
    return value.translate(_ESCAPES)


def _replace(value: str, old: Any, new: Any, count: int = -1) -> str:
    old, new = text(old), text(new)
    times = value.count(old) if count < 0 else min(count, value.count(old))
    bounded(len(value) + times * (len(new) - len(old)))
    return value.replace(old, new, count)


def _urlencode(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ((quote_plus(text(key)), quote_plus(text(item))) for key, item in value.items())
        return joined([f"{key}={item}" for key, item in pairs], "&")
    made = quote(text(value))
    bounded(len(made))
    return made


@pass_environment
def _join(environment: Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    item = filters.make_attrgetter(environment, attribute)
    return joined([text(item(part)) for part in value], text(d))


@pass_environment
def _truncate(environment: Environment, value: Any, *rest: Any, **named: Any) -> str:
    return filters.do_truncate(environment, text(value), *rest, **named)


def _default(value: Any, instead: Any = "", boolean: bool = False) -> Any:
    # An event's null is as good as missing, as it is for the resty engine.
    missing = value is None or isinstance(value, Undefined)
    return instead if missing or (boolean and not value) else value


def _length(value: Any) -> int:
    if isinstance(value, int | float):
        raise TemplateRuntimeError(f"{kind(value)} has no length")
    return 0 if value is None else len(value)


def _reverse(value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else list(value)[::-1]


@pass_environment
def _sum(environment: Environment, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    item = filters.make_attrgetter(environment, attribute)
    return sum((number(item(part)) for part in value), number(start))


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    if abs(precision) > _MAX_DIGITS:
        raise TemplateRuntimeError(f"rounding to more than {_MAX_DIGITS} digits")
    return filters.do_round(number(value), precision, method)


_AS_THEY_ARE: Final = ("dictsort", "first", "float", "int", "last", "list", "max", "min", "sort")
_LAZY: Final = ("items", "map", "reject", "rejectattr", "select", "selectattr", "unique")
_TESTS: Final = (
    *("undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string"),
    *("mapping", "sequence", "iterable", "lower", "upper", "sameas", "in", "eq", "equalto", "=="),
    *("ne", "!=", "gt", "greaterthan", ">", "ge", ">=", "lt", "lessthan", "<", "le", "<="),
)

FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {"range": bounded_range, "json": json}
"""All that a template can call but its own macros; a field of the same name hides one."""

FILTERS: Final[Mapping[str, Any]] = {
    **{name: filters.FILTERS[name] for name in _AS_THEY_ARE},
    **{name: _eager(filters.FILTERS[name]) for name in _LAZY},
    "string": text,
    "upper": _of_text(str.upper),
    "lower": _of_text(str.lower),
    "capitalize": _of_text(str.capitalize),
    "title": _of_text(filters.do_title),
    "trim": _of_text(str.strip),
    "e": _of_text(_escape),
    "escape": _of_text(_escape),
    "replace": _of_text(_replace),
    "tojson": json,
    "urlencode": _urlencode,
    "join": _join,
    "truncate": _truncate,
    "default": _default,
    "d": _default,
    "length": _length,
    "count": _length,
    "reverse": _reverse,
    "sum": _sum,
    "abs": lambda value: abs(number(value)),
    "round": _round,
}

TESTS: Final[Mapping[str, Any]] = {
    **{name: tests.TESTS[name] for name in _TESTS},
    "defined": lambda value: not isinstance(value, Undefined),
    # Python's `%` would format a text.
    "odd": lambda value: number(value) % 2 == 1,
    "even": lambda value: number(value) % 2 == 0,
    "divisibleby": lambda value, by: number(value) % number(by) == 0,
}

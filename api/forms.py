"""Forms as trees: what Kong's documentation says about the names of arguments, and no more.

    a.b=v          {"a": {"b": "v"}}         a[foo]=v     {"a": {"foo": "v"}}
    a[]=v&a[]=w    {"a": ["v", "w"]}         a[1]=v       {"a": ["v"]}
    a=v&a=w        {"a": ["v", "w"]}         .a=v, a.=v   taken literally

Values stay text, except for a multipart part that says it is JSON. Names that contradict each
other, like `a=1` beside `a.b=2`, are refused rather than guessed about.
"""

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.responses import BadRequest

_STEPS: Final = 64
_HEAD: Final = re.compile(r"[^.\[]+")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]*)\]")

Step = str | int | None
"""A key of a map, a place in an array, or (None) the next place in an array."""

Pair = tuple[str, Any]


class _Branch(dict[str | int, Any]):
    """Arguments below a name; what a JSON part brings along is an ordinary dict, and a leaf."""


class _Values(list[Any]):
    """Everything given under one whole name, in order."""


def urlencoded(raw: bytes, limit: int) -> list[Pair]:
    """The arguments of a urlencoded body, at most `limit`. Raises BadRequest."""
    try:
        return parse_qsl(
            raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=limit
        )
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not UTF-8") from error
    except ValueError as error:
        raise BadRequest("Too many arguments") from error


def multipart(raw: bytes, content_type: str, limit: int) -> list[Pair]:
    """The parts of a multipart body, at most `limit`. A file's content is its value.

    Raises BadRequest.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("multipart/form-data without a boundary")
    parts = _Parts(limit)
    try:
        MultipartParser(boundary, parts.callbacks()).write(raw)
    except FormParserError as error:
        raise BadRequest("Cannot parse the multipart body") from error
    if not parts.complete:
        raise BadRequest("the multipart body ends too early")
    return parts.pairs


def nested(pairs: Iterable[Pair]) -> dict[str, Any]:
    """The tree that the names of the arguments describe. Raises BadRequest."""
    root = _Branch()
    for name, value in pairs:
        path = _path(name)
        if len(path) > _STEPS:
            raise BadRequest(f"'{path[0]}' is nested deeper than {_STEPS} levels")
        if not _place(root, path, value):
            raise BadRequest(f"'{name}' contradicts another argument")
    return {str(name): _grown(child) for name, child in root.items()}


def _path(name: str) -> list[Step]:
    """The steps of a name; a name that follows no rule is one step."""
    head = _HEAD.match(name)
    if head is None or name.endswith("."):
        return [name]
    path: list[Step] = [head[0]]
    at = head.end()
    while at < len(name):
        step = _STEP.match(name, at)
        if step is None:
            return [name]
        path.append(step[1] if step[1] is not None else _inside(step[2]))
        at = step.end()
    return path


def _inside(text: str) -> Step:
    """What stands in brackets: nothing, a place counted from 1, or a key."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def _place(branch: _Branch, path: list[Step], value: Any) -> bool:
    """Put a value where its name says; False if something else is there already."""
    *above, last = path
    for step in above:
        child = branch.setdefault(_key(branch, step), _Branch())
        if not isinstance(child, _Branch):
            return False
        branch = child
    values = branch.setdefault(_key(branch, last), _Values())
    if not isinstance(values, _Values):
        return False
    values.append(value)
    return True


def _key(branch: _Branch, step: Step) -> str | int:
    if step is not None:
        return step
    return 1 + max((key for key in branch if isinstance(key, int)), default=0)


def _grown(node: _Branch | _Values) -> Any:
    """A node as plain data: an array where every step was a place, else a map."""
    if isinstance(node, _Values):
        return node[0] if len(node) == 1 else list(node)
    places = [key for key in node if isinstance(key, int)]
    if len(places) == len(node):
        return [_grown(node[place]) for place in sorted(places)]
    return {str(key): _grown(child) for key, child in node.items()}


class _Parts:
    """Gathers the parts of a multipart body as the parser finds them."""

    def __init__(self, limit: int) -> None:
        self.pairs: list[Pair] = []
        self.complete = False
        self._limit = limit
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._content: list[bytes] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.pairs) == self._limit:
            raise BadRequest("Too many arguments")
        self._headers, self._content = {}, []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        name = options.get(b"name")
        if name is None:
            raise BadRequest("a part of the multipart body has no name")
        self.pairs.append((_text(name), self._decoded(b"".join(self._content))))

    def _decoded(self, content: bytes) -> Any:
        if not self._headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            return _text(content)
        try:
            return msgspec.json.decode(content)
        except (ValueError, RecursionError) as error:
            raise BadRequest("Cannot parse JSON body") from error

    def _finish(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not UTF-8") from error

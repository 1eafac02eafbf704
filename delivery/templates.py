"""Renders the resty templates that need no Lua: text and plain paths.

A path is names, `[1]` and `["k"]`. Values print as in Lua: strings with six characters escaped in
`{{ }}`, a missing leaf or a null as nothing, numbers with 14 digits, a `false` as nothing at the
top level (there it counts as missing) and as `false` below it. Lists count from 1. Indexing what is
missing is an error.

Other templates are for `jail/resty.py`, and so are values whose text only Lua knows. What is
rendered here is byte for byte what LuaJIT would make of it there.
"""

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from .resty_syntax import Expression, Part, TemplateError, parse

__all__ = ["Budget", "NotPlain", "Template", "TemplateError", "compile_template", "number_text"]

_ROOT = re.compile(r"[^\W\d]\w*")
_STEP = re.compile(
    r"""[ \t\n\v\f\r]*
        (?: \.[ \t\n\v\f\r]* (?P<name> [^\W\d]\w* )
          | \[[ \t\n\v\f\r]*
            (?: (?P<index> [0-9]{1,9} ) | "(?P<key>[^\\\n\r\0"]*)" | '(?P<key2>[^\\\n\r\0']*)' )
            [ \t\n\v\f\r]*\]
        )""",
    re.VERBOSE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS: Final = _words(
    "and break do else elseif end false for function goto if in local nil not or repeat return then"
    " true until while"
)
_LOCALS: Final = _words("template blocks layout include echo ___")
"""Of every compiled template: they hide a field of that name."""

_GLOBALS: Final = _words(
    "_G _VERSION arg assert bit cjson collectgarbage compile compile_file compile_string"
    " coroutine debug dofile error escape gcinfo getfenv getmetatable hook io ipairs jit json"
    " kong load load_file load_string loadfile loadstring math module ndk new newproxy next ngx"
    " null os output package pairs parse parse_file parse_string pcall precompile"
    " precompile_file precompile_string print process process_file process_string rawequal"
    " rawget rawlen rawset render render_file render_string require select setfenv setmetatable"
    " string table tonumber tostring type unpack utf8 xpcall"
)
"""What Lua may find, and call or print, when the event has no such field."""

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "/": "&#47;"}
)
_ESCAPED = re.compile("[&<>\"'/]")

MAX_CHARACTERS: Final = 1024 * 1024
"""As long as the largest event: a few tags must not turn one field into gigabytes."""


class NotPlain(Exception):
    """With these values the template needs Lua."""


class Budget:
    """How much text the templates of one delivery may still produce together."""

    def __init__(self, characters: int = MAX_CHARACTERS) -> None:
        self._left = characters

    def spend(self, text: str) -> bool:
        """Takes the text's length off; false when there was not enough left."""
        self._left -= len(text)
        return self._left >= 0


class _Path(msgspec.Struct, frozen=True):
    """A tag: its place and text for messages, where it leads, and whether strings are escaped."""

    line: int
    text: str
    root: str
    steps: tuple[str | int, ...]
    escape: bool

    def render(self, context: dict[str, Any]) -> str:
        value = self._value(context)
        if isinstance(value, str):
            return value.translate(_ESCAPES) if self.escape and _ESCAPED.search(value) else value
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return number_text(value)
        raise NotPlain

    def _value(self, context: dict[str, Any]) -> Any:
        value: Any = context if self.root == "context" else context.get(self.root)
        if value is False:
            value = None
        if value is None and self.root in _GLOBALS:
            raise NotPlain
        for step in self.steps:
            value = self._index(value, step)
        return value

    def _index(self, value: Any, step: str | int) -> Any:
        if isinstance(value, dict):
            return value.get(step)
        if isinstance(value, list):
            return value[step - 1] if isinstance(step, int) and 0 < step <= len(value) else None
        if isinstance(value, str):
            raise NotPlain  # Lua looks among its string functions
        kind = {type(None): "nothing", bool: "a boolean"}.get(type(value), "a number")
        raise TemplateError(self.line, f"`{self.text:.80}` looks for {step!r} in {kind}")


class Template:
    """A template of text and plain paths. Rendering has no effects."""

    def __init__(self, parts: tuple[str | _Path, ...]) -> None:
        self._parts = parts

    def render(self, context: dict[str, Any], budget: Budget | None = None) -> str:
        """The text for one event.

        Raises NotPlain if only Lua can tell it, and TemplateError, also beyond the budget.
        """
        budget = budget or Budget()
        texts = []
        for part in self._parts:
            text = part if isinstance(part, str) else part.render(context)
            if not budget.spend(text):
                line = 1 if isinstance(part, str) else part.line
                raise TemplateError(line, "the text becomes too long")
            texts.append(text)
        return "".join(texts)


@lru_cache(maxsize=1024)
def compile_template(source: str) -> Template | None:
    """Compiles `source`, or answers as before for the same text; None if it needs Lua.

    Takes time linear in the length. Raises TemplateError for what no engine would render.
    """
    parts = [_plain(part) for part in parse(source)]
    return None if None in parts else Template(tuple(part for part in parts if part is not None))


def number_text(value: float) -> str:
    """`%.14g`, as LuaJIT prints a number."""
    try:
        return f"{float(value):.14g}"
    except OverflowError:
        return "inf" if value > 0 else "-inf"


def _plain(part: Part) -> str | _Path | None:
    if isinstance(part, str):
        return part
    return _path(part) if isinstance(part, Expression) else None


def _path(expression: Expression) -> _Path | None:
    code = expression.code
    root = _ROOT.match(code)
    if root is None or root[0] in _KEYWORDS or root[0] in _LOCALS:
        return None
    steps: list[str | int] = []
    position = root.end()
    while step := _STEP.match(code, position):
        if step["name"] in _KEYWORDS:
            return None
        steps.append(_step(step))
        position = step.end()
    if position < len(code):
        return None
    return _Path(expression.line, code, root[0], tuple(steps), expression.escaped)


def _step(step: re.Match[str]) -> str | int:
    if step["index"]:
        return int(step["index"])
    return step["name"] or step["key"] or step["key2"] or ""

r"""Templates made of plain paths, with the rules of lua-resty-template 2.0.

`{{ a.b }}` prints the value with six characters of strings escaped, `{* a.b *}` prints it as it is.
A path is names, `[1]` and `["k"]`. `\{{` is a literal tag, `\\{{` a backslash and a tag; a tag that
is not closed is text. Everything else of that language is Lua and is refused when compiled.

Values print as in Lua: a missing leaf or a null is empty, numbers have 14 digits, a `false` is
empty at the top level (there it counts as missing) and `false` below it. Lists count from 1.
Indexing what is missing is an error, and so is printing a table.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

_CLOSERS: Final = {"{": "}}", "*": "*}", "%": "%}", "#": "#}", "(": ")}", "[": "]}", "-": "-}"}
_OPENER = re.compile(r"\{[{*%#(\[-]")

_ROOT = re.compile(r"[^\W\d]\w*")
_STEP = re.compile(
    r"""\s*(?: \.\s* (?P<name> [^\W\d]\w* )
          | \[\s* (?: (?P<index> [0-9]{1,9} ) | (?P<quote>["'])(?P<key>[^\\\n]*?)(?P=quote) ) \s*\]
        )""",
    re.VERBOSE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYWORDS: Final = _words(
    "and break do else elseif end false for function if in local nil not or repeat return then true"
    " until while"
)
_ENGINE: Final = _words("template blocks layout include echo ___")
"""Locals of every compiled template: they hide a field of that name."""

_GLOBALS: Final = _words(
    "_G _VERSION assert bit cache caching collectgarbage compile compile_file compile_string"
    " coroutine debug dofile error escape gcinfo getfenv getmetatable io ipairs jit kong load"
    " load_file load_string loadfile loadstring math module ndk new newproxy next ngx os output"
    " package pairs parse parse_file parse_string pcall precompile precompile_file"
    " precompile_string print process process_file process_string rawequal rawget rawset render"
    " render_file render_string require select setfenv setmetatable string table tonumber tostring"
    " type unpack visit xpcall"
)
"""What the original finds when the event has no such field: it calls it or prints an address."""

_STRING_METHODS: Final = _words(
    "byte char dump find format gmatch gsub len lower match rep reverse sub upper"
)
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "/": "&#47;"}
)
_ESCAPED = re.compile("[&<>\"'/]")

# A Lua long string takes any of these for one newline and drops the one it begins with.
_NEWLINE = re.compile(r"\r\n|\n\r|\r")


MAX_CHARACTERS: Final = 1024 * 1024
"""As long as the largest event: a few tags must not turn one field into gigabytes."""


class TemplateError(ValueError):
    """A template that cannot be compiled or rendered. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


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
        raise TemplateError(self.line, f"`{self.text:.80}` is a table, which has no text form")

    def _value(self, context: dict[str, Any]) -> Any:
        value: Any = context if self.root == "context" else context.get(self.root)
        if value is False:
            value = None
        if value is None and self.root in _GLOBALS:
            raise TemplateError(
                self.line,
                f"the event has no `{self.root}`, which in Lua would mean something else;"
                f" `context.{self.root}` means the event only",
            )
        for step in self.steps:
            value = self._index(value, step)
        return value

    def _index(self, value: Any, step: str | int) -> Any:
        if isinstance(value, dict):
            return value.get(step)
        if isinstance(value, list):
            return value[step - 1] if isinstance(step, int) and 0 < step <= len(value) else None
        if isinstance(value, str) and step not in _STRING_METHODS:
            return None
        kind = {type(None): "nothing", bool: "a boolean", str: "a string"}.get(type(value))
        raise TemplateError(
            self.line, f"`{self.text:.80}` looks for {step!r} in {kind or 'a number'}"
        )


class Template:
    """A compiled template. Rendering has no effects."""

    def __init__(self, parts: tuple[str | _Path, ...]) -> None:
        self._parts = parts

    def render(self, context: dict[str, Any], budget: Budget | None = None) -> str:
        """The text for one event. Raises TemplateError, also when the budget is exceeded."""
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
def compile_template(source: str) -> Template:
    """Compiles `source`, or answers with the template compiled before from the same text.

    Takes time linear in the length. Raises TemplateError for anything but text and plain paths.
    """
    return Template(tuple(part for part in _parse(source) if part))


def walk(value: Any, context: dict[str, Any], budget: Budget | None = None) -> Any:
    """A copy of a JSON-like value with every string in it rendered. Keys stay as they are."""
    budget = budget or Budget()
    if isinstance(value, str):
        return compile_template(value).render(context, budget)
    if isinstance(value, dict):
        return {key: walk(item, context, budget) for key, item in value.items()}
    if isinstance(value, list):
        return [walk(item, context, budget) for item in value]
    return value


def number_text(value: float) -> str:
    """`%.14g`, as LuaJIT prints a number."""
    try:
        return f"{float(value):.14g}"
    except OverflowError:
        return "inf" if value > 0 else "-inf"


def _parse(source: str) -> Iterator[str | _Path]:
    begin = position = 0  # of the text not yet given out, and of the search for the next tag
    line = 1  # at `begin`
    unclosed: set[str] = set()  # kinds of tags that do not end any more: never search again
    while tag := _OPENER.search(source, position):
        opening, kind = tag.start(), tag[0][1]
        closing = -1 if kind in unclosed else source.find(_CLOSERS[kind], opening + 2)
        if closing < 0:
            unclosed.add(kind)
            position = opening + 1
            continue
        escaping, escaped = _backslash(source, begin, opening)
        yield _text(source[begin : opening - escaping])
        line += source.count("\n", begin, opening)
        if escaped:
            begin, position = opening, opening + 1
            continue
        inside = source[opening + 2 : closing].strip(" \t\n\v\f\r")
        if kind not in "{*":
            raise TemplateError(
                line, f"`{tag[0]} {_CLOSERS[kind]}`: only plain paths are supported here"
            )
        if inside:
            yield _path(line, inside, escape=kind == "{")
        line += source.count("\n", opening, closing)
        begin = position = closing + 2
    yield _text(source[begin:])


def _backslash(source: str, begin: int, opening: int) -> tuple[int, bool]:
    """How many backslashes before a tag are for the tag (0 or 1), and whether they make it text."""
    if not source.endswith("\\", begin, opening):
        return 0, False
    return 1, not source.endswith("\\\\", begin, opening)


def _path(line: int, inside: str, *, escape: bool) -> _Path:
    root = _ROOT.match(inside)
    steps: list[str | int] = []
    names = {root[0]} if root else set()
    position = root.end() if root else 0
    while root and (step := _STEP.match(inside, position)):
        names.add(step["name"] or "")
        steps.append(int(step["index"]) if step["index"] else step["name"] or step["key"])
        position = step.end()
    if root is None or position < len(inside) or names & _KEYWORDS:
        raise TemplateError(line, f"`{inside:.80}`: only plain paths are supported here")
    if root[0] in _ENGINE:
        raise TemplateError(
            line, f"`{root[0]}` belongs to the template engine; write `context.{root[0]}`"
        )
    return _Path(line, inside, root[0], tuple(steps), escape)


def _text(source: str) -> str:
    """Literal text as a Lua long string holds it, with one kind of newline."""
    if "\r" not in source:
        return source
    return _NEWLINE.sub("\n", "\n" + source)[1:]

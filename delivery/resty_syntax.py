r"""The syntax of lua-resty-template 2.0: where the tags of a template are and what they hold.

`{{ code }}` and `{* code *}` print a value, `{% code %}` is Lua, `{# #}` a comment. What stands
between two `{-name-}` is a block, or plain text if the name is `raw` or `verbatim`. A tag ends at
the first closer, even inside a Lua string; one that does not end is text, and so is `\{{ code }}`
without its backslash. A line break after `%}`, `#}` and `-}` and one at the end of a block go, and
so do blanks before `{%` and a block.

Includes, `{(file)}` and `{[code]}`, and layouts are refused: no template reads files.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

import msgspec

INCLUDES_DISABLED: Final = "includes are disabled"

MAX_NAME: Final = 128
"""Characters of a block's name: what seems to have a longer one is text."""

_OPENER = re.compile(r"\{[{*%#(\[-]")
_CLOSERS: Final = {"{": "}}", "*": "*}", "%": "%}", "#": "#}", "(": ")}", "[": "]}", "-": "-}"}
_RAW: Final = frozenset({"raw", "verbatim"})
_SPACE: Final = " \t\n\v\f\r"  # as Lua sees it

# A Lua long string, which is what holds text in the original, takes any of these for one newline.
_NEWLINE = re.compile(r"\r\n|\n\r|\r")

_STRING = re.compile(r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?""", re.DOTALL)
_INCLUDE = re.compile(r"""(?<![\w.:])include\s*[("'\[]|^layout\s*=(?!=)""")


class TemplateError(ValueError):
    """A template that cannot be compiled or rendered. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.message = message


class Expression(msgspec.Struct, frozen=True):
    """What prints the value of `code`; `escaped` if that is a string."""

    line: int
    code: str
    escaped: bool


class Statements(msgspec.Struct, frozen=True):
    """Lua, as a rule not whole statements."""

    line: int
    code: str


class Block(msgspec.Struct, frozen=True):
    """A template whose text is kept under a name. `source` begins at `line`."""

    line: int
    name: str
    source: str


Part = str | Expression | Statements | Block
"""Of a template; a string is text to print."""


def parse(source: str, line: int = 1) -> Iterator[Part]:
    """The parts of a template that begins at `line`, in time linear in its length.

    Raises TemplateError for includes and layouts. The source of a block is not parsed.
    """
    return _Parser(source, line).parts()


class _Tag(NamedTuple):
    """Where a tag is, the contents of a block included; blocks are of kind "-", raw text of "r"."""

    kind: str
    opening: int
    inside: int
    closing: int
    end: int
    name: str = ""


class _Parser:
    def __init__(self, source: str, line: int) -> None:
        self._source = source
        self._line = line
        self._counted = 0  # the place that `_line` is the line of
        self._closers: dict[str, int] = {}  # the last one found of each kind of tag

    def parts(self) -> Iterator[Part]:
        source = self._source
        begin = position = 0  # of the text not yet given out, and of the search for the next tag
        while opener := _OPENER.search(source, position):
            opening = opener.start()
            position = opening + 1
            tag = self._tag(opener[0][1], opening)
            if tag is None:
                continue
            backslashes = _backslashes(source, begin, opening)
            if text := _text_before(source[begin:opening], tag.kind, backslashes):
                yield text
            begin = opening
            if backslashes != 1:
                yield from self._parts_of(tag)
                begin = position = tag.end
        if text := _text(source[begin:]):
            yield text

    def _tag(self, kind: str, opening: int) -> _Tag | None:
        """What opens here, if it also closes."""
        if kind == "-":
            return self._block(opening)
        closing = self._closers.get(kind, 0)
        if 0 <= closing < opening + 2:
            self._closers[kind] = closing = self._source.find(_CLOSERS[kind], opening + 2)
        if closing < 0:
            return None
        end = closing + 2
        if kind in "%#":
            end += self._source.startswith("\n", end)
        return _Tag(kind, opening, opening + 2, closing, end)

    def _block(self, opening: int) -> _Tag | None:
        name = _block_name(self._source, opening)
        if name is None:
            return None
        places = self._block_tags[name]
        inside = opening + len(name) + 4
        while places and places[-1] < inside:
            places.pop()
        if not places:
            return None
        end = places[-1] + len(name) + 4
        end += self._source.startswith("\n", end)
        name = name.strip(_SPACE)
        return _Tag("r" if name in _RAW else "-", opening, inside, places[-1], end, name)

    @cached_property
    def _block_tags(self) -> dict[str, list[int]]:
        """Where the tags of each name are that may still close a block, the next one last."""
        places: dict[str, list[int]] = {}
        for opening in reversed([opener.start() for opener in re.finditer(r"\{-", self._source)]):
            name = _block_name(self._source, opening)
            if name is not None:
                places.setdefault(name, []).append(opening)
        return places

    def _parts_of(self, tag: _Tag) -> Iterator[Part]:
        content = self._source[tag.inside : tag.closing]
        if tag.kind in "([":
            raise TemplateError(self._line_of(tag.opening), INCLUDES_DISABLED)
        if tag.kind == "-":
            source = _NEWLINE.sub("\n", content.removesuffix("\n"))
            first_line = self._line_of(tag.inside) + source.startswith("\n")
            yield Block(first_line, tag.name, source.removeprefix("\n"))
        elif tag.kind == "r":
            if text := _NEWLINE.sub("\n", content).removeprefix("\n"):
                yield text
        elif tag.kind != "#" and (code := content.strip(_SPACE)):
            line = self._line_of(tag.inside + content.index(code))
            if _includes(code):
                raise TemplateError(line, INCLUDES_DISABLED)
            if tag.kind == "%":
                yield Statements(line, code)
            else:
                yield Expression(line, code, tag.kind == "{")

    def _line_of(self, position: int) -> int:
        """Positions must not decrease."""
        self._line += self._source.count("\n", self._counted, position)
        self._counted = position
        return self._line


def _block_name(source: str, opening: int) -> str | None:
    closing = source.find("-}", opening + 2, opening + MAX_NAME + 4)
    return None if closing < 0 else source[opening + 2 : closing]


def _backslashes(source: str, begin: int, opening: int) -> int:
    """How many stand before a tag: 0, 1, which makes it text, or 2 for more."""
    if not source.endswith("\\", begin, opening):
        return 0
    return 2 if source.endswith("\\\\", begin, opening) else 1


def _text_before(source: str, kind: str, backslashes: int) -> str:
    """The text before a tag without the backslash that is for the tag.

    As in the original, two backslashes stay two where blanks would go.
    """
    if kind in "%-" and backslashes != 1:
        return _text(source.rstrip(" \t"))
    return _text(source[:-1] if backslashes else source)


def _text(source: str) -> str:
    """As a Lua long string that begins with a line break holds it."""
    if "\r" not in source:
        return source
    return _NEWLINE.sub("\n", "\n" + source)[1:]


def _includes(code: str) -> bool:
    if "include" not in code and not code.startswith("layout"):
        return False
    return bool(_INCLUDE.search(_STRING.sub('""', code)))

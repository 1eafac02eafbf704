"""Compiles resty templates to Lua, for `lua/template.lua` to run.

Text never becomes Lua: the chunk refers to it by number. What the tags hold is pasted as it is, so
a tag can do whatever the chunk can, which is nothing but to print in the sandbox. The code of each
tag is on the line where the template has it.
"""

import re
from typing import Final

import msgspec

from delivery.resty_syntax import Block, Expression, Part, Statements, TemplateError, parse

MAX_BLOCKS: Final = 100
"""Of one template. Each is a chunk of its own, with as many line breaks as stand before it."""

MAX_DEPTH: Final = 10
"""Of blocks within blocks. What is in them is parsed again on each level."""

# All that is printed is assigned: then code that is cut short before it does not compile.
_BEGIN: Final = "local ___,blocks,layout,include,echo,template=...;"
_END: Final = " return (___.finish(layout))"

# Strings, long strings and comments, closed or not, and comments up to the end of a line.
_OPAQUE = re.compile(
    r"""" (?: [^"\\] | \\. )* "?
      | ' (?: [^'\\] | \\. )* '?
      | (?: -- )? \[ (?P<level> =* ) \[ .*? (?: \] (?P=level) \] | \Z )
      | -- (?P<comment> [^\n]* )""",
    re.DOTALL | re.VERBOSE,
)

_STRING_END: Final = """ --[===['"\1]===]"""
"""A comment, but a mistake within a string."""


class Chunk(msgspec.Struct, frozen=True):
    """A template in Lua: the main chunk, the texts it prints, and the chunks of its blocks."""

    lua: str
    literals: tuple[str, ...]
    blocks: tuple[str, ...] = ()


def compile_resty(source: str) -> Chunk:
    """The template as Lua, which may still be no valid Lua.

    Raises TemplateError for includes and layouts, and for too many blocks.
    """
    compiler = _Compiler()
    lua = compiler.chunk(source, line=1, depth=0)
    return Chunk(lua, tuple(compiler.literals), tuple(compiler.blocks))


class _Compiler:
    def __init__(self) -> None:
        self.literals: list[str] = []
        self.blocks: list[str] = []

    def chunk(self, source: str, line: int, depth: int) -> str:
        lua = [_BEGIN]
        written = 1  # the line that the end of `lua` is on
        for part in parse(source, line):
            if not isinstance(part, str) and part.line > written:
                lua.append("\n" * (part.line - written))
                written = part.line
            code = self._code(part, depth)
            lua.append(code)
            written += code.count("\n")
        lua.append(_END)
        return "".join(lua)

    def _code(self, part: Part, depth: int) -> str:
        match part:
            case str():
                return f" ___[0]=___[{self._literal(part)}];"
            case Expression():
                if _ends_in_comment(part.code):
                    raise TemplateError(part.line, "a comment takes in the end of the tag")
                function = "escape" if part.escaped else "output"
                return f" ___[0]=___.{function}({_closed(part.code)});"
            case Statements():
                line_end = "\n" if _ends_in_comment(part.code) else ""
                return f" {_closed(part.code)}{line_end}"
            case Block():
                name = self._literal(part.name)
                return f" blocks[___[{name}]]=___.block({self._block(part, depth + 1)});"

    def _literal(self, text: str) -> int:
        self.literals.append(text)
        return len(self.literals)

    def _block(self, block: Block, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise TemplateError(block.line, f"a block within more than {MAX_DEPTH} blocks")
        if len(self.blocks) == MAX_BLOCKS:
            raise TemplateError(block.line, f"more than {MAX_BLOCKS} blocks")
        number = len(self.blocks)
        self.blocks.append("")
        self.blocks[number] = self.chunk(block.source, block.line, depth)
        return number + 1


def _closed(code: str) -> str:
    return code + _STRING_END if "'" in code or '"' in code else code


def _ends_in_comment(code: str) -> bool:
    return "--" in code and any(
        opaque["comment"] is not None and opaque.end() == len(code)
        for opaque in _OPAQUE.finditer(code)
    )

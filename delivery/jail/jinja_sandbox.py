"""The language of Jinja templates here: Jinja's, without ways to anything but the event's data.

A name behind a dot or in brackets is a field of a mapping, never an attribute of a Python object;
only `loop` has some. Whatever makes texts, lists or numbers out of others has a bound. Nothing is
computed when a template is compiled, so that compiling takes time for its length only.
"""

import operator
from collections.abc import Callable, Iterable
from types import CodeType, MethodType
from typing import Any, Final, NoReturn

from jinja2 import (
    TemplateRuntimeError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delivery.jail.jinja_filters import (
    FILTERS,
    FUNCTIONS,
    MAX_ITEMS,
    TESTS,
    bounded,
    joined,
    kind,
    number,
    text,
)

_MAX_BITS: Final = 4096
_NO_FILE: Final = "\ud800"
"""Python opens the file of code that does not compile, which would be the worker's end.

No file can have this name, so there is not even an attempt.
"""

_ABSENT: Final = object()
_LOOP: Final = {
    *("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"),
    *("previtem", "nextitem", "cycle", "changed"),
}
_SEQUENCES: Final = (str, list, tuple, range)
_CHANGED: Final = (
    *(nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends),
    *(nodes.ScopedEvalContextModifier, nodes.Concat, nodes.Filter, nodes.Test),
)


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles templates. What one may call, and what it may make of values: `jinja_filters`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(keep_trailing_newline=True, optimized=False, finalize=_finalize)
        self.globals = {**FUNCTIONS}
        self.filters = {**FILTERS}
        self.tests = {**TESTS}

    def getitem(self, obj: Any, argument: Any) -> Any:
        """A field, an item, or undefined; raises UndefinedError for what cannot have any."""
        if isinstance(obj, dict):
            found = obj.get(argument, _ABSENT)
            return self._missing(argument) if found is _ABSENT else found
        if isinstance(obj, _SEQUENCES):
            return self._item(obj, argument)
        if isinstance(obj, LoopContext) and argument in _LOOP:
            return getattr(obj, argument)
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        raise UndefinedError(f"{kind(obj)} has no fields, so no {_told(argument)}")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The same: a dot is only another way to write it."""
        return self.getitem(obj, attribute)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, a function of ours, `loop(…)` or one of its methods."""
        if not self.is_safe_callable(obj):
            raise TemplateRuntimeError(f"{kind(obj)} cannot be called")
        return context.call(obj, *args, **kwargs)

    def is_safe_callable(self, obj: Any) -> bool:
        """The undefined is, too: it says itself what is missing."""
        if isinstance(obj, MethodType):
            return isinstance(obj.__self__, LoopContext)
        ours = any(obj is function for function in FUNCTIONS.values())
        return ours or isinstance(obj, Macro | LoopContext | Undefined)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators whose results can be far larger than what goes in."""
        return _OPERATORS[operator](left, right)

    def concat(self, parts: Iterable[str]) -> str:
        """What a macro or a block printed."""
        return joined(list(parts))

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Leaves the exception as it is: a rewritten traceback would have no use here."""
        raise

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        for node in source.find_all(_CHANGED):
            self._change(node)
        return super()._generate(source, *arguments, **named)

    def _change(self, node: nodes.Node) -> None:
        """Refuse what is not offered, also where it would never be reached."""
        match node:
            case nodes.Concat():  # its own code prints Python's `None` and has no bound
                node.nodes = [nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None)]
            case nodes.Filter() if node.name not in self.filters:
                raise TemplateSyntaxError(f"there is no filter `{node.name:.80}`", node.lineno)
            case nodes.Test() if node.name not in self.tests:
                raise TemplateSyntaxError(f"there is no test `{node.name:.80}`", node.lineno)
            case nodes.ScopedEvalContextModifier():
                raise TemplateSyntaxError("autoescape is not available: use `|e`", node.lineno)
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                raise TemplateSyntaxError("includes are disabled", node.lineno)

    def _compile(self, source: str, filename: str) -> CodeType:
        return _renamed(super()._compile(source, _NO_FILE), filename)

    def _item(self, sequence: Any, index: Any) -> Any:
        if isinstance(index, int):
            try:
                return sequence[index]
            except IndexError:
                return self._missing(index)
        hint = "; filters take the place of methods" if isinstance(sequence, str) else ""
        return self.undefined(f"{kind(sequence)} has no {_told(index)}{hint}")

    def _missing(self, name: Any) -> Undefined:
        return self.undefined(f"{_told(name)} is undefined")


def _told(name: object) -> str:
    """A name or an index for a message; of anything else, Python's own text would tell too much."""
    return f"{name!r:.80}" if isinstance(name, str | int) else kind(name)


def _renamed(code: CodeType, filename: str) -> CodeType:
    """The code under a name that can be printed: profilers and debuggers do."""
    constants = tuple(
        _renamed(constant, filename) if isinstance(constant, CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)


@pass_context
def _finalize(_: Context, value: Any) -> str:
    # Would be called for constants when a template is compiled, if it did not want the context.
    return text(value)


def _power(base: Any, exponent: Any) -> Any:
    base, exponent = number(base), number(exponent)
    if isinstance(base, int) and isinstance(exponent, int):
        _representable(base.bit_length() * exponent)
    return operator.pow(base, exponent)


def _representable(bits: int) -> None:
    if bits > _MAX_BITS:
        raise TemplateRuntimeError("the number becomes too large")


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        _sized(left, len(left) + len(right))
    return left + right


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(right, _SEQUENCES):
        left, right = right, left
    if isinstance(left, _SEQUENCES) and isinstance(right, int):
        _sized(left, len(left) * right)
    elif isinstance(left, int) and isinstance(right, int):
        _representable(left.bit_length() + right.bit_length())
    return left * right


def _sized(sequence: Any, size: int) -> None:
    if isinstance(sequence, str):
        bounded(size)
    elif size > MAX_ITEMS:
        raise TemplateRuntimeError(f"a list of more than {MAX_ITEMS} items")


def _modulo(left: Any, right: Any) -> Any:
    return number(left) % number(right)


_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": _add,
    "*": _multiply,
    "**": _power,
    "%": _modulo,
}

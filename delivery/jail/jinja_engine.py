"""Runs users' Jinja templates, in a worker: each hook version compiled once.

The sandbox keeps templates from Python; it does not keep them from taking time and memory. Here
they have a clock and a bound on what they print. What holds up the interpreter itself, or eats the
process's memory, is left to the jail around the process.
"""

import re
import signal
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from traceback import clear_frames
from typing import Any, Final, TypeVar, cast

import msgspec
from jinja2 import Template, TemplateRuntimeError, TemplateSyntaxError, __version__

from delivery.jail.frames import Call, Failure, Functions, Limits, Profile, Report, Templates
from delivery.jail.jinja_sandbox import Sandbox

_Made = TypeVar("_Made")
_Item = TypeVar("_Item")

_OBJECT: Final = re.compile("<[^<>]* at 0x[0-9a-fA-F]*>?")
"""How Python prints what has no text, in messages of Jinja's."""

_AGAIN: Final = 0.05
"""Seconds to the next try: Python drops an exception that a signal raises in a finalizer."""

_WARM_UP: Final = (
    r"""{{ "\N{DASH}\u00e9" ~ 1.5 }}{% for x in [1]|map("string") %}{{ x|tojson }}{% endfor %}""",
    "{{ missing.field }}",
)


class OutOfTime(BaseException):
    """The clock ran out. Nothing that catches an `Exception` on the way can hide it."""


class Jinja:
    """Answers calls whose program is templates. The profile is about Lua only.

    Takes over the process's SIGPROF.
    """

    def __init__(self, limits: Limits, profile: Profile) -> None:
        self.name = f"Jinja {__version__}"
        self._limits = limits
        self._clock = _Clock()
        self._sandbox = Sandbox()
        self._kept: OrderedDict[tuple[str, str, tuple[str, ...]], list[Template]] = OrderedDict()

    def warm_up(self) -> None:
        """Load what is loaded late: codecs, the names of characters, how errors are told."""
        for source in _WARM_UP:
            self._run(Call("", "", Templates((source,))), (source,), b"{}")
        self._kept.clear()

    def answer(self, call: Call) -> bytes:
        """Run the call; an encoded `Report`."""
        if isinstance(call.program, Functions):
            report = Report([Failure(0, None, b"functions are Lua, and this worker runs Jinja")])
        elif call.arguments is None:
            _, failures = self._each(
                call.program.sources,
                self._sandbox.from_string,
                self._limits.cpu_seconds,
                to_the_end=True,
            )
            report = Report(failures)
        else:
            report = self._run(call, call.program.sources, call.arguments.data)
        return msgspec.msgpack.encode(report)

    def _run(self, call: Call, sources: tuple[str, ...], data: bytes) -> Report:
        key = (call.workspace, call.hook, sources)
        templates = self._kept.pop(key, None)
        if templates is None:
            # More than a check has: what was accepted once must not fail for being a bit slower.
            seconds = 2 * self._limits.cpu_seconds
            templates, failures = self._each(sources, self._sandbox.from_string, seconds)
            if failures:
                return Report(failures)
        self._kept[key] = templates
        if len(self._kept) > self._limits.states:
            self._kept.popitem(last=False)
        rendering = _Rendering(data, self._limits.text_size)
        texts, failures = self._each(templates, rendering.render, self._limits.cpu_seconds)
        return Report(failures, texts=[] if failures else texts)

    def _each(
        self,
        items: Sequence[_Item],
        make: Callable[[_Item], _Made],
        seconds: float,
        *,
        to_the_end: bool = False,
    ) -> tuple[list[_Made], list[Failure]]:
        """What is made of each item until one fails, or `to_the_end` of all that do not.

        The time is for all together; when it is over, nothing more is made.
        """
        made: list[_Made] = []
        failures: list[Failure] = []

        def fail(error: BaseException) -> None:
            index = min(len(made) + len(failures), len(items) - 1)
            failures.append(self._failure(index, error))

        def make_all() -> None:
            for item in items:
                try:
                    made.append(make(item))
                except Exception as error:
                    fail(error)
                    if not to_the_end:
                        break

        try:
            self._clock.limit(seconds, make_all)
        except (OutOfTime, MemoryError) as error:
            fail(error)
        return made, failures

    def _failure(self, index: int, error: BaseException) -> Failure:
        clear_frames(error.__traceback__)  # which may hold all the memory there is
        line = error.lineno if isinstance(error, TemplateSyntaxError) else _line(error)
        said = _OBJECT.sub("a part of the template", _said(error)[: self._limits.error_size])
        return Failure(index, line, said.encode("utf-8", "replace")[: self._limits.error_size])


class _Clock:
    """Raises OutOfTime in whatever runs for longer than it may, in seconds of CPU."""

    def __init__(self) -> None:
        self._running = False
        self._seconds = 0.0
        signal.signal(signal.SIGPROF, self._expired)

    def limit(self, seconds: float, work: Callable[[], None]) -> None:
        """OutOfTime leaves this call, or does not come at all."""
        self._seconds = seconds
        try:
            self._running = True
            signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN)
            work()
        finally:
            # Python looks for signals where it calls something. From here on none raises: not the
            # one that is pending by now either.
            self._running = False
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _expired(self, *_: Any) -> None:
        if self._running:
            raise OutOfTime(f"time limit of {self._seconds:g}s exceeded")


class _Rendering:
    """Renders the templates of one call, with the same data and one bound on all texts."""

    def __init__(self, data: bytes, limit: int) -> None:
        self._data = data
        self._left = limit

    def render(self, template: Template) -> bytes:
        """The template's text. Raises whatever a template can bring about."""
        context = template.new_context(self._variables)
        pieces = cast(Generator[str, None, None], template.root_render_func(context))
        text = bytearray()
        for piece in pieces:
            text += piece.encode("utf-8", "replace")
            if len(text) > self._left:
                # From inside the template, so that it gets a line.
                pieces.throw(TemplateRuntimeError("the text becomes too long"))
        self._left -= len(text)
        return bytes(text)

    @cached_property
    def _variables(self) -> dict[str, Any]:
        # Decoded late: only in `render` is an exception a failure of the template.
        fields = msgspec.json.decode(self._data, type=dict[str, Any])
        return {**fields, "context": fields}  # resty has this name, too, before any field


def _line(error: BaseException) -> int | None:
    """The line of the innermost template code that the exception passed."""
    line = None
    traceback = error.__traceback__
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return line


def _said(error: BaseException) -> str:
    """What went wrong, in words for the template's author."""
    match error:
        case MemoryError():
            return "not enough memory"
        case RecursionError():
            return "the template nests or calls itself too deeply"
        case TemplateSyntaxError():
            return error.message or ""
        case SyntaxError():  # Python's limits to what Jinja generated
            return error.msg
        case KeyError():  # whose text is the key alone
            return f"there is no {error}"
    return str(error) or type(error).__name__

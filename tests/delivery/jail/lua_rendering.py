"""Renders templates as a worker does, within the test's own process, on either virtual machine."""

from typing import Any

import msgspec
from lupa import lua51, luajit21

from delivery.jail.frames import Arguments, Call, Limits, Profile, Report, Templates
from delivery.jail.lua_engine import Lua

MACHINES = {"luajit21": luajit21, "lua51": lua51}


class Failed(Exception):
    """A template that did not compile or render."""

    def __init__(self, line: int | None, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


class Renderer:
    """Templates by the engine of a worker, with its sandbox; states are kept between renders."""

    def __init__(self, machine: str = "luajit21", **limits: Any) -> None:
        self._lua = Lua(Limits(**limits), Profile(), MACHINES[machine])

    def render(self, source: str, context: dict[str, Any]) -> str:
        """The text; raises Failed."""
        return self.render_all([source], context)[0]

    def render_all(self, sources: list[str], context: dict[str, Any]) -> list[str]:
        """The texts of one call; raises Failed for the first that has none."""
        report = self._answer(sources, Arguments(msgspec.json.encode(context)))
        return [text.decode("utf-8", "replace") for text in report.texts]

    def check(self, source: str) -> None:
        """Raises Failed if the template does not compile."""
        self._answer([source], None)

    def _answer(self, sources: list[str], arguments: Arguments | None) -> Report:
        call = Call("", "hook", Templates(tuple(sources)), arguments)
        report = msgspec.msgpack.decode(self._lua.answer(call), type=Report)
        for failure in report.failures:
            raise Failed(failure.line, failure.text.decode())
        return report

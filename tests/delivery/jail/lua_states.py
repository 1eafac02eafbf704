"""Runs functions and templates in one Lua state, without a process around it."""

from typing import Any

import msgspec
import pytest
from lupa import lua51, luajit21

from delivery.jail.frames import Arguments, Functions, Limits, Profile, Program, Report, Templates
from delivery.jail.lua_engine import State

DATA = {"operation": "create", "entity": {"username": "Lois Lane", "tags": ["a", "b"]}}
QUICK = Limits(cpu_seconds=0.05)
PATIENT = Limits(cpu_seconds=5)
SANDBOX = Profile()

both = pytest.mark.parametrize("machine", [luajit21, lua51], ids=["luajit21", "lua51"])
"""Both virtual machines: users must not notice which one there is."""


def body(lua: str) -> str:
    """A function of the form that Kong documents."""
    return f"return function (data, event, source, pid)\n{lua}\nend"


def run(
    machine: Any,
    *sources: str,
    data: Any = DATA,
    limits: Limits = PATIENT,
    profile: Profile = SANDBOX,
    lenient: bool = False,
    depth: int = 0,
) -> Report:
    """What a new state reports of functions."""
    state = State(Functions(sources), limits, profile, machine)
    return run_state(state, data, lenient=lenient, depth=depth)[0]


def render(machine: Any, *sources: str, context: Any = DATA, limits: Limits = PATIENT) -> Report:
    """What a new state reports of templates."""
    return run_state(State(Templates(sources), limits, SANDBOX, machine), context)[0]


def run_state(
    state: State, data: Any = DATA, *, lenient: bool = False, depth: int = 0
) -> tuple[Report, bool]:
    """A state's report, and whether it may be used again."""
    arguments = Arguments(
        msgspec.json.encode(data), "consumers", "crud", 4711, lenient=lenient, depth=depth
    )
    report, reusable = state.run(arguments)
    return msgspec.msgpack.decode(report, type=Report), reusable


def check(machine: Any, program: Program, limits: Limits = PATIENT) -> Report:
    """What a new state reports of a program that is only checked."""
    report, _ = State(program, limits, SANDBOX, machine).run(None)
    return msgspec.msgpack.decode(report, type=Report)


def error(report: Report) -> str | None:
    """The text of the first failure; None after success."""
    return report.failures[0].text.decode("utf-8", "replace") if report.failures else None


def texts(report: Report) -> list[str]:
    """What was logged."""
    return [line.text.decode() for line in report.lines]

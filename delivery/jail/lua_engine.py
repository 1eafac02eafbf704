"""Runs users' Lua, functions and templates, in a worker: each hook version in its own state."""

import os
import time
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

try:
    from lupa import luajit21 as virtual_machine
except ImportError:  # some platforms' wheels have no LuaJIT
    from lupa import lua51 as virtual_machine

from delivery.jail.frames import Arguments, Call, Functions, Limits, Profile, Program, Templates
from delivery.jail.resty import compile_resty
from delivery.resty_syntax import TemplateError

_DIRECTORY = Path(__file__).with_name("lua")
_SOURCES = {
    path.relative_to(_DIRECTORY).as_posix().removesuffix(".lua"): path.read_bytes()
    for path in _DIRECTORY.rglob("*.lua")
}
"""Read on import, because a worker soon cannot open files any more."""

_PRECOMPILE = "function (source, name) return string.dump(assert(loadstring(source, name))) end"


class State:
    """One program of one hook, in a Lua state of its own.

    No Python object is ever visible inside: data goes in as tables of plain values, and out comes
    one string.
    """

    def __init__(
        self, program: Program, limits: Limits, profile: Profile, machine: Any = virtual_machine
    ) -> None:
        self._limits = limits
        # Limiting memory needs an allocator installed from the start.
        self._lua = _runtime(machine, max_memory=0)
        self._failure = machine.LuaError
        files = _precompiled(machine)
        self._prepare, self._run, self._report = self._lua.execute(
            files["sandbox"],
            self._lua.table_from(files),
            self._lua.table_from(_parts(program), recursive=True),
            self._lua.table_from(_setup(profile), recursive=True),
            self._lua.table_from(msgspec.structs.asdict(limits)),
            mode="b",
        )

    def run(self, arguments: Arguments | None) -> tuple[bytes, bool]:
        """Run the program; an encoded `Report`, and whether the state may be used again."""
        if arguments is None:
            self._prepare(time.time())
        else:
            self._prepare(
                time.time(),
                self._lua.table_from(_lua_data(arguments.data), recursive=True),
                arguments.event.encode(),
                arguments.source.encode(),
                arguments.pid,
                arguments.lenient,
                arguments.depth,
            )
        # An allocation that fails while the host itself works on the state would abort the
        # process, so the limit is on only while user code runs.
        self._lua.set_max_memory(self._limits.lua_memory, total=True)
        with suppress(self._failure):  # out of time between two lines of our own: reported below
            self._run()
        self._lua.set_max_memory(0)
        report, broken = self._report()
        return report.encode("latin-1"), not broken and self._is_small()

    def _is_small(self) -> bool:
        if self._lua.get_memory_used() > self._limits.kept_memory:
            self._lua.gccollect()
        return bool(self._lua.get_memory_used() <= self._limits.kept_memory)


class Lua:
    """Answers calls; the states that are worth keeping are kept."""

    def __init__(self, limits: Limits, profile: Profile, machine: Any = virtual_machine) -> None:
        self.name: str = machine.LuaRuntime().lua_implementation
        self._limits = limits
        self._profile = profile
        self._machine = machine
        self._kept: OrderedDict[tuple[str, str, Program], State] = OrderedDict()

    def warm_up(self) -> None:
        """Load what is loaded late."""
        self.answer(Call("", "", Functions(("return function() end",))))
        self.answer(Call("", "", Templates(("{{ a }}", "{(b)}"))))

    def answer(self, call: Call) -> bytes:
        """Run the call; an encoded `Report`."""
        key = (call.workspace, call.hook, call.program)
        state = self._kept.pop(key, None) or State(
            call.program, self._limits, self._profile, self._machine
        )
        report, reusable = state.run(call.arguments)
        if reusable and call.arguments is not None:
            self._kept[key] = state
            if len(self._kept) > self._limits.states:
                self._kept.popitem(last=False)
        return report


def _runtime(machine: Any, **options: Any) -> Any:
    # Latin-1 maps Lua's bytes to characters one to one; UTF-8 would fail on strings cut in the
    # middle of a character.
    return machine.LuaRuntime(
        encoding="latin-1",
        register_eval=False,
        register_builtins=False,
        overflow_handler=_as_float,
        **options,
    )


@cache
def _precompiled(machine: Any) -> dict[str, bytes]:
    """Our own files in the virtual machine's bytecode: so a new state takes a third of the time."""
    dump = _runtime(machine).eval(_PRECOMPILE)
    return {
        name: dump(source, f"=sandbox/{name}".encode()).encode("latin-1")
        for name, source in _SOURCES.items()
    }


def _parts(program: Program) -> dict[str, list[Any]]:
    if isinstance(program, Functions):
        return {"functions": [source.encode() for source in program.sources]}
    return {"templates": [_template(source) for source in program.sources]}


def _template(source: str) -> dict[str, Any]:
    try:
        chunk = compile_resty(source)
    except TemplateError as error:
        return {"line": error.line, "problem": error.message.encode()}
    return {
        "lua": chunk.lua.encode(),
        "literals": [literal.encode() for literal in chunk.literals],
        "blocks": [block.encode() for block in chunk.blocks],
    }


def _setup(profile: Profile) -> dict[str, Any]:
    known = {name: value for name, value in profile.configuration.items() if value is not None}
    return {
        "untrusted_lua": profile.untrusted_lua,
        "environment": [name.encode() for name in profile.environment],
        "modules": {
            name.encode(): profile.modules[name].encode()
            for name in profile.requires
            if name in profile.modules
        },
        "version": profile.version.encode(),
        "node_id": profile.node_id.encode(),
        "hostname": profile.hostname.encode(),
        "configuration": msgspec.json.encode(known),
        "seed": int.from_bytes(os.urandom(4)) >> 1,
    }


def _as_float(number: int) -> float:
    return float(str(number))  # through text: infinity instead of OverflowError


def _lua_data(data: bytes) -> Any:
    """JSON in UTF-8 as plain values whose strings hold one character per byte."""
    return msgspec.json.decode(data.decode("latin-1"))

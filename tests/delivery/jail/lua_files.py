"""Our Lua files by themselves, in a bare state: without the sandbox around them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lupa import lua51, luajit21

DIRECTORY = Path(__file__).parents[3] / "delivery" / "jail" / "lua"
MODULES = sorted(path.stem for path in (DIRECTORY / "modules").glob("*.lua"))
INTERNAL = sorted(f"internal.{path.stem}" for path in (DIRECTORY / "internal").glob("*.lua"))
MACHINES = {"luajit21": luajit21, "lua51": lua51}

_LOADER = """
local files = ...
local null, loaded = newproxy(), {}
local function open(name, ...) return assert(loadstring(files[name], "=" .. name))(...) end
local tools = { null = null, json = open("json", null) }
function tools.require(name)
  if loaded[name] == nil then loaded[name] = open(name, tools) end
  return loaded[name]
end
return tools.json, tools.require
"""


Run = Callable[..., Any]


def load(machine: str) -> Run:
    """A function that runs Lua code in a new state of one of MACHINES.

    The code finds our json.lua as `json`, a `require` of our modules, and its arguments as `a`, `b`
    and `c`. Text is Latin-1: a character is a byte.
    """
    state = MACHINES[machine].LuaRuntime(
        encoding="latin-1", register_eval=False, register_builtins=False
    )
    state.execute("if jit then jit.off() end")
    json, require = state.execute(_LOADER, state.table_from(_sources()))

    def run(code: str, *arguments: Any) -> Any:
        return state.execute(
            f"local json, require, a, b, c = ... {code}", json, require, *arguments
        )

    return run


def _sources() -> dict[str, str]:
    paths = [DIRECTORY / "json.lua", *(DIRECTORY / "modules").iterdir()]
    sources = {path.name.removesuffix(".lua"): path.read_text() for path in paths}
    for path in (DIRECTORY / "internal").iterdir():
        sources[f"internal.{path.name.removesuffix('.lua')}"] = path.read_text()
    return sources

"""What a hostile user may upload, and a service that is made to run all of it.

Run as a program, this is a service of its own that knows nothing of Lua: it holds one pool for each
profile, sends every attack and then harmless calls, and prints a `Campaign` as JSON.
"""

import gc
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from delivery.jail.frames import Arguments, Call, Functions, Limits, Profile, Program, Templates
from delivery.jail.pool import JailOptions, WorkerPool

PROFILES = {"sandbox": Profile(), "on": Profile(untrusted_lua="on")}
BENIGN = """return function (data)
  return leaked == nil and ("a"):upper() == "A" and string.upper("a") == "A" and data.n == 1
    and require("cjson").encode({ data.n }) == "[1]" and select("#", pcall(error)) == 2
end"""

TIME = "time limit of 0.1s exceeded"
MEMORY = "not enough memory|time limit"
STACK = "stack overflow|error in error handling|not enough memory|time limit"
_LOOP = "function () while true do end end"
NIL = "nil value"
REFUSED = "function 1 returned"
PARSING = "Error parsing function"
ANY = ""


class Attack(NamedTuple):
    """`ends` is in the error unless the worker was killed; `profiles` are all that make sense."""

    name: str
    program: Program
    ends: str = ANY
    profiles: tuple[str, ...] = ("sandbox", "on")


class Ended(msgspec.Struct, frozen=True):
    """How an attack ended, and whether the calls after it, of the same hook and another, worked."""

    error: str | None
    killed: bool
    lines: int
    effects: int
    benign: tuple[str | None, str | None]


class Campaign(msgspec.Struct, frozen=True):
    """How all attacks ended, by profile and name; of the service, its resident size in bytes."""

    ended: dict[str, dict[str, Ended]]
    resident: tuple[int, int]
    has_lua: bool


def _function(name: str, lua: str, ends: str = ANY) -> Attack:
    return Attack(name, Functions((f"return function (data)\n{lua}\nend",)), ends)


def _on(name: str, lua: str, ends: str = ANY) -> Attack:
    return _function(name, lua, ends)._replace(profiles=("on",))


def _chunk(name: str, source: str, ends: str = PARSING) -> Attack:
    return Attack(name, Functions((source,)), ends)


def _template(name: str, source: str, ends: str = ANY) -> Attack:
    return Attack(name, Templates((source,)), ends, ("sandbox",))


LOOPS = [
    _function("loop", "while true do end", TIME),
    _function("numeric loop", "for i = 1, 1e15 do end", TIME),
    _function("repeat", "repeat local x = {} until nil", TIME),
    _function("loop in pcall", "while true do pcall(function () while true do end end) end", TIME),
    _function("loop in xpcall", "while true do xpcall(error, function () end) end", TIME),
    _function("loop in a handler", "xpcall(error, function () while true do end end)", TIME),
    _function("loop in a coroutine", "coroutine.wrap(function () while true do end end)()", TIME),
    _function(
        "loop in a resumed coroutine",
        "while true do coroutine.resume(coroutine.create(function () repeat until nil end)) end",
        TIME,
    ),
    _function(
        "loop of yields",
        "local f = coroutine.wrap(function () while true do coroutine.yield() end end)"
        " while true do f() end",
        TIME,
    ),
    _function("loop of coroutines", "while true do coroutine.wrap(function () end)() end"),
    _function("loop in sort", "table.sort({ 3, 2, 1 }, function () while true do end end)", TIME),
    _function("loop in gsub", "('x'):gsub('x', function () while true do end end)", TIME),
    _function("loop of digests", "while true do ngx.sha1_bin('x') end", TIME),
    _function("loop of dates", "while true do os.date() end", TIME),
    _chunk("loop at the top", "while true do end"),
    _template("loop in a template", "{% while true do end %}", TIME),
]

RECURSION = [
    _function("recursion", "local function f() return 1 + f() end f()", STACK),
    _function("recursion in pcall", "local function f() pcall(f) return f() end f()"),
    _function(
        "pcall at the limit", "local function f() pcall(f) while true do pcall(f) end end f()"
    ),
    _function("recursion in gsub", "local function f() return (('x'):gsub('x', f)) end f()"),
    _function("recursion in sort", "local function f() table.sort({ 2, 1 }, f) end f()"),
    _function("recursion in a handler", "local function f() xpcall(error, f) end f() return 1"),
    _function("recursion in coroutines", "local function f() coroutine.wrap(f)() end f()"),
    _function("endless tail calls", "local function f() return f() end f()", TIME),
    _chunk("nested parentheses", f"return {'(' * 20_000}1{')' * 20_000}"),
    _chunk("nested tables", f"return {'{' * 20_000}{'}' * 20_000}"),
    _chunk("nested functions", f"return {'function () return ' * 3_000}1{' end' * 3_000}"),
    _chunk("endless concatenation", f"return 'a'{' .. a' * 20_000}"),
    _template("recursion in a template", "{% local function f() return 1 + f() end f() %}", STACK),
]

PATTERNS = [
    _function("optional atoms", "local a = ('a'):rep(40) return a:find(('a?'):rep(40) .. a)"),
    _function("lazy atoms", "return ('a'):rep(300):find(('.-'):rep(8) .. 'b')"),
    _function("greedy atoms", "return ('a'):rep(300):find(('.*'):rep(8) .. 'b')"),
    _function("quadratic gsub", "return ('a'):rep(1e6):gsub('a*b', '')"),
    _function("unbalanced", "return ('('):rep(1e6):gsub('%b()', '')"),
    _function("too many captures", "return ('a'):rep(99):find(('(a)'):rep(99))", "captures"),
    _function("deep pattern", "return ('a'):rep(1e6):find(('a'):rep(1e6) .. 'b')"),
    _function(
        "pattern in pcall", "return pcall(string.find, ('a'):rep(300), ('.-'):rep(8) .. 'b')"
    ),
    _template("pattern in a template", "{{ ('a'):rep(300):find(('.-'):rep(8) .. 'b') }}"),
]

MEMORY_ATTACKS = [
    _function("long repetition", "return ('x'):rep(1e9)", MEMORY),
    _function("empty repetition", "return (''):rep(1e15)", REFUSED),
    _function("doubling", "local s = 'x' while true do s = s .. s end", MEMORY),
    _function("growing table", "local t = {} for i = 1, 1e9 do t[i] = i end", MEMORY),
    _function(
        "growing strings", "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5) .. i end", MEMORY
    ),
    _function(
        "many coroutines", "local t = {} for i = 1, 1e7 do t[i] = coroutine.create(print) end"
    ),
    _function(
        "many closures", "local t = {} for i = 1, 1e8 do t[i] = function () return i end end"
    ),
    _function(
        "memory kept", "K = {} pcall(function () while true do K[#K + 1] = #K .. 'x' end end)"
    ),
    _function(
        "memory kept to the last byte",
        "K = {} for size = 20, 0, -1 do repeat until not pcall(function ()"
        " K[#K + 1] = ('x'):rep(2 ^ size) .. #K end) end error('kept')",
    ),
    _function("wide format", "return ('%s'):rep(1e6):format('x')"),
    _function("long format", "return ('%999999999d'):format(1)", "invalid"),
    _function("unpack", "return unpack({}, 1, 1e7)", "unpack"),
    _function("long gsub", "return ('x'):rep(1e6):gsub('', ('y'):rep(1e4))", MEMORY),
    _function(
        "long concat",
        "local t = {} for i = 1, 1e4 do t[i] = ('x'):rep(1e4) end return table.concat(t)",
    ),
    _function("large table", "return require('table.new')(1e9, 1e9)"),
    _function("JSON bomb", "return require('cjson').decode(('['):rep(1e6))"),
    _template("long text", "{% for i = 1, 1e9 do %}{{ ('x'):rep(1e5) }}{% end %}", "too long"),
]

ERRORS = [
    _function("huge error", "error(('x'):rep(1e7))"),
    _function("table as error", "error({ ('x'):rep(1e6) })", "error object is a table"),
    _function("nil as error", "error()", "error object is a nil"),
    _function("function as error", "error(error)", "error object is a function"),
    _function("odd bytes as error", r"error('\0\1\27[31m\r\n\255\254', 0)"),
    _function("error flood", "while true do pcall(error, ('x'):rep(1e5)) end"),
    _function("forged end of time", f"error('{TIME}')", TIME),
    _function("forged end of memory", "error('not enough memory')", MEMORY),
]

OUTPUT = [
    _function("print flood", "while true do print('flood') end", TIME),
    _function("wide print flood", "while true do kong.log.err(('x'):rep(1e6)) end"),
    _function("huge print", "print(('x'):rep(2e7)) error('printed')"),
    _function("odd bytes", r"print('\0\27]0;x\7\r\n\255') error('printed')", "printed"),
    _function("cyclic result", "local t = {} t[1] = t return t", REFUSED),
    _function("deep result", "local t = {} for i = 1, 1e5 do t = { t } end return t"),
    _function("huge result", "local t = {} for i = 1, 3e5 do t[i] = i end return t"),
    _function("wide result", "local t = {} for i = 1, 30 do t = { t, t } end return t"),
    _function("long result", "return ('x'):rep(1e7)", REFUSED),
    _function("emission flood", "while true do pcall(hook.emit, 'x', {}) end", TIME),
    _function("huge emission", "hook.emit('x', { t = ('x'):rep(1e7) })", "hook.emit"),
    _function("cyclic emission", "local t = {} t.t = t hook.emit('x', t)", "hook.emit"),
]

POISON = [
    _function("string library", "string.upper = print", "Protected by the sandbox"),
    _function("string methods", "local s = '' s.upper = print"),
    _function("string metatable", "getmetatable('').__index.upper = print"),
    _function("globals", "leaked = 1 pcall, error, string, _G = nil"),
    _function("all globals", "leaked = 1 for k in pairs(_G) do _G[k] = nil end assert = nil"),
    _function("modules", "require('cjson').encode = print leaked = 1 return 1", REFUSED),
    _function("dump", "return ('').dump(function () end)", NIL),
    _chunk("LuaJIT bytecode", "\x1bLJ\x02\x0a\x00", "wrong mode"),
    _chunk("Lua bytecode", "\x1bLuaQ\x00", "wrong mode"),
    _chunk("bytecode after a comment", "#\n\x1bLJ\x02\x0a\x00"),
    _chunk("bytecode after a mark", "\ufeff\x1bLJ\x02\x0a\x00"),
    _template("bytecode template", "{% error('\x1bLJ') %}"),
    _on("loaded bytecode", r"return assert(load('\27LJ\2\n'))", "wrong mode"),
    _on(
        "bytecode in pieces",
        r"local p = { '\27', 'LJ' } return assert(load(function () return "
        "table.remove(p, 1) end))",
        "wrong mode",
    ),
    _on("bytecode mode", "return assert(load('return 1', 'x', 'b'))", "wrong mode"),
    _on("raw poison", "rawset(string, 'upper', print) leaked = 1 error('poisoned')", "poisoned"),
]

ESCAPES = [
    _function("python", "return python.eval('1')", NIL),
    _function("python builtins", "return python.builtins.open('/etc/passwd')", NIL),
    _function("userdata", "return ngx.null.__class__", "index"),
    _function("ffi", "return require('ffi')", "not allowed within sandbox"),
    _function("package", "return package.loadlib('libc.so.6', 'system')", NIL),
    _function("debug", "return debug.getregistry()", NIL),
    _function("dofile", "return dofile('/etc/passwd')", NIL),
    _function("socket", "return require('socket').tcp()", "not allowed within sandbox"),
    _function("cosocket", "return ngx.socket.tcp()", "not available"),
    _function("database", "return kong.db.consumers", "not available"),
    _function("read a file", "assert(io.open('/etc/passwd')) error('escaped')"),
    _function("read lines", "for line in io.lines('/etc/passwd') do error('escaped') end"),
    _function("write a file", "assert(io.open('/tmp/escaped', 'w')) error('escaped')"),
    _function("temporary file", "assert(io.tmpfile()) error('escaped')"),
    _function("memory of the process", "assert(io.open('/proc/self/mem')) error('escaped')"),
    _function("pipe of the service", "assert(io.open('/proc/self/fd/1', 'w')) error('escaped')"),
    _function("fork", "assert(io.popen('id')) error('escaped')"),
    _function("execute", "assert(os.execute('true') == 0) error('escaped')"),
    _function("remove", "assert(os.remove('/tmp/nothing')) error('escaped')"),
    _function("rename", "assert(os.rename('/tmp/nothing', '/tmp/other')) error('escaped')"),
    _function("temporary name", "os.tmpname() error('named')"),
    _function("exit", "os.exit(0)"),
    _function("exit with a failure", "os.exit(3)"),
    _function("environment", "error(next({ os.getenv('PATH') }) and 'escaped' or 'nothing')"),
    _on(
        "own environments",
        "for _, f in pairs({ print, pcall, load, require, ngx.log, hook.emit, error }) do"
        " assert(getfenv(f) == _G) end error('none')",
        "none",
    ),
    _on("foreign environment", "setfenv(print, {})", "cannot change environment"),
    _on("forged answer", r"io.write('\0\0\0\1\192') error('written')", "written"),
    _on("standard input", "io.lines()", "no standard input"),
    _template("include", "{(/etc/passwd)}", "includes are disabled"),
    _template("read a file in a template", "{{ io.open('/etc/passwd') }}", NIL),
    _template("execute in a template", "{% os.execute('true') %}", NIL),
    _template("out of a literal", "]=] os.execute('true') --[=[{% error('text') %}", "text"),
]

METATABLES = [
    _on("__index loop", f"return setmetatable({{}}, {{ __index = {_LOOP} }}).x", TIME),
    _on("__index chain", "local t = {} setmetatable(t, { __index = t }) return t.x", "loop"),
    _on(
        "__index recursion",
        "local t = {} return setmetatable(t, { __index = function (_, k) return t[k] .. k end }).x",
    ),
    _on("__tostring loop", f"print(setmetatable({{}}, {{ __tostring = {_LOOP} }}))", TIME),
    _on(
        "__tostring of an error",
        f"error(setmetatable({{}}, {{ __tostring = {_LOOP} }}))",
        "error object is a table",
    ),
    _on(
        "__tostring of a result", f"return setmetatable({{}}, {{ __tostring = {_LOOP} }})", REFUSED
    ),
    _on("__index of a result", f"return setmetatable({{}}, {{ __index = {_LOOP} }})", REFUSED),
    _on("__concat loop", f"return setmetatable({{}}, {{ __concat = {_LOOP} }}) .. ''", TIME),
    _on(
        "__eq loop",
        f"local m = {{ __eq = {_LOOP} }} return setmetatable({{}}, m) == setmetatable({{}}, m)",
        TIME,
    ),
    _on(
        "__gc loop",
        f"for i = 1, 1e9 do setmetatable({{}}, {{ __gc = {_LOOP} }}) end",
        MEMORY,
    ),
    _on("__gc by newproxy", "newproxy(true)", NIL),
    _on(
        "__call recursion",
        "local m = {} m.__call = function (t) return t() + 1 end setmetatable(m, m)()",
    ),
    _on("collector", "collectgarbage('stop')", "only"),
]

ATTACKS = [
    *LOOPS,
    *RECURSION,
    *PATTERNS,
    *MEMORY_ATTACKS,
    *ERRORS,
    *OUTPUT,
    *POISON,
    *ESCAPES,
    *METATABLES,
]


async def _attack(pool: WorkerPool, attack: Attack) -> Ended:
    ran = await pool.run(_call("attacked", attack.program))
    benign = Functions((BENIGN,))
    return Ended(
        ran.error,
        ran.killed,
        len(ran.lines),
        len(ran.effects),
        (
            (await pool.run(_call("attacked", benign))).error,
            (await pool.run(_call("other", benign))).error,
        ),
    )


def _call(hook: str, program: Program) -> Call:
    return Call("", hook, program, Arguments(b'{"n": 1}', "consumers", "crud", 1))


async def _fight(pool: WorkerPool, profile: str) -> dict[str, Ended]:
    return {
        attack.name: await _attack(pool, attack) for attack in ATTACKS if profile in attack.profiles
    }


async def _campaign() -> Campaign:
    ended: dict[str, dict[str, Ended]] = {}

    async def fight(pool: WorkerPool, profile: str) -> None:
        ended[profile] = await _fight(pool, profile)

    async with AsyncExitStack() as stack:
        pools = {
            name: await stack.enter_async_context(WorkerPool.open(_options(profile)))
            for name, profile in PROFILES.items()
        }
        for pool in pools.values():
            await pool.run(_call("first", Functions((BENIGN,))))
        before = _resident()
        async with anyio.create_task_group() as tasks:
            for name, pool in pools.items():
                tasks.start_soon(fight, pool, name)
        return Campaign(ended, (before, _resident()), "lupa" in sys.modules)


def _options(profile: Profile) -> JailOptions:
    return JailOptions(
        wall_seconds=1, start_seconds=30, limits=Limits(cpu_seconds=0.1), profile=profile
    )


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run all attacks and print how they ended."""
    sys.stdout.buffer.write(msgspec.json.encode(anyio.run(_campaign)))

"""What functions find and what not: Kong's list, bundled modules, settings that add to it."""

import os
from pathlib import Path
from typing import Any

import pytest

from delivery.jail.frames import Limits, Profile
from delivery.jail.profile import OPTIONAL_GLOBALS, bundled
from tests.delivery.jail.lua_states import body, both, error, run, texts

LAX = Profile(untrusted_lua="lax")
ON = Profile(untrusted_lua="on")

KONGS_LIST = """
    _VERSION assert error ipairs next pairs pcall print require select tonumber tostring type unpack
    xpcall _G
    bit.arshift bit.band bit.bnot bit.bor bit.bswap bit.bxor bit.lshift bit.rol bit.ror bit.rshift
    bit.tobit bit.tohex
    coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap
    coroutine.yield io.type jit.os jit.arch jit.version jit.version_num
    math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh math.deg math.exp
    math.floor math.fmod math.frexp math.huge math.ldexp math.log math.log10 math.max math.min
    math.modf math.pi math.pow math.rad math.random math.sin math.sinh math.sqrt math.tan math.tanh
    os.clock os.date os.difftime os.time
    string.byte string.char string.find string.format string.gmatch string.gsub string.len
    string.lower string.match string.rep string.reverse string.sub string.upper
    table.clear table.clone table.concat table.insert table.isarray table.isempty table.maxn
    table.move table.new table.nkeys table.pack table.remove table.sort table.unpack
    kong.log kong.log.alert kong.log.crit kong.log.debug kong.log.emerg kong.log.err kong.log.info
    kong.log.notice kong.log.warn kong.log.inspect kong.version kong.version_num kong.node.get_id
    kong.node.get_hostname kong.configuration kong.table.new kong.table.clear
    ngx.null ngx.log ngx.STDERR ngx.EMERG ngx.ALERT ngx.CRIT ngx.ERR ngx.WARN ngx.NOTICE ngx.INFO
    ngx.DEBUG ngx.OK ngx.HTTP_OK ngx.config.subsystem
    ngx.time ngx.now ngx.update_time ngx.today ngx.localtime ngx.utctime ngx.http_time
    ngx.cookie_time ngx.parse_http_time ngx.encode_base64 ngx.decode_base64 ngx.md5 ngx.md5_bin
    ngx.sha1_bin ngx.hmac_sha1 ngx.escape_uri ngx.unescape_uri ngx.encode_args ngx.decode_args
    ngx.crc32_short ngx.crc32_long
    hook.emit hook.request hook.set hook.skip
"""

NEVER = """
    package python lupa ffi module newproxy loadfile dofile gcinfo debug.sethook debug.getinfo
    debug.getregistry debug.getupvalue debug.setupvalue debug.getmetatable debug.setmetatable
    jit.on jit.off jit.util string.dump ('').dump io.stdout io.stdin io.stderr io.read io.output
    io.input os.setlocale math.randomseed table.foreach table.setn kong.log.set_serialize_value
    ngx.req ngx.timer ngx.shared
"""

DENIED = """
    debug load loadstring getfenv setfenv getmetatable setmetatable rawget rawset rawequal
    collectgarbage io.open io.popen io.lines io.tmpfile io.write os.execute os.exit os.getenv
    os.remove os.rename os.tmpname
"""


def finds(machine: Any, name: str, profile: Profile) -> bool:
    """Whether a function finds anything of this name."""
    root = name.partition(".")[0]
    lua = f"return {root} ~= nil and {name} ~= nil"
    return run(machine, body(lua), profile=profile, lenient=True).result == b"true"


@both
@pytest.mark.parametrize("level", ["sandbox", "lax", "on"])
@pytest.mark.parametrize("name", KONGS_LIST.split())
def test_everything_on_kongs_list_exists(machine: Any, name: str, level: Any) -> None:
    """Functions written for Kong's sandbox find what they use, however much is allowed."""
    assert finds(machine, name, Profile(untrusted_lua=level))


@both
@pytest.mark.parametrize("level", ["sandbox", "lax", "on"])
@pytest.mark.parametrize("name", NEVER.split())
def test_what_no_setting_allows_does_not_exist(machine: Any, name: str, level: Any) -> None:
    """Nothing reaches the virtual machine, Python, or the way to the service."""
    everything = Profile(untrusted_lua=level, environment=(name, *OPTIONAL_GLOBALS))

    assert not finds(machine, name, everything)


@both
@pytest.mark.parametrize("name", DENIED.split())
def test_what_only_untrusted_lua_on_allows(machine: Any, name: str) -> None:
    """Kong's denied names are there with `on`, where the jail alone holds them, and only then."""
    assert not finds(machine, name, Profile())
    assert not finds(machine, name, LAX)
    assert finds(machine, name, ON)


@both
@pytest.mark.parametrize("name", sorted(OPTIONAL_GLOBALS))
def test_a_setting_adds_single_names(machine: Any, name: str) -> None:
    """untrusted_lua_sandbox_environment makes one optional global visible and no other."""
    profile = Profile(environment=(name,))

    assert [other for other in sorted(OPTIONAL_GLOBALS) if finds(machine, other, profile)] == [name]


@both
@pytest.mark.parametrize(
    ("lua", "problem"),
    [
        ("string.upper = 1", "Cannot modify string.upper. Protected by the sandbox."),
        ("table.x = 1", "Cannot modify table.x. Protected by the sandbox."),
        ("bit.band = 1", "Cannot modify bit.band. Protected by the sandbox."),
        ("os.time = nil", "Cannot modify os.time. Protected by the sandbox."),
        ("kong.db = 1", "Cannot modify kong.db. Protected by the sandbox."),
        ("kong.log.x = 1", "Cannot modify kong.log.x. Protected by the sandbox."),
        (
            "kong.configuration.x = 1",
            "Cannot modify kong.configuration.x. Protected by the sandbox.",
        ),
        ("ngx.null = 1", "Cannot modify ngx.null. Protected by the sandbox."),
        ("hook.skip = 1", "Cannot modify hook.skip. Protected by the sandbox."),
        ("require 'socket'", "require 'socket' not allowed within sandbox: use hook.request"),
        ("require 'ffi'", "require 'ffi' not allowed within sandbox"),
        ("require 'internal.md5'", "require 'internal.md5' not allowed within sandbox"),
        ("require 'sandbox'", "require 'sandbox' not allowed within sandbox"),
        ("require '../json'", "require '../json' not allowed within sandbox"),
        ("require {}", "require 'table: "),
        (
            "require 'resty.http'",
            "require 'resty.http' not allowed within sandbox: use hook.request",
        ),
        ("return kong.db", "kong.db is not available"),
        ("kong.cache:get('x')", "kong.cache is not available"),
        ("ngx.socket.tcp()", "ngx.socket is not available: requests go through hook.request"),
        ("ngx.re.match('a', 'b')", "ngx.re is not available: use Lua's patterns"),
        ("ngx.sleep(1)", "ngx.sleep is not available: a function cannot wait"),
    ],
)
def test_forbidden_acts_say_so_in_kongs_words(machine: Any, lua: str, problem: str) -> None:
    """Each is an error with the place in the function, and the hint what to use instead."""
    text = error(run(machine, body(lua))) or ""

    assert f"]:2: {problem}" in text


@both
@pytest.mark.parametrize(
    ("lua", "printed"),
    [
        ("ngx.null", "userdata: NULL"),
        ("type(ngx.null)", "userdata"),
        ("ngx.http_time(1547466568)", "Mon, 14 Jan 2019 11:49:28 GMT"),
        ("ngx.cookie_time(1547466568)", "Mon, 14-Jan-19 11:49:28 GMT"),
        ("ngx.parse_http_time('Mon, 14 Jan 2019 11:49:28 GMT')", "1547466568"),
        ("ngx.parse_http_time('Thu, 29 Feb 2024 00:00:00 GMT')", "1709164800"),
        ("ngx.parse_http_time('Fri, 01 Mar 2024 00:00:00 GMT')", "1709251200"),
        ("ngx.parse_http_time('Mon, 14 Foo 2019 11:49:28 GMT')", "nil"),
        ("ngx.parse_http_time('nonsense')", "nil"),
        ("os.date('%Y-%m-%d %H:%M', 0)", "1970-01-01 00:00"),
        ("os.date('!%H', 3600)", "01"),
        ("os.date('*t', 7200).hour", "2"),
        ("ngx.encode_base64('a?>')", "YT8+"),
        ("ngx.encode_base64('a', true)", "YQ"),
        ("ngx.encode_base64(42)", "NDI="),
        ("ngx.decode_base64('YT8+')", "a?>"),
        ("ngx.decode_base64('?')", "nil"),
        ("ngx.md5('')", "d41d8cd98f00b204e9800998ecf8427e"),
        ("ngx.md5(nil)", "d41d8cd98f00b204e9800998ecf8427e"),
        ("#ngx.md5_bin('a')", "16"),
        ("ngx.encode_base64(ngx.sha1_bin('abc'))", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="),
        ("ngx.encode_base64(ngx.hmac_sha1('key', 'text'))", "Np4pWetJRQM4shJ0j3fY3tdIR7s="),
        ("ngx.crc32_long('hello')", "907060870"),
        ("ngx.crc32_short('hello')", "907060870"),
        ("ngx.escape_uri('a b/ż')", "a%20b%2F%C5%BC"),
        ("ngx.unescape_uri('a%20b+c')", "a b c"),
        ("ngx.encode_args({ a = 1 })", "a=1"),
        ("ngx.decode_args('a=1&b=2').b", "2"),
        ("kong.version", "3.10.1"),
        ("kong.version_num", "30010001"),
        ("kong.node.get_id()", "node-id"),
        ("kong.node.get_hostname()", "host"),
        ("kong.configuration.log_level", "info"),
        ("kong.configuration.nothing", "nil"),
        ("kong.configuration.list[1]", "ż"),
        ("tostring(bit)", "table: "),
        ("bit.tohex(bit.bor(1, 0x80000000))", "80000001"),
        ("string.rep('ab', 2, ',')", "ab,ab"),
        ("string.rep('', 1e15)", ""),
        ("string.rep('x', -1)", ""),
        ("string.format('%s %5s %%', nil, true)", "nil  true %"),
        ("math.log(8, 2)", "3"),
        ("table.concat(table.move({ 1, 2, 3 }, 1, 3, 2))", "1123"),
        ("table.pack(nil, nil).n", "2"),
        ("table.unpack({ 7 })", "7"),
        ("table.nkeys({ 1, a = 2 })", "2"),
        ("select(2, xpcall(function(a) return a end, print, 'passed'))", "passed"),
        ("select(2, pcall(coroutine.wrap(function() error('x', 0) end)))", "x"),
        ("require('cjson').encode({ 1, 2 })", "[1,2]"),
        ("require('cjson.safe').decode('[')", "nil"),
        ("require 'cjson' == require 'cjson'", "true"),
        ("require('cjson').null == ngx.null", "true"),
        ("_G.string == string", "true"),
        ("getmetatable == nil", "true"),
        ("io.type(1)", "nil"),
    ],
)
def test_values_are_those_of_openresty(machine: Any, lua: str, printed: str) -> None:
    """What functions compute with the libraries is the same everywhere."""
    profile = Profile(
        version="3.10.1",
        node_id="node-id",
        hostname="host",
        configuration={"log_level": "info", "nothing": None, "list": ["ż"]},
    )
    report = run(machine, body(f"local value = {lua} print(value) return true"), profile=profile)

    assert report.failures == []
    assert texts(report)[0].startswith(printed)


@both
def test_the_time_of_day_stands_still_until_it_is_updated(machine: Any) -> None:
    """As in OpenResty ngx.now is cached; all times are those of the present, in UTC."""
    lua = """
        local before = ngx.now()
        for i = 1, 1e6 do end
        assert(ngx.now() == before and math.abs(before - os.time()) < 2)
        ngx.update_time()
        assert(ngx.now() > before and ngx.time() <= ngx.now())
        assert(ngx.today() == os.date("%Y-%m-%d", ngx.time()))
        assert(ngx.utctime() == os.date("%Y-%m-%d %H:%M:%S", ngx.time()))
        assert(ngx.localtime() == ngx.utctime())
        return true
    """

    assert error(run(machine, body(lua))) is None


@both
def test_random_numbers_differ_between_states(machine: Any) -> None:
    """Two workers do not make the same identifiers."""
    lua = body("print(math.random(1e9), math.random(1e9)) return true")

    assert texts(run(machine, lua)) != texts(run(machine, lua))


@both
@pytest.mark.parametrize("name", sorted(bundled()))
def test_every_bundled_module_can_be_required(machine: Any, name: str) -> None:
    """They need no setting: nothing in them reaches outside."""
    assert error(run(machine, body(f"local _ = require '{name}' return true"))) is None


@both
def test_own_modules_must_be_allowed_by_name(machine: Any) -> None:
    """The operator's directory offers; untrusted_lua_sandbox_requires decides."""
    modules = {"own.one": "return { n = 1, more = require 'own.two' }", "own.two": "two = 2"}
    lua = body(
        "local one = require 'own.one' return one.n == 1 and one.more == true and two == nil"
    )

    both_allowed = Profile(modules=modules, requires=("own.one", "own.two"))
    one_allowed = Profile(modules=modules, requires=("own.one",))

    assert error(run(machine, lua, profile=both_allowed)) is None
    assert "own.one.lua:1: require 'own.two' not allowed" in (
        error(run(machine, lua, profile=one_allowed)) or ""
    )
    assert "require 'own.one' not allowed" in (
        error(run(machine, lua, profile=Profile(modules=modules))) or ""
    )


@both
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x x", "own.lua:1: '=' expected near 'x'"),
        ("\n error('broken')", "own.lua:2: broken"),
        ("\x1bLJ", "attempt to load chunk with wrong mode"),
        ("return io.open('/etc/passwd')", "own.lua:1: attempt to call field 'open' (a nil value)"),
    ],
)
def test_own_modules_live_in_the_sandbox_too(machine: Any, source: str, problem: str) -> None:
    """A module is text, finds what functions find, and fails each time it is required."""
    profile = Profile(modules={"own": source}, requires=("own",))
    lua = "pcall(require, 'own') require 'own' return true"

    assert problem in (error(run(machine, body(lua), profile=profile)) or "")


@both
def test_own_modules_may_require_each_other(machine: Any) -> None:
    """As in Lua, the one that is not ready yet is true."""
    modules = {"a": "return { b = require 'b' }", "b": "return { a = require 'a' }"}
    profile = Profile(modules=modules, requires=("a", "b"))

    assert error(run(machine, body("return require('a').b.a == true"), profile=profile)) is None


@both
def test_one_hooks_functions_cannot_poison_each_other(machine: Any) -> None:
    """The libraries are protected, and strings reach nothing that can be written to."""
    poison = """
        assert(not pcall(function () string.upper = print end))
        assert(getmetatable("") == false and not pcall(setmetatable, string, {}))
        assert(getmetatable(_G) == false and not pcall(setmetatable, _G, {}))
        assert(not pcall(function () getmetatable("").__index.upper = print end))
        return true
    """
    profile = Profile(environment=("getmetatable", "setmetatable"))
    report = run(machine, body(poison), body("return ('x'):upper() == 'X'"), profile=profile)

    assert error(report) is None


ON_CASES = [
    "return load('return 1 + 1')() == 2",
    "return loadstring('return ...')(7) == 7",
    "n = 5 return load('return n')() == 5",
    "local p, i = { 'return ', '3' }, 0 return load(function () i = i + 1 return p[i] end)() == 3",
    "return load('return x', 'name', 't', { x = 9 })() == 9",
    "local f, problem = load('x x', '=named') return f == nil and problem:find('^named:1:') == 1",
    "local f, problem = load('\\27LJ') return f == nil and problem:find('wrong mode') ~= nil",
    "local f, problem = load(function () return nil end, 'x', 'b') return f == nil",
    "local p, i = { '\\27', 'LJ' }, 0 return not load(function () i = i + 1 return p[i] end)",
    "return not pcall(load, {}) and not pcall(loadstring, 7)",
    "return getfenv() == _G and getfenv(1) == _G and getfenv(0) == _G and getfenv(print) == _G",
    "return getfenv(pcall) == _G and getfenv(load) == _G and getfenv(kong.log.err) == _G",
    "return not (pcall(setfenv, print, {}) or pcall(setfenv, 0, {}) or pcall(setfenv, load, {}))",
    "local function f() return x end setfenv(f, { x = 3 }) return f() == 3 and getfenv(f).x == 3",
    "setfenv(1, { kept = 4 }) return kept == 4",
    "return not pcall(setfenv, 1, 7) and not pcall(getfenv, {})",
    "local t = setmetatable({}, { __index = function () return 'a' end }) return t.x == 'a'",
    "return rawequal('a', 'a') and rawget({ 1 }, 1) == 1 and rawset({}, 'a', 1).a == 1",
    "return collectgarbage('count') > 0 and not pcall(collectgarbage, 'stop')",
    "return debug.traceback('x'):find('^x\\nstack traceback:') == 1 and debug.sethook == nil",
    "io.write('a', 1) return not pcall(io.lines)",
    "return not pcall(string.dump or error, print)",
]


@both
@pytest.mark.parametrize("lua", ON_CASES)
def test_what_untrusted_lua_on_adds_works(machine: Any, lua: str) -> None:
    """Chunks from text only, environments of one's own functions only, metatables, a traceback."""
    assert error(run(machine, body(lua), profile=ON)) is None


def test_files_are_not_read_after_the_engine_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A jailed worker cannot open files, so every module is there from the start."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    from lupa import luajit21

    assert error(run(luajit21, body("return require('cjson') ~= nil"), limits=Limits())) is None

"""What one Lua state shows to functions, and what it makes of their results.

Functions that attack run in a worker process: see test_lambda_pool.py.
"""

import logging
from typing import Any

import msgspec
import pytest
from lupa import lua51, luajit21

from delivery.lambda_frames import HEADER, Arguments, Call, Limits, Reply, Report
from delivery.lambda_worker import State, States

DATA = {"operation": "create", "entity": {"username": "Lois Lane", "tags": ["a", "b"]}}
QUICK = Limits(cpu_seconds=0.05)
DOCUMENTED = """return function (data, event, source, pid)
  local user = data.entity.username
  error("Event hook on consumer " .. user .. "")
end
"""


@pytest.fixture(params=[luajit21, lua51], ids=["luajit21", "lua51"])
def machine(request: pytest.FixtureRequest) -> Any:
    """Both virtual machines: functions must not notice which one there is."""
    return request.param


def body(lua: str) -> str:
    return f"return function (data, event, source, pid)\n{lua}\nend"


def run(
    machine: Any, *functions: str, data: Any = DATA, lenient: bool = False, limits: Limits = QUICK
) -> Report:
    return run_state(State(functions, limits, machine), data, lenient=lenient)[0]


def run_state(state: State, data: Any = DATA, *, lenient: bool = False) -> tuple[Report, bool]:
    arguments = Arguments(msgspec.json.encode(data), "consumers", "crud", 4711, lenient)
    report, reusable = state.run(arguments)
    return msgspec.msgpack.decode(report, type=Report), reusable


def texts(report: Report) -> list[str]:
    return [line.text.decode() for line in report.lines]


@pytest.mark.parametrize(
    ("lua", "error"),
    [
        ("return true", None),
        ("return true, 'more'", None),
        ("", b"function 1 returned nil, expected true (will be retried)"),
        ("return false", b"function 1 returned false, expected true (will be retried)"),
        ("return 1", b"function 1 returned number, expected true (will be retried)"),
        ("return 'true'", b"function 1 returned string, expected true (will be retried)"),
        ("return {}", b"function 1 returned table, expected true (will be retried)"),
    ],
)
def test_only_true_is_success(machine: Any, lua: str, error: bytes | None) -> None:
    """A function succeeds by returning exactly true, as in Kong since 2025."""
    assert run(machine, body(lua)).error == error


@pytest.mark.parametrize("lua", ["", "return false", "return {}"])
def test_lenient_calls_accept_any_result(machine: Any, lua: str) -> None:
    """With lambda_success = no_error only an error is a failure."""
    assert run(machine, body(lua), lenient=True).error is None
    assert run(machine, body("error('x', 0)"), lenient=True).error == b"x"


def test_the_documented_function_fails_with_kongs_words(machine: Any) -> None:
    """The text names the chunk by its first line, and the line of the error."""
    report = run(machine, DOCUMENTED)

    assert report.error == (
        b'[string "return function (data, event, source, pid)..."]:3: '
        b"Event hook on consumer Lois Lane"
    )


@pytest.mark.parametrize(
    ("lua", "error"),
    [
        ("error('plain', 0)", b"plain"),
        ("error(42, 0)", b"42"),
        ("error({})", b"(error object is a table value)"),
        ("error()", b"(error object is a nil value)"),
        ("error(print)", b"(error object is a function value)"),
    ],
)
def test_an_error_may_be_any_value(machine: Any, lua: str, error: bytes) -> None:
    """Error values that are no text are named by their type and never converted."""
    assert run(machine, body(lua)).error == error


def test_functions_run_in_order_up_to_the_first_failure(machine: Any) -> None:
    """The second of three fails: the third is not run, and the message counts from one."""
    report = run(
        machine,
        body("print('one') return true"),
        body("print('two')"),
        body("print('three') return true"),
    )

    assert texts(report) == ["one", "two"]
    assert report.error == b"function 2 returned nil, expected true (will be retried)"


def test_functions_get_data_event_source_and_pid(machine: Any) -> None:
    """The four arguments are those of Kong."""
    lua = "print(data.entity.username, ' ', event, ' ', source, ' ', pid) return true"

    assert texts(run(machine, body(lua))) == ["Lois Lane consumers crud 4711"]


def test_data_becomes_plain_lua_values(machine: Any) -> None:
    """Nested values keep their kind, null is nil, lists count from one, text keeps its bytes."""
    lua = """
        local seen = {}
        local function walk(value)
          seen[type(value)] = true
          if type(value) == "table" then for k, v in pairs(value) do walk(k) walk(v) end end
        end
        walk(data)
        assert(not seen.userdata and not seen["function"])
        assert(data.none == nil and data.list[1] == 1 and data.list[2] == nil and data.list[3].ok)
        assert(data.half == 0.5 and data.huge > 1e300 and data.big == 2 ^ 70)
        assert(data["żółć"] == "\\197\\130" and #data["żółć"] == 2)
        return true
    """
    data = {
        "none": None,
        "list": [1, None, {"ok": True}],
        "half": 0.5,
        "huge": 10**400,
        "big": 2**70,
        "żółć": "ł",
    }

    assert run(machine, body(lua), data=data).error is None


def test_text_cut_inside_a_character_survives(machine: Any) -> None:
    """Lua cuts bytes; the halves of a character come out as they are."""
    report = run(
        machine, body("print(data.name:sub(1, 1)) error(data.name:sub(2), 0)"), data={"name": "ł"}
    )

    assert report.lines[0].text == b"\xc5"
    assert report.error == b"\x82"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("retur x", b"Error parsing function: [string \"retur x\"]:1: '=' expected near 'x'"),
        ("error('top')", b"Error parsing function: [string \"error('top')\"]:1: top"),
        ("return 7", b"Bad return value from function, expected function type, got number"),
        ("", b"Bad return value from function, expected function type, got nil"),
        ("\x1bLJ\x02", b"Error parsing function: attempt to load chunk with wrong mode"),
        ("\x1bLua", b"Error parsing function: attempt to load chunk with wrong mode"),
    ],
)
def test_a_chunk_must_be_text_that_returns_a_function(
    machine: Any, source: str, error: bytes
) -> None:
    """Chunks that make no function are refused in Kong's words, at creation and at a call."""
    state = State((source,), QUICK, machine)

    assert msgspec.msgpack.decode(state.run(None)[0], type=Report).error == error
    assert run(machine, source).error == error


@pytest.mark.parametrize("start", ["#\n", "\ufeff", "\ufeff#\n"])
def test_bytecode_cannot_hide_behind_a_header(machine: Any, start: str) -> None:
    """A shebang line or a byte order mark does not smuggle bytecode in."""
    error = run(machine, start + "\x1bLJ\x02\x0a\x00").error or b""

    assert error.startswith(b"Error parsing function: ")


def test_checking_does_not_call_the_function(machine: Any) -> None:
    """Without arguments only the chunk's top level runs."""
    state = State(("print('top') return function () print('called') end",), QUICK, machine)
    report = msgspec.msgpack.decode(state.run(None)[0], type=Report)

    assert (report.error, texts(report)) == (None, ["top"])


@pytest.mark.parametrize(
    "name",
    [
        *("io", "debug", "package", "python", "jit", "ffi", "module", "newproxy"),
        *("load", "loadstring", "loadfile", "dofile", "getfenv", "setfenv"),
        *("getmetatable", "setmetatable", "rawget", "rawset", "rawequal", "collectgarbage"),
        *("os.execute", "os.exit", "os.getenv", "os.remove", "os.rename", "os.tmpname"),
        *("string.dump", "('').dump", "math.randomseed", "table.foreach"),
    ],
)
def test_dangerous_names_do_not_exist(machine: Any, name: str) -> None:
    """Neither the environment nor a string's methods offer more than Kong's list."""
    assert run(machine, body(f"return {name} == nil")).error is None


KONGS_LIST = """
    _VERSION assert error ipairs next pairs pcall print select tonumber tostring type unpack
    xpcall coroutine.create coroutine.resume coroutine.running coroutine.status coroutine.wrap
    coroutine.yield math.abs math.floor math.huge math.pi math.random os.clock os.date
    os.difftime os.time string.byte string.char string.find string.format string.gmatch
    string.gsub string.len string.lower string.match string.rep string.reverse string.sub
    string.upper table.concat table.insert table.maxn table.remove table.sort kong.log.err
    ngx.null ngx.log ngx.ERR
"""


def test_everything_on_kongs_list_exists(machine: Any) -> None:
    """Functions written for Kong's sandbox find what they use."""
    lua = "".join(f"assert({name} ~= nil, '{name}')\n" for name in KONGS_LIST.split())

    assert run(machine, body(lua + "return true")).error is None


@pytest.mark.parametrize(
    ("lua", "error"),
    [
        ("string.upper = 1", b"Cannot modify string.upper. Protected by the sandbox."),
        ("kong.log.x = 1", b"Cannot modify kong.log.x. Protected by the sandbox."),
        ("require 'socket'", b"require 'socket' not allowed within sandbox"),
    ],
)
def test_forbidden_acts_say_so_in_kongs_words(machine: Any, lua: str, error: bytes) -> None:
    """Writing to a library and requiring a module are errors with the place they happen at."""
    assert (run(machine, body(lua)).error or b"").endswith(b"]:2: " + error)


def test_globals_live_as_long_as_the_state(machine: Any) -> None:
    """A function keeps its globals from call to call, and no other function sees them."""
    counting = body("n = (n or 0) + 1 print(n) return _G.n == n")
    looking = body("return n == nil")
    state = State((counting, looking), QUICK, machine)

    assert texts(run_state(state)[0]) == ["1"]
    assert texts(run_state(state)[0]) == ["2"]


def test_every_way_to_log_is_captured_with_its_level(machine: Any) -> None:
    """print, kong.log and ngx.log join their arguments like OpenResty does."""
    lua = """
        print("a", 1, nil, true)
        kong.log("plain") kong.log.debug("d") kong.log.warn("w", 2) kong.log.err("e")
        kong.log.emerg("!") ngx.log(ngx.DEBUG, "d") ngx.log(ngx.ERR, "x", "y")
        return true
    """
    report = run(machine, body(lua))

    assert [(line.level, line.text) for line in report.lines] == [
        (logging.INFO, b"a1niltrue"),
        (logging.INFO, b"plain"),
        (logging.DEBUG, b"d"),
        (logging.WARNING, b"w2"),
        (logging.ERROR, b"e"),
        (logging.CRITICAL, b"!"),
        (logging.DEBUG, b"d"),
        (logging.ERROR, b"xy"),
    ]


def test_logging_is_bounded_in_lines_and_bytes(machine: Any) -> None:
    """Lines beyond the limits are counted, the last one kept may be cut."""
    flood = run(machine, body("for i = 1, 1000 do print(i) end return true"))
    wide = run(machine, body("for i = 1, 3 do print(('x'):rep(10000)) end return true"))

    assert (len(flood.lines), flood.dropped, flood.error) == (100, 900, None)
    assert ([len(line.text) for line in wide.lines], wide.dropped) == ([10000, 6384], 1)


def test_an_error_text_is_bounded(machine: Any) -> None:
    """A function cannot flood the service through its error."""
    assert len(run(machine, body("error(('x'):rep(1e6))")).error or b"") == QUICK.error_size


@pytest.mark.parametrize(
    "lua",
    [
        "while true do end",
        "for i = 1, 1e15 do end",
        "while true do pcall(function () while true do end end) end",
        "xpcall(error, function () while true do end end) while true do end",
        "local f f = function () return pcall(f) or f() end f()",
        "local c = coroutine.create(function () repeat until nil end) coroutine.resume(c)",
        "coroutine.wrap(function () while true do end end)()",
        "for i = 1, 1e15 do print('flood') end",
        "local t = { 2, 1 } repeat table.sort(t, function (a, b) return a > b end) until nil",
    ],
)
def test_the_soft_clock_stops_whatever_runs_lua(machine: Any, lua: str) -> None:
    """Loops end with a message, whatever they catch, and their state is not used again."""
    report, reusable = run_state(State((body(lua),), QUICK, machine))

    assert (report.error or b"").endswith(b"time limit of 0.05s exceeded")
    assert b"sandbox:" not in (report.error or b"")
    assert not reusable


def test_a_top_level_loop_is_stopped_too(machine: Any) -> None:
    """A chunk that never returns its function is a fault of the chunk."""
    error = run(machine, "while true do end").error or b""

    assert error.startswith(b"Error parsing function: [string ")
    assert error.endswith(b"]:1: time limit of 0.05s exceeded")


@pytest.mark.parametrize(
    "lua",
    [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "return ('x'):rep(1e9)",
        "local t = {} while true do t = { t, ('x'):rep(1e5) .. tostring(t) } end",
    ],
)
def test_memory_is_limited(machine: Any, lua: str) -> None:
    """Whoever needs too much gets an error, and the state is not used again."""
    limits = Limits(lua_memory=4 * 1024 * 1024)
    report, reusable = run_state(State((body(lua),), limits, machine))

    assert (report.error or b"").endswith(b"not enough memory (the limit is 4 MiB)")
    assert not reusable


def test_data_counts_as_memory(machine: Any) -> None:
    """An event too large for the limit is the same error, before anything runs."""
    limits = Limits(lua_memory=1024 * 1024)
    state = State((body("return true"),), limits, machine)
    report, reusable = run_state(state, {"lists": [[]] * 100_000})

    assert (report.error, reusable) == (b"not enough memory (the limit is 1 MiB)", False)


def test_a_state_that_keeps_memory_is_dropped(machine: Any) -> None:
    """Memory kept behind pcall neither harms the host nor stays."""
    limits = Limits(lua_memory=4 * 1024 * 1024, kept_memory=1024 * 1024, cpu_seconds=5)
    hoarding = body(
        "K = {} pcall(function () for i = 1, 1e9 do K[i] = 'x' .. i end end) return true"
    )
    report, reusable = run_state(State((hoarding,), limits, machine))

    assert (report.error, reusable) == (None, False)


def test_garbage_is_not_held_against_a_state(machine: Any) -> None:
    """A state is measured after a collection."""
    limits = Limits(kept_memory=1024 * 1024)
    wasteful = body("local s for i = 1, 2000 do s = ('x'):rep(2000) .. i end return true")

    assert run_state(State((wasteful,), limits, machine)) == (Report(None, [], 0), True)


def ask(states: States, hook: str, source: str) -> Reply:
    arguments = Arguments(b"{}", "e", "s", 1)
    frame = states.answer(Call("w", hook, (source,), arguments))
    return msgspec.msgpack.decode(frame[HEADER.size :], type=Reply)


COUNTING = body("n = (n or 0) + 1 print(n) return true")


def test_states_belong_to_one_version_of_one_hook() -> None:
    """Another hook, or the same one with another function, starts from nothing."""
    states = States(Limits())
    seen = [
        texts(ask(states, hook, source).report)
        for hook, source in [
            ("a", COUNTING),
            ("a", COUNTING),
            ("b", COUNTING),
            ("a", COUNTING + " "),
        ]
    ]

    assert seen == [["1"], ["2"], ["1"], ["1"]]


def test_the_least_recently_used_state_goes_first() -> None:
    """Only so many states are kept."""
    states = States(Limits(states=2))
    for hook in ("a", "b", "a", "c"):
        ask(states, hook, COUNTING)

    assert texts(ask(states, "a", COUNTING).report) == ["3"]
    assert texts(ask(states, "b", COUNTING).report) == ["1"]


def test_a_worker_asks_to_be_replaced_after_many_calls() -> None:
    """What leaks anywhere does not leak for ever."""
    states = States(Limits(calls=2))

    assert [ask(states, "a", COUNTING).retiring for _ in range(2)] == [False, True]


def test_a_large_service_does_not_make_its_workers_look_large() -> None:
    """What a worker inherits from the service's peak is no reason to replace it."""
    assert not ask(States(Limits(resident=1)), "a", COUNTING).retiring

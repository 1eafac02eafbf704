"""What one Lua state makes of functions and templates: results, failures, limits, its life.

Functions that attack run in a worker process: see test_attacks.py.
"""

import logging
from typing import Any

import msgspec
import pytest

from delivery.jail.frames import (
    Arguments,
    Call,
    Failure,
    Functions,
    Limits,
    Line,
    Profile,
    Report,
    Templates,
)
from delivery.jail.lua_engine import Lua, State
from tests.delivery.jail.lua_states import (
    PATIENT,
    QUICK,
    SANDBOX,
    body,
    both,
    check,
    error,
    render,
    run,
    run_state,
    texts,
)

DOCUMENTED = """return function (data, event, source, pid)
  local user = data.entity.username
  error("Event hook on consumer " .. user .. "")
end
"""


@both
@pytest.mark.parametrize(
    ("lua", "problem"),
    [
        ("return true", None),
        ("return true, 'more'", None),
        ("", "function 1 returned nil, expected true (will be retried)"),
        ("return false", "function 1 returned false, expected true (will be retried)"),
        ("return 1", "function 1 returned number, expected true (will be retried)"),
        ("return 'true'", "function 1 returned string, expected true (will be retried)"),
        ("return {}", "function 1 returned table, expected true (will be retried)"),
    ],
)
def test_only_true_is_success(machine: Any, lua: str, problem: str | None) -> None:
    """A function succeeds by returning exactly true, as in Kong since 2025."""
    assert error(run(machine, body(lua))) == problem


@both
@pytest.mark.parametrize("lua", ["", "return false", "return {}"])
def test_lenient_calls_accept_any_result(machine: Any, lua: str) -> None:
    """With lambda_success = no_error only an error is a failure."""
    assert error(run(machine, body(lua), lenient=True)) is None
    assert error(run(machine, body("error('x', 0)"), lenient=True)) == "x"


@both
def test_the_documented_function_fails_with_kongs_words(machine: Any) -> None:
    """The text names the chunk by its first line, and the line of the error."""
    report = run(machine, DOCUMENTED)

    assert report.failures == [
        Failure(
            0,
            None,
            b'[string "return function (data, event, source, pid)..."]:3: '
            b"Event hook on consumer Lois Lane",
        )
    ]


@both
@pytest.mark.parametrize(
    ("lua", "problem"),
    [
        ("error('plain', 0)", "plain"),
        ("error(42, 0)", "42"),
        ("error({})", "(error object is a table value)"),
        ("error()", "(error object is a nil value)"),
        ("error(print)", "(error object is a function value)"),
    ],
)
def test_an_error_may_be_any_value(machine: Any, lua: str, problem: str) -> None:
    """Error values that are no text are named by their type and never converted."""
    assert error(run(machine, body(lua))) == problem


@both
def test_functions_run_in_order_up_to_the_first_failure(machine: Any) -> None:
    """The second of three fails: the third is not run, and the message counts from one."""
    report = run(
        machine,
        body("print('one') return true"),
        body("print('two')"),
        body("print('three') return true"),
    )

    assert texts(report) == ["one", "two"]
    assert report.failures == [
        Failure(1, None, b"function 2 returned nil, expected true (will be retried)")
    ]


@both
def test_functions_get_data_event_source_and_pid(machine: Any) -> None:
    """The four arguments are those of Kong."""
    lua = "print(data.entity.username, ' ', event, ' ', source, ' ', pid) return true"

    assert texts(run(machine, body(lua))) == ["Lois Lane consumers crud 4711"]


@both
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

    assert error(run(machine, body(lua), data=data)) is None


@both
def test_text_cut_inside_a_character_survives(machine: Any) -> None:
    """Lua cuts bytes; the halves of a character come out as they are."""
    report = run(
        machine, body("print(data.name:sub(1, 1)) error(data.name:sub(2), 0)"), data={"name": "ł"}
    )

    assert report.lines[0].text == b"\xc5"
    assert report.failures[0].text == b"\x82"


@both
@pytest.mark.parametrize(
    ("lua", "result"),
    [
        ("return true", b"true"),
        ("return false", b"false"),
        ("return 7", b"7"),
        ("return 'a\\n'", b'"a\\n"'),
        ("return { 1, { a = ngx.null } }", b'[1,{"a":null}]'),
        ("return data.entity.username", b'"Lois Lane"'),
        ("", None),
        ("return print", None),
        ("return { print }", None),
        ("local t = {} t.t = t return t", None),
        ("return 1 / 0", None),
        ("return ('x'):rep(1e6)", None),
    ],
)
def test_the_last_result_is_reported_as_json(machine: Any, lua: str, result: bytes | None) -> None:
    """Whatever has a JSON form of reasonable size; anything else is no result, and no failure."""
    report = run(machine, body("return 'first'"), body(lua), lenient=True)

    assert (report.failures, report.result) == ([], result)


@both
def test_a_failure_shows_its_result_and_an_error_has_none(machine: Any) -> None:
    """What a refused function returned helps to find out why; an error has none."""
    assert run(machine, body("return 'no'")).result == b'"no"'
    assert run(machine, body("return true"), body("error('x')")).result is None


@both
@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("retur x", "Error parsing function: [string \"retur x\"]:1: '=' expected near 'x'"),
        ("error('top')", "Error parsing function: [string \"error('top')\"]:1: top"),
        ("error({})", "Error parsing function: (error object is a table value)"),
        ("return 7", "Bad return value from function, expected function type, got number"),
        ("", "Bad return value from function, expected function type, got nil"),
        ("\x1bLJ\x02", "Error parsing function: attempt to load chunk with wrong mode"),
        ("\x1bLua", "Error parsing function: attempt to load chunk with wrong mode"),
    ],
)
def test_a_chunk_must_be_text_that_returns_a_function(
    machine: Any, source: str, problem: str
) -> None:
    """Chunks that make no function are refused in Kong's words, at creation and at a call."""
    assert error(check(machine, Functions((source,)))) == problem
    assert error(run(machine, source)) == problem


@both
@pytest.mark.parametrize("start", ["#\n", "\ufeff", "\ufeff#\n"])
def test_bytecode_cannot_hide_behind_a_header(machine: Any, start: str) -> None:
    """A shebang line or a byte order mark does not smuggle bytecode in."""
    problem = error(run(machine, start + "\x1bLJ\x02\x0a\x00")) or ""

    assert problem.startswith("Error parsing function: ")


@both
def test_checking_does_not_call_the_function(machine: Any) -> None:
    """Without arguments only the chunk's top level runs."""
    source = "print('top') return function () print('called') end"
    report = check(machine, Functions((source,)))

    assert (report.failures, texts(report), report.result) == ([], ["top"], None)


@both
def test_a_chunk_may_use_everything_at_its_top(machine: Any) -> None:
    """What a function captures when it is made is there in a check too."""
    source = """
        local cjson, now, log = require "cjson", ngx.now(), kong.log
        local digest, version = ngx.md5("a"), kong.version
        return function () return true end
    """

    assert check(machine, Functions((source,))).failures == []


@both
def test_checking_reports_every_part_that_fails(machine: Any) -> None:
    """All faulty functions are named at once, by their index; the clock ends the check."""
    sources = (body(""), "return 7", body(""), "x x", "while true do end", "return 8")
    report = check(machine, Functions(sources), QUICK)

    assert [(failure.index, failure.text) for failure in report.failures] == [
        (1, b"Bad return value from function, expected function type, got number"),
        (3, b"Error parsing function: [string \"x x\"]:1: '=' expected near 'x'"),
        (
            4,
            b'Error parsing function: [string "while true do end"]:1: time limit of 0.05s exceeded',
        ),
    ]


@both
def test_globals_live_as_long_as_the_state(machine: Any) -> None:
    """A function keeps its globals from call to call, and no other function sees them."""
    counting = body("n = (n or 0) + 1 print(n) return _G.n == n")
    looking = body("return n == nil")
    state = State(Functions((counting, looking)), PATIENT, SANDBOX, machine)

    assert texts(run_state(state)[0]) == ["1"]
    assert texts(run_state(state)[0]) == ["2"]


@both
def test_every_way_to_log_is_captured_with_its_level(machine: Any) -> None:
    """print, kong.log and ngx.log join their arguments like OpenResty does."""
    lua = """
        print("a", 1, nil, true)
        kong.log("plain") kong.log.debug("d") kong.log.info("i") kong.log.notice("n")
        kong.log.warn("w", 2) kong.log.err("e") kong.log.crit("c") kong.log.alert("a")
        kong.log.emerg("!") ngx.log(ngx.DEBUG, "d") ngx.log(ngx.ERR, "x", "y")
        kong.log.inspect({ 1 }, "z")
        return true
    """
    report = run(machine, body(lua))

    assert report.lines == [
        Line(logging.INFO, b"a1niltrue"),
        Line(logging.INFO, b"plain"),
        Line(logging.DEBUG, b"d"),
        Line(logging.INFO, b"i"),
        Line(logging.INFO, b"n"),
        Line(logging.WARNING, b"w2"),
        Line(logging.ERROR, b"e"),
        Line(logging.CRITICAL, b"c"),
        Line(logging.CRITICAL, b"a"),
        Line(logging.CRITICAL, b"!"),
        Line(logging.DEBUG, b"d"),
        Line(logging.ERROR, b"xy"),
        Line(logging.DEBUG, b"[1] z"),
    ]


@both
def test_logging_is_bounded_in_lines_and_bytes(machine: Any) -> None:
    """Lines beyond the limits are counted, the last one kept may be cut."""
    flood = run(machine, body("for i = 1, 1000 do print(i) end return true"))
    wide = run(machine, body("for i = 1, 3 do print(('x'):rep(10000)) end return true"))

    assert (len(flood.lines), flood.dropped, flood.failures) == (100, 900, [])
    assert ([len(line.text) for line in wide.lines], wide.dropped) == ([10000, 6384], 1)


@both
def test_an_error_text_is_bounded(machine: Any) -> None:
    """A function cannot flood the service through its error."""
    report = run(machine, body("error(('x'):rep(1e6))"))

    assert len(report.failures[0].text) == PATIENT.error_size


@both
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
        "local cjson = require 'cjson.safe' while true do cjson.decode('[1,[2]]') end",
        "while true do ngx.md5('x') end",
        "while true do pcall(hook.emit, 'x/y') end",
    ],
)
def test_the_soft_clock_stops_whatever_runs_lua(machine: Any, lua: str) -> None:
    """Loops end with a message, whatever they catch, and their state is not used again."""
    report, reusable = run_state(State(Functions((body(lua),)), QUICK, SANDBOX, machine))

    assert (error(report) or "").endswith("time limit of 0.05s exceeded")
    assert "sandbox" not in (error(report) or "")
    assert not reusable


@both
def test_a_top_level_loop_is_stopped_too(machine: Any) -> None:
    """A chunk that never returns its function is a fault of the chunk."""
    problem = error(run(machine, "while true do end", limits=QUICK)) or ""

    assert problem.startswith("Error parsing function: [string ")
    assert problem.endswith("]:1: time limit of 0.05s exceeded")


@both
def test_a_result_that_takes_too_long_to_write_is_a_failure(machine: Any) -> None:
    """The clock also runs while the result becomes JSON."""
    lua = "local t = {} for i = 1, 1000 do t[i] = {} end for i = 1, 1000 do t[i].a = t end return t"
    limits = Limits(cpu_seconds=0.05, result_size=10**9, lua_memory=10**9)
    deep = "local t = {} for i = 1, 18 do t = { t, t } end return t"
    problem = error(run(machine, body(deep), lenient=True, limits=limits))

    assert problem == "time limit of 0.05s exceeded"
    assert run(machine, body(lua), lenient=True).result is None


@both
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
    limits = Limits(cpu_seconds=5, lua_memory=4 * 1024 * 1024)
    report, reusable = run_state(State(Functions((body(lua),)), limits, SANDBOX, machine))

    assert (error(report) or "").endswith("not enough memory (the limit is 4 MiB)")
    assert not reusable


@both
def test_data_counts_as_memory(machine: Any) -> None:
    """An event too large for the limit is the same error, before anything runs."""
    limits = Limits(lua_memory=1024 * 1024)
    state = State(Functions((body("return true"),)), limits, SANDBOX, machine)
    report, reusable = run_state(state, {"lists": [[]] * 100_000})

    assert (error(report), reusable) == ("not enough memory (the limit is 1 MiB)", False)


@both
def test_a_state_that_keeps_memory_is_dropped(machine: Any) -> None:
    """Memory kept behind pcall neither harms the host nor stays."""
    limits = Limits(lua_memory=4 * 1024 * 1024, kept_memory=1024 * 1024, cpu_seconds=5)
    hoarding = body(
        "K = {} pcall(function () for i = 1, 1e9 do K[i] = 'x' .. i end end) return true"
    )
    report, reusable = run_state(State(Functions((hoarding,)), limits, SANDBOX, machine))

    assert (error(report), reusable) == (None, False)


@both
def test_garbage_is_not_held_against_a_state(machine: Any) -> None:
    """A state is measured after a collection."""
    limits = Limits(kept_memory=1024 * 1024)
    wasteful = body("local s for i = 1, 2000 do s = ('x'):rep(2000) .. i end return true")
    state = State(Functions((wasteful,)), limits, SANDBOX, machine)

    assert run_state(state) == (Report(result=b"true"), True)


@both
def test_templates_are_rendered_with_the_same_data(machine: Any) -> None:
    """One text each, in order; a template's result is its text alone."""
    report = render(
        machine, "Hi {{ entity.username:upper() }}", "{% if x then %}a{% else %}b{% end %}"
    )

    assert report == Report(texts=[b"Hi LOIS LANE", b"b"])


@both
def test_a_template_that_fails_leaves_no_texts(machine: Any) -> None:
    """The failure names the template and the line in it; nothing half-rendered gets out."""
    report = render(machine, "fine", "one\ntwo {{ missing.name }}", "fine")

    assert report == Report(
        failures=[Failure(1, 2, b"attempt to index global 'missing' (a nil value)")]
    )


@both
def test_checking_templates_reports_every_one_that_fails(machine: Any) -> None:
    """What the compiler refuses and what Lua refuses, each with its line."""
    sources = ("{{ a }}", "\n{(file)}", "\n\n{% if x %}", "{{ 1 + }}")
    failures = check(machine, Templates(sources)).failures

    assert [(failure.index, failure.line) for failure in failures] == [(1, 2), (2, 3), (3, 1)]
    assert failures[0].text == b"includes are disabled"
    assert b"expected" in failures[1].text


@both
@pytest.mark.parametrize("name", ["print", "require", "kong", "ngx", "hook", "setmetatable"])
def test_templates_have_no_effects(machine: Any, name: str) -> None:
    """Nothing that logs, loads or acts is there in a template."""
    assert render(machine, f"{{{{ type({name}) }}}}").texts == [b"nil"]


@both
def test_templates_have_the_libraries(machine: Any) -> None:
    """What functions find of Lua's own libraries is there, and json."""
    template = (
        "{{ math.floor(1.5) }} {{ ('x'):rep(2) }} {* table.concat({ 1, 2 }, '-') *}"
        " {{ os.date('%Y', 0) }} {{ bit.band(6, 3) }} {* json(entity.tags) *}"
    )

    assert render(machine, template).texts == [b'1 xx 1-2 1970 2 ["a","b"]']


@both
def test_the_clock_names_the_line_of_a_template(machine: Any) -> None:
    """A template that does not end is a failure with a line, like any other."""
    report = render(machine, "a\n{% while true do end %}", limits=QUICK)

    assert report.failures == [Failure(0, 2, b"time limit of 0.05s exceeded")]


@both
@pytest.mark.parametrize("text", ["template:7: x", f"template:{'9' * 400}: x", "template:x"])
def test_a_forged_place_does_no_harm(machine: Any, text: str) -> None:
    """A template may name any line; a function is in none."""
    template = render(machine, f"{{% error('{text}', 0) %}}").failures[0]
    function = run(machine, body(f"error('{text}', 0)")).failures[0]

    assert (template.line == 7) == (text == "template:7: x")
    assert (function.line, function.text) == (None, text.encode())


@both
def test_texts_are_bounded_together(machine: Any) -> None:
    """The templates of one call share the room that there is for texts."""
    limits = Limits(cpu_seconds=5, text_size=100)
    fitting = render(machine, "{{ ('x'):rep(60) }}", "{{ ('x'):rep(40) }}", limits=limits)
    over = render(machine, "{{ ('x'):rep(60) }}", "{{ ('x'):rep(41) }}", limits=limits)

    assert [len(text) for text in fitting.texts] == [60, 40]
    assert [failure.index for failure in over.failures] == [1]


def ask(lua: Lua, hook: str, source: str) -> Report:
    call = Call("w", hook, Functions((source,)), Arguments(b"{}", "e", "s", 1))
    return msgspec.msgpack.decode(lua.answer(call), type=Report)


COUNTING = body("n = (n or 0) + 1 print(n) return true")


def test_states_belong_to_one_version_of_one_hook() -> None:
    """Another hook, or the same one with another function, starts from nothing."""
    lua = Lua(Limits(), Profile())
    seen = [
        texts(ask(lua, hook, source))
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
    lua = Lua(Limits(states=2), Profile())
    for hook in ("a", "b", "a", "c"):
        ask(lua, hook, COUNTING)

    assert texts(ask(lua, "a", COUNTING)) == ["3"]
    assert texts(ask(lua, "b", COUNTING)) == ["1"]


@both
def test_nothing_of_python_is_in_a_state(machine: Any) -> None:
    """The virtual machine's bridge is not there, even for our own files."""
    lua = Lua(Limits(), Profile(), machine)
    lua.warm_up()

    assert lua.name.startswith("Lua")
    assert error(ask(lua, "a", body("return python == nil and lupa == nil"))) is None

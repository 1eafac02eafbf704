"""`hook`: what functions want done once all have succeeded, and what is refused on the spot."""

from typing import Any

import msgspec
import pytest

from delivery.jail.frames import Effect, Functions, Limits, Profile, Report
from delivery.jail.lua_engine import State
from tests.delivery.jail.lua_states import (
    PATIENT,
    SANDBOX,
    body,
    both,
    check,
    error,
    run,
    run_state,
    texts,
)

LAX = Profile(untrusted_lua="lax")


def effects(report: Report) -> list[tuple[str, Any]]:
    return [(effect.kind, msgspec.json.decode(effect.content)) for effect in report.effects]


@both
def test_effects_are_listed_in_order(machine: Any) -> None:
    """Those of all functions together, each as JSON."""
    report = run(
        machine,
        body("hook.emit('seen', { n = 1 }) hook.set({ name = 'new' }) return true"),
        body("hook.request({ url = 'https://example.com/' }) return true"),
        profile=LAX,
    )

    assert report.failures == []
    assert effects(report) == [
        ("emit", {"event": "seen", "data": {"n": 1}}),
        ("set", {"name": "new"}),
        ("request", {"method": "POST", "url": "https://example.com/", "headers": {}}),
    ]


@both
def test_a_failure_leaves_no_effects(machine: Any) -> None:
    """Neither those before it nor those of the function itself."""
    emitting = body("hook.emit('seen') return true")

    for failing in ("hook.emit('x') return false", "hook.emit('x') error('y')", "return 1"):
        assert run(machine, emitting, body(failing)).effects == []


@both
@pytest.mark.parametrize(
    "answer", ["return hook.skip('why')", "hook.skip('why')", "hook.skip('why') return 1"]
)
def test_a_skip_is_the_only_effect(machine: Any, answer: str) -> None:
    """Whatever was wanted is not, the remaining functions do not run, and the run succeeds."""
    report = run(
        machine,
        body("hook.emit('a') return true"),
        body(f"hook.emit('b') {answer}"),
        body("print('not run') return false"),
    )

    assert (report.failures, report.lines) == ([], [])
    assert report.effects == [Effect("skip", b'"why"')]


@both
def test_nothing_is_added_to_a_skip(machine: Any) -> None:
    """The first skip stands; it needs no reason, and it returns true."""
    lua = (
        "local said = hook.skip() hook.skip('two') hook.emit('x') hook.set({}) return said == true"
    )

    assert run(machine, body(lua)).effects == [Effect("skip", b'""')]


@both
def test_an_error_after_a_skip_is_a_failure(machine: Any) -> None:
    """A skip excuses a return value, not an error."""
    report = run(machine, body("hook.skip('why') error('broken', 0)"))

    assert (error(report), report.effects) == ("broken", [])


@both
def test_later_functions_get_what_was_set(machine: Any) -> None:
    """They see the new data, and so does an emission without data of its own."""
    report = run(
        machine,
        body("hook.set({ name = data.entity.username }) return true"),
        body("print(data.name) hook.emit('next') return true"),
    )

    assert texts(report) == ["Lois Lane"]
    assert effects(report)[1] == ("emit", {"event": "next", "data": {"name": "Lois Lane"}})


@both
def test_an_effect_is_written_down_at_once(machine: Any) -> None:
    """What is done to the data afterwards does not change it."""
    report = run(machine, body("local t = { n = 1 } hook.emit('a', t) t.n = 2 return true"))

    assert effects(report) == [("emit", {"event": "a", "data": {"n": 1}})]


@both
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("url = 'http://a'", {"method": "POST", "url": "http://a", "headers": {}}),
        (
            "url = 'HTTPS://a/?b', method = 'get', headers = { ['X-A'] = 'b' }, body = 'text'",
            {"method": "GET", "url": "HTTPS://a/?b", "headers": {"X-A": "b"}, "body": "text"},
        ),
        (
            "url = 'http://a', json = { n = 1 }",
            {
                "method": "POST",
                "url": "http://a",
                "headers": {"content-type": "application/json"},
                "body": '{"n":1}',
            },
        ),
        (
            "url = 'http://a', json = { 1 }, headers = { ['Content-Type'] = 'text/x' }",
            {
                "method": "POST",
                "url": "http://a",
                "headers": {"Content-Type": "text/x"},
                "body": "[1]",
            },
        ),
    ],
)
@pytest.mark.parametrize("level", ["lax", "on"])
def test_requests_are_complete(
    machine: Any, level: Any, request_: str, expected: dict[str, Any]
) -> None:
    """Method and headers are filled in, JSON is written and named."""
    lua = body(f"hook.request({{ {request_} }}) return true")
    report = run(machine, lua, profile=Profile(untrusted_lua=level))

    assert (report.failures, effects(report)) == ([], [("request", expected)])


@both
@pytest.mark.parametrize(
    ("lua", "problem"),
    [
        ("hook.skip(1)", "hook.skip: reason must be a string, got number"),
        ("hook.set()", "hook.set: data must be a table, got nil"),
        ("hook.set('x')", "hook.set: data must be a table, got string"),
        ("hook.set({ 1 })", "hook.set: data must have names as keys, got a list"),
        ("hook.set({ f = print })", "hook.set: data: Cannot serialise function"),
        ("hook.emit()", "hook.emit: event must be a string, got nil"),
        ("hook.emit('')", "hook.emit: event must have 1 to 128 printable characters"),
        ("hook.emit(('x'):rep(129))", "hook.emit: event must have 1 to 128 printable characters"),
        ("hook.emit('a/b')", 'none of them "/"'),
        ("hook.emit('a\\nb')", "hook.emit: event must have 1 to 128 printable characters"),
        ("hook.emit('a', 1)", "hook.emit: data must be a table, got number"),
        ("hook.emit('a', { { x = 1 } })", "hook.emit: data must have names as keys, got a list"),
        ("local t = {} t.t = t hook.emit('a', t)", "hook.emit: data: Cannot serialise, excessive"),
        ("hook.request()", "hook.request: its argument must be a table, got nil"),
        ("hook.request({})", "hook.request: url must be a string, got nil"),
        ("hook.request({ url = 'ftp://a' })", "hook.request: url must begin with http:// or"),
        ("hook.request({ url = 'http://a b' })", "hook.request: url must begin with http:// or"),
        ("hook.request({ url = 'http://' })", "hook.request: url must begin with http:// or"),
        ("hook.request({ uri = 'http://a' })", "hook.request: there is no field uri"),
        ("hook.request({ url = 'http://a', method = 1 })", "method must be a string, got number"),
        ("hook.request({ url = 'http://a', method = 'A B' })", "method must be one word"),
        ("hook.request({ url = 'http://a', headers = 1 })", "headers must be a table, got number"),
        ("hook.request({ url = 'http://a', headers = { a = 1 } })", "headers must have strings"),
        ("hook.request({ url = 'http://a', headers = { 'a' } })", "headers must have strings"),
        ("hook.request({ url = 'http://a', headers = { a = 'b\\r\\nc: d' } })", 'header "a" has'),
        ("hook.request({ url = 'http://a', headers = { ['a:'] = 'b' } })", 'header "a:" has'),
        ("hook.request({ url = 'http://a', body = {} })", "body must be a string, got table"),
        ("hook.request({ url = 'http://a', json = print })", "json: Cannot serialise function"),
        ("hook.request({ url = 'http://a', json = 1, body = 'x' })", "either body or json"),
    ],
)
def test_wrong_arguments_are_named(machine: Any, lua: str, problem: str) -> None:
    """Each is an error at the place in the function, with the argument that is wrong."""
    text = error(run(machine, body(lua), profile=LAX)) or ""

    assert text.startswith('[string "return function (data, event, source, pid)..."]:2: ')
    assert problem in text


@both
def test_wrong_arguments_of_an_unknown_caller_are_errors_too(machine: Any) -> None:
    """There may be no place to name."""
    text = error(run(machine, body("coroutine.wrap(hook.emit)('a/b')"))) or ""

    assert "hook.emit: event must have 1 to 128 printable characters" in text


@both
def test_events_may_have_any_printable_name(machine: Any) -> None:
    """128 characters, not bytes."""
    name = "ż ó" * 42 + "łć"
    report = run(machine, body("hook.emit(data.name, {}) return true"), data={"name": name})

    assert effects(report) == [("emit", {"event": name, "data": {}})]


@both
def test_requests_need_a_setting(machine: Any) -> None:
    """Without it the error says which."""
    text = error(run(machine, body("hook.request({ url = 'http://a' })"))) or ""

    assert text.endswith("hook.request: only with untrusted_lua = lax or on")


@both
@pytest.mark.parametrize(("depth", "allowed"), [(0, True), (2, True), (3, False)])
def test_emissions_are_three_deep_at_most(machine: Any, depth: int, allowed: bool) -> None:
    """A chain of functions that answer each other's events ends."""
    text = error(run(machine, body("hook.emit('a') return true"), depth=depth))

    assert (text is None) == allowed
    assert allowed or (text or "").endswith("hook.emit: an event can be 3 emissions deep at most")


@both
def test_effects_are_bounded(machine: Any) -> None:
    """In number and, together with the result, in bytes."""
    many = body("for i = 1, data.n do hook.emit('a', {}) end return true")
    large = body("hook.emit('a', { text = ('x'):rep(data.n) }) return ('x'):rep(300)")
    limits = Limits(effects=10, result_size=1000)

    assert len(run(machine, many, data={"n": 10}, limits=limits).effects) == 10
    assert (error(run(machine, many, data={"n": 11}, limits=limits)) or "").endswith(
        "hook.emit: at most 10 effects of one event"
    )
    assert error(run(machine, large, data={"n": 1000}, limits=limits)) is not None
    assert run(machine, large, data={"n": 500}, limits=limits, lenient=True).result is not None
    assert run(machine, large, data={"n": 900}, limits=limits, lenient=True).result is None


@both
@pytest.mark.parametrize("name", ["skip", "set", "emit"])
def test_effects_belong_to_a_call(machine: Any, name: str) -> None:
    """A chunk's top level runs once in a while and in checks: it cannot have any."""
    source = f"hook.{name}('x', {{}}) return function () return true end"
    report = check(machine, Functions((source,)))

    assert (error(report) or "").endswith(
        f"hook.{name}: only a function that is called on an event may do this"
    )
    assert error(run(machine, source)) == error(report)


@both
def test_every_call_begins_without_effects(machine: Any) -> None:
    """Neither effects, nor a skip, nor data that was set stay in the state."""
    lua = "if data.skip then return hook.skip('x') end hook.set({ a = 1 }) return true"
    state = State(Functions((body(lua),)), PATIENT, SANDBOX, machine)
    kinds = [
        [effect.kind for effect in run_state(state, data)[0].effects]
        for data in ({"skip": True}, {}, {"skip": True}, {})
    ]

    assert kinds == [["skip"], ["set"], ["skip"], ["set"]]

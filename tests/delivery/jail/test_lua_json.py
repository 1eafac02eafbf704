"""json.lua by itself: against Python's json, and in lua-cjson's words."""

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.delivery.jail.lua_files import MACHINES, Run, load

STATES = {machine: load(machine) for machine in MACHINES}
"""One state each for all tests that change nothing in it: hypothesis runs many examples."""

both = pytest.mark.parametrize("machine", MACHINES)
bounded = settings(max_examples=150, deadline=None, derandomize=True)

DECODE = "return json.safe_decode(a)"
REENCODE = "return json.encode(json.decode(a))"

numbers = st.integers(-(2**53), 2**53) | st.floats(
    allow_nan=False, allow_infinity=False, width=32
).map(lambda number: float(f"{number:.14g}"))
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def as_bytes(text: str) -> str:
    """The UTF-8 of a text, one character per byte, as the states take it."""
    return text.encode().decode("latin-1")


def from_bytes(text: str) -> Any:
    return json.loads(text.encode("latin-1").decode())


def without_empty_lists(value: Any) -> Any:
    """Lua has one kind of empty table, which is written as {}."""
    if isinstance(value, dict):
        return {key: without_empty_lists(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_empty_lists(item) for item in value] or {}
    return value


@pytest.fixture(params=MACHINES)
def run(request: pytest.FixtureRequest) -> Run:
    return load(request.param)


@both
@bounded
@given(value=values, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_python_wrote_comes_back(
    machine: str, value: Any, ascii_only: bool, indent: int | None
) -> None:
    """Decoding and encoding again keeps every value, however it was spaced and escaped."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    again = STATES[machine](REENCODE, as_bytes(text))

    assert from_bytes(again) == without_empty_lists(value)


def python_reads(text: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@both
@settings(bounded, max_examples=600)
@given(text=st.text('{}[]",:012.eE+-\\/utruefalsn \t\n\r\x00\x1f\x7f', max_size=12))
def test_it_reads_exactly_what_python_reads(machine: str, text: str) -> None:
    """Any text is JSON to both or to neither, and a complaint names a place in it."""
    read, problem = STATES[machine](
        "local value, problem = json.safe_decode(a) return value ~= nil, problem", text
    )

    assert read == python_reads(text)
    if problem:
        place = int(problem.rpartition(" ")[2])
        assert 1 <= place <= len(text) + 1


@pytest.mark.parametrize(
    "text",
    [
        "1", "-0", "0.5", "-1.5e3", "1E+2", "1e-2", "123456789012", "9007199254740992",
        '""', '"a/b"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0041\\u00e9\\u20ac"', '"\\ud83d\\ude00"',
        '"\\uD834\\udd1e x"', '"\\u0000"', '"\x7f"', '"żółw €😀"', "true", "false",
        "[]", "[ ]", "[[],[[]]]", " [1 , 2 ,\n3] ", "{}", "{ }", '{"a":{"b":[{}]}}',
        '{"":0}', '{"a":1,"a":2}', '{"\\u0061":1}', '[1,"a",true,false,{"b":[0]}]',
    ],
)  # fmt: skip
def test_json_is_accepted(run: Run, text: str) -> None:
    """Every form of JSON has the value that Python sees in it."""
    assert from_bytes(run(REENCODE, as_bytes(text))) == without_empty_lists(json.loads(text))


def test_a_number_too_large_is_infinite(run: Run) -> None:
    """As in Python and lua-cjson; it cannot be encoded again."""
    assert run("return json.decode('1e400') == math.huge") is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expected value but found T_END at character 1"),
        ("  ", "Expected value but found T_END at character 3"),
        ("x", "Expected value but found invalid token at character 1"),
        ("nul", "Expected value but found invalid token at character 1"),
        ("True", "Expected value but found invalid token at character 1"),
        ("NaN", "Expected value but found invalid token at character 1"),
        ("nan", "Expected value but found invalid token at character 1"),
        ("'a'", "Expected value but found invalid token at character 1"),
        ("\ufeff1", "Expected value but found invalid token at character 1"),
        ("\x001", "Expected value but found invalid token at character 1"),
        ("\v1", "Expected value but found invalid token at character 1"),
        ("// a\n1", "Expected value but found invalid token at character 1"),
        ("+1", "Expected value but found invalid token at character 1"),
        (".5", "Expected value but found invalid token at character 1"),
        ("-", "Expected value but found invalid number at character 1"),
        ("01", "Expected value but found invalid number at character 1"),
        ("-01", "Expected value but found invalid number at character 1"),
        ("1.", "Expected value but found invalid number at character 1"),
        ("1.e1", "Expected value but found invalid number at character 1"),
        ("1e", "Expected value but found invalid number at character 1"),
        ("1e+", "Expected value but found invalid number at character 1"),
        ("0x10", "Expected value but found invalid number at character 1"),
        ("--1", "Expected value but found invalid number at character 1"),
        ("-Infinity", "Expected value but found invalid number at character 1"),
        ("[1.2.3]", "Expected value but found invalid number at character 2"),
        ('"', "Expected value but found unexpected end of string at character 2"),
        ('"a\\"', "Expected value but found unexpected end of string at character 5"),
        ('"\\x41"', "Expected value but found invalid escape code at character 2"),
        ('"\\', "Expected value but found invalid escape code at character 2"),
        ('"\\u12"', "Expected value but found invalid unicode escape code at character 2"),
        ('"\\u 123"', "Expected value but found invalid unicode escape code at character 2"),
        ('"\\ud800"', "Expected value but found invalid unicode escape code at character 2"),
        ('"\\udc00"', "Expected value but found invalid unicode escape code at character 2"),
        ('"\\ud800\\ud800"', "Expected value but found invalid unicode escape code at character 2"),
        ('"a\nb"', "Expected value but found invalid control character at character 3"),
        ('"a\x00"', "Expected value but found invalid control character at character 3"),
        ("[", "Expected value but found T_END at character 2"),
        ("]", "Expected value but found T_ARR_END at character 1"),
        ("[1", "Expected comma or array end but found T_END at character 3"),
        ("[1,]", "Expected value but found T_ARR_END at character 4"),
        ("[,1]", "Expected value but found T_COMMA at character 2"),
        ("[1 true]", "Expected comma or array end but found T_BOOLEAN at character 4"),
        ("[1 null]", "Expected comma or array end but found T_NULL at character 4"),
        ("[1}", "Expected comma or array end but found T_OBJ_END at character 3"),
        ("{", "Expected object key string but found T_END at character 2"),
        ("{1:2}", "Expected object key string but found T_NUMBER at character 2"),
        ("{a:1}", "Expected object key string but found invalid token at character 2"),
        ('{"a', "Expected object key string but found unexpected end of string at character 4"),
        ('{"a"}', "Expected colon but found T_OBJ_END at character 5"),
        ('{"a" "b"}', "Expected colon but found T_STRING at character 6"),
        ('{"a":}', "Expected value but found T_OBJ_END at character 6"),
        ('{"a":1', "Expected comma or object end but found T_END at character 7"),
        ('{"a":1,}', "Expected object key string but found T_OBJ_END at character 8"),
        ('{"a":1]', "Expected comma or object end but found T_ARR_END at character 7"),
        ("1 2", "Expected the end but found T_NUMBER at character 3"),
        ("{}{", "Expected the end but found T_OBJ_BEGIN at character 3"),
        ("[]:", "Expected the end but found T_COLON at character 3"),
        ("1 [", "Expected the end but found T_ARR_BEGIN at character 3"),
        ("nullx", "Expected the end but found invalid token at character 5"),
    ],
)
def test_anything_else_is_refused(run: Run, text: str, problem: str) -> None:
    """What is no JSON is refused in lua-cjson's words, with the place where it is wrong."""
    assert run(DECODE, as_bytes(text)) == (None, problem)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("nil", "bad argument #1 to 'decode' (string expected, got nil)"),
        ("{}", "bad argument #1 to 'decode' (string expected, got table)"),
    ],
)
def test_only_text_is_decoded(run: Run, value: str, problem: str) -> None:
    """The argument's type is checked, and a number is taken as its text, as C functions do."""
    assert run(f"return json.safe_decode({value})") == (None, problem)
    assert run("return json.decode(12)") == 12


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nil", "null"), ("json.null", "null"), ("true", "true"), ("false", "false"),
        ("0", "0"), ("-0", "-0"), ("1", "1"), ("-17", "-17"), ("3.0", "3"), ("10/2", "5"),
        ("0.1", "0.1"), ("1/3", "0.33333333333333"), ("-1e-7", "-1e-07"), ("1e300", "1e+300"),
        ("1e14", "100000000000000"), ("2^53", "9007199254740992"),
        ("-2^53", "-9007199254740992"), ("2^54", "1.8014398509482e+16"),
        ("1627581878000123", "1627581878000123"),
        ('""', '""'), ('"a/b"', '"a/b"'), ('"ż"', '"ż"'),
        (r'"\"\\\b\f\n\r\t"', r'"\"\\\b\f\n\r\t"'),
        (r'"\0\1\31 \127"', r'"\u0000\u0001\u001f \u007f"'),
        ("{}", "{}"), ("{{}}", "[{}]"), ("json.empty_array", "[]"),
        ("{ a = json.empty_array }", '{"a":[]}'),
        ("setmetatable({}, json.array_mt)", "[]"),
        ("setmetatable({ 1, 2 }, json.array_mt)", "[1,2]"),
        ("setmetatable({ a = 1 }, json.array_mt)", "[]"),
        ("setmetatable({}, json.empty_array_mt)", "[]"),
        ("setmetatable({ 1 }, json.empty_array_mt)", "[1]"),
        ("{ 1, 'a', true }", '[1,"a",true]'), ("{ 1, json.null, 3 }", "[1,null,3]"),
        ("{ [2] = 1 }", "[null,1]"), ("{ [10] = 1 }", "[" + "null," * 9 + "1]"),
        ("{ [0] = 1 }", '{"0":1}'), ("{ [-1] = 1 }", '{"-1":1}'), ("{ [1.5] = 1 }", '{"1.5":1}'),
        ("{ x = { y = { 'z' } } }", '{"x":{"y":["z"]}}'), (r"{ ['a\"b'] = 1 }", r'{"a\"b":1}'),
    ],
)  # fmt: skip
def test_lua_values_are_written(run: Run, value: str, text: str) -> None:
    """Values have the text that lua-cjson gives them, but integers keep all their digits."""
    assert run(f"return json.encode({as_bytes(value)})") == as_bytes(text)


def test_a_mixed_table_is_an_object(run: Run) -> None:
    """One key that is no positive integer makes all keys strings."""
    assert from_bytes(run("return json.encode({ 1, 2, x = 3 })")) == {"1": 1, "2": 2, "x": 3}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("print", "Cannot serialise function: type not supported"),
        ("{ a = print }", "Cannot serialise function: type not supported"),
        ("newproxy()", "Cannot serialise userdata: type not supported"),
        ("coroutine.create(function() end)", "Cannot serialise thread: type not supported"),
        ("1/0", "Cannot serialise number: must not be NaN or Infinity"),
        ("-1/0", "Cannot serialise number: must not be NaN or Infinity"),
        ("0/0", "Cannot serialise number: must not be NaN or Infinity"),
        ("{ [1/0] = 1 }", "Cannot serialise number: must not be NaN or Infinity"),
        ("{ [true] = 1 }", "Cannot serialise boolean: table key must be a number or string"),
        ("{ [{}] = 1 }", "Cannot serialise table: table key must be a number or string"),
        ("{ [11] = 1 }", "Cannot serialise table: excessively sparse array"),
        ("{ 1, 2, [1e15] = 1 }", "Cannot serialise table: excessively sparse array"),
        (
            "(function() local t = {} t.t = t return t end)()",
            "Cannot serialise, excessive depth (101)",
        ),
        (
            "(function() local t = {} t[1] = t return t end)()",
            "Cannot serialise, excessive depth (101)",
        ),
    ],
)
def test_what_has_no_json_form_is_refused(run: Run, value: str, problem: str) -> None:
    """What JSON cannot say is refused in lua-cjson's words; a cycle is too deep."""
    assert run(f"return json.safe_encode({value})") == (None, problem)


@pytest.mark.parametrize(
    ("options", "value", "text"),
    [
        ("escape_slash = true", "'a/b'", '"a\\/b"'),
        ("escape_slash = true", "{ ['a/b'] = 1 }", '{"a\\/b":1}'),
        ("empty_as_object = false", "{}", "[]"),
        ("invalid_numbers = 'null'", "{ 1/0 }", "[null]"),
        ("invalid_numbers = true", "{ 1/0, -1/0, 0/0 }", "[Infinity,-Infinity,NaN]"),
        ("number_format = '%.3g'", "1/3", "0.333"),
        ("sparse_convert = true", "{ [11] = 1 }", '{"11":1}'),
        ("sparse_ratio = 0", "{ [11] = 1 }", "[" + "null," * 10 + "1]"),
        ("sparse_safe = 11", "{ [11] = 1 }", "[" + "null," * 10 + "1]"),
        ("encode_max_depth = 1", "{ 1 }", "[1]"),
        ("array_with_mt = true", "codec.decode('[[],{}]')", "[[],{}]"),
    ],
)
def test_options_change_one_codec(run: Run, options: str, value: str, text: str) -> None:
    """A codec of its own follows its options and leaves the others as they are."""
    made = run(f"local codec = json.new({{ {options} }}) return codec.encode({value})")

    assert made == text
    assert run("return json.encode({ '/', {} })") == '["/",{}]'


def test_depth_is_limited(run: Run) -> None:
    """A hundred levels are written and a thousand read; one more is refused."""
    nested = "local value = 1 for _ = 1, a do value = { value } end return json.safe_encode(value)"

    assert run(nested, 100) == "[" * 100 + "1" + "]" * 100
    assert run(nested, 101) == (None, "Cannot serialise, excessive depth (101)")
    assert run("return type(json.decode(a))", "[" * 1000 + "]" * 1000) == "table"
    assert run(DECODE, "[" * 1001) == (
        None,
        "Found too many nested data structures (1001) at character 1001",
    )


@both
@bounded
@given(value=values)
def test_no_more_bytes_are_made_than_allowed(machine: str, value: Any) -> None:
    """The limit is exact: the text's own length is enough, and one byte less is not."""
    run, text = STATES[machine], json.dumps(value)
    whole = run(REENCODE, text)
    limited = "return json.safe_encode(json.decode(a), b)"

    assert run(limited, text, len(whole)) == whole
    assert run(limited, text, len(whole) - 1) == (
        None,
        f"Cannot serialise, more than {len(whole) - 1} bytes",
    )


def test_little_is_made_of_what_is_too_long(run: Run) -> None:
    """A shared table that would fill gigabytes is given up early."""
    code = """
      local value = { ("x"):rep(100) }
      for _ = 1, 60 do value = { value, value } end
      collectgarbage() local before = collectgarbage("count")
      local _, problem = json.safe_encode(value, 1000)
      return problem, collectgarbage("count") - before
    """

    problem, kilobytes = run(code)

    assert problem == "Cannot serialise, more than 1000 bytes"
    assert kilobytes < 200


@both
@bounded
@given(data=st.binary(max_size=40))
def test_any_bytes_make_json_once_replaced(machine: str, data: bytes) -> None:
    """What is no UTF-8 passes, and only that is lost when the text is decoded with replacement."""
    text = STATES[machine]("return json.encode({ [a] = a })", data.decode("latin-1"))

    whole = data.decode(errors="replace")
    assert json.loads(text.encode("latin-1").decode(errors="replace")) == {whole: whole}


def test_errors_name_the_line_that_called(run: Run) -> None:
    """An error has the position of the caller, as that of a C function has."""
    ok, encoding = run(
        'return pcall(loadstring("\\nlocal j = ... j.encode(print) j()", "=user"), json)'
    )
    _, decoding = run(
        'return pcall(loadstring("\\nlocal j = ... j.decode(\'x\') j()", "=user"), json)'
    )

    assert ok is False
    assert encoding == "user:2: Cannot serialise function: type not supported"
    assert decoding == "user:2: Expected value but found invalid token at character 1"


def test_null_is_a_value(run: Run) -> None:
    """Null is decoded to the sentinel, which keeps its place in tables."""
    code = (
        "local value = json.decode(a) return value[2] == json.null, #value, value[3].x == json.null"
    )

    assert run(code, '[1,null,{"x":null}]') == (True, 3, True)
    assert run("return json.decode('null') == json.null, json.safe_decode('false')") == (
        True,
        False,
    )


def test_metamethods_are_not_called(run: Run) -> None:
    """Encoding runs no code of the user's: neither for holes, nor lengths, nor texts."""
    code = """
      local function called() error("called") end
      local metatable = { __index = called, __len = called, __pairs = called, __ipairs = called,
                          __tostring = called, __eq = called }
      return json.encode(setmetatable({ 1, [3] = setmetatable({ a = 1 }, metatable) }, metatable))
    """

    assert run(code) == '[1,null,{"a":1}]'


def test_what_users_do_to_libraries_does_not_matter(run: Run) -> None:
    """Functions are captured: with all globals gone JSON works as before."""
    run("""
      local globals, pairs = _G, pairs
      for _, library in pairs({ string, table, math, globals }) do
        for name in pairs(library) do library[name] = nil end
      end
    """)

    assert run(REENCODE, '{"a":["\\u00e9\\n",1.5,true]}') == '{"a":["\xc3\xa9\\n",1.5,true]}'
    assert run(DECODE, "[")[1] == "Expected value but found T_END at character 2"


@pytest.mark.parametrize("code", ["json.safe_encode(value)", "json.safe_decode(text)"])
def test_the_clock_can_stop_it(run: Run, code: str) -> None:
    """An error of the count hook ends both, and is not taken for a complaint about JSON."""
    ok, problem = run(f"""
      local text = "[" .. ("[1],"):rep(20000) .. "1]"
      local value = json.decode(text)
      local function tick() error("out of time", 0) end
      return pcall(function()
        debug.sethook(tick, "", 10000)
        return {code}
      end)
    """)

    assert (ok, problem) == (False, "out of time")

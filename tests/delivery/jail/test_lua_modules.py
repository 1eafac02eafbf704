"""The modules that functions may require, by themselves: what all share, and the small ones."""

import json
import re
import uuid
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.delivery.jail.lua_files import INTERNAL, MACHINES, MODULES, Run, load


@pytest.fixture(params=MACHINES)
def run(request: pytest.FixtureRequest) -> Run:
    return load(request.param)


def evaluate(run: Run, setup: str, expression: str) -> Any:
    """The value of a Lua expression, by way of JSON; {} and [] are the same."""
    return json.loads(run(f"{setup} return json.encode({expression})"))


# All modules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES + INTERNAL)
def test_every_module_can_be_required(run: Run, name: str) -> None:
    """Each file is a module, whichever others have been loaded."""
    assert run("return type(require(a))", name) in ("table", "function")


def test_no_module_needs_its_globals_later(run: Run) -> None:
    """With all globals and libraries gone the modules work as before."""
    run("for _, name in pairs(json.decode(a)) do require(name) end", json.dumps(MODULES + INTERNAL))
    run("""
      local globals, pairs = _G, pairs
      local libraries = { string, table, math }
      if bit then libraries[4] = bit end
      for _, library in pairs(libraries) do
        for name in pairs(library) do library[name] = nil end
      end
      for name in pairs(globals) do globals[name] = nil end
    """)

    text = run("""
      local x, t = require("pl.stringx"), require("pl.tablex")
      local made = {
        require("cjson").encode({ "a/b" }), require("bit").bxor(5, 3), require("bit").tohex(255),
        require("internal.base64").encode("abc"), require("internal.uri").escape("a b"),
        require("internal.crc32")("abc"), require("resty.string").to_hex("\\1"),
        x.join("-", x.split("a,b", ",")), x.strip(" a "), x.title("ab"), x.rjust("1", 3),
        t.size(t.map(function(v) return v end, { 1, 2 })), require("kong.tools.uuid").uuid(),
      }
      for _, name in t.sort({ "md5", "sha1", "sha224", "sha256", "sha384", "sha512" }) do
        require("internal.hmac")(require("internal." .. name), "k", "v")
      end
      return json.encode(made)
    """)
    made = json.loads(text)
    assert made[:-1] == [
        '["a\\/b"]', 6, "000000ff", "YWJj", "a%20b", 891568578, "01", "a-b", "a", "Ab", "  1", 2,
    ]  # fmt: skip


# Bit operations ----------------------------------------------------------------------------------

NATIVE = load("luajit21")
FALLBACK = {machine: load(machine) for machine in MACHINES}
for state in FALLBACK.values():
    state("bit = nil require('bit')")

OPERATIONS = [
    "tobit", "bnot", "bswap", "tohex", "band", "bor", "bxor",
    "lshift", "rshift", "arshift", "rol", "ror",
]  # fmt: skip
words = st.integers(-(2**32), 2**33) | st.sampled_from([0, 1, -1, 2**31, -(2**31), 2**32 - 1])
numbers = words | st.floats(-(2**40), 2**40).map(lambda number: round(number * 4) / 4)


@pytest.mark.parametrize("machine", MACHINES)
@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(OPERATIONS),
    first=numbers,
    others=st.lists(numbers, min_size=1, max_size=3),
)
def test_the_fallback_is_luajits(
    machine: str, name: str, first: float, others: list[float]
) -> None:
    """Without LuaJIT's operations ours give the same results for the same arguments."""
    code = f"return require('bit').{name}({first!r}, {', '.join(map(repr, others))})"

    assert FALLBACK[machine](code) == NATIVE(code)


@pytest.mark.parametrize("count", [*range(-9, 10), 254, 255, 2**31 - 1, -(2**31)])
def test_the_fallback_prints_as_many_digits(count: int) -> None:
    """tohex has as many digits as are asked for, in upper case for negative counts."""
    code = "return require('bit').tohex(0x89abcdef, a)"

    assert FALLBACK["lua51"](code, count) == NATIVE(code, count)


@pytest.mark.parametrize(
    "code",
    ["band(nil, 1)", "band(1, {})", "bnot()", "lshift(1, nil)", "tohex({})", "bxor('x', 1)"],
)
def test_the_fallback_takes_only_numbers(code: str) -> None:
    """What is no number is refused in the same words, and texts of numbers are taken."""
    attempt = f"local bit = require('bit') return pcall(function() return bit.{code} end)"

    ok, problem = FALLBACK["lua51"](attempt)

    assert not ok
    assert re.search(r"bad argument #[12] to '\w+' \(number expected, got .*\)$", problem)
    assert FALLBACK["lua51"]("return require('bit').band('0xff', 15)") == 15


def test_the_native_operations_are_not_handed_out(run: Run) -> None:
    """The module is a table of its own: changing it leaves the virtual machine's alone."""
    assert run("require('bit').band = nil return bit == nil or bit.band ~= nil") is True


# Tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("require('table.new')(10, 10)", {}),
        ("require('table.clone')({ 1, 2 })", [1, 2]),
        ("require('table.isarray')({})", True),
        ("require('table.isarray')({ 1, 'a', true })", True),
        ("require('table.isarray')({ 1, x = 2 })", False),
        ("require('table.isarray')({ [1.5] = 2 })", False),
        ("require('table.isempty')({})", True),
        ("require('table.isempty')({ false })", False),
        ("require('table.nkeys')({})", 0),
        ("require('table.nkeys')({ 1, 2, x = 3 })", 3),
    ],
)
def test_table_functions(run: Run, expression: str, value: Any) -> None:
    """The table functions of LuaJIT and OpenResty do what is documented."""
    assert evaluate(run, "", expression) == value


def test_tables_are_cleared_and_cloned(run: Run) -> None:
    """clear() empties the table itself; a clone shares nothing but what the fields hold."""
    code = """
      local inner = {}
      local fields = { 1, 2, x = inner }
      local copy = require("table.clone")(fields)
      require("table.clear")(fields)
      return next(fields) == nil, copy.x == inner, copy ~= fields
    """

    assert run(code) == (True, True, True)


@pytest.mark.parametrize("name", ["clear", "clone", "isarray", "isempty", "nkeys"])
def test_table_functions_take_only_tables(run: Run, name: str) -> None:
    """Anything but a table is refused as a C function would refuse it."""
    ok, problem = run(f"return pcall(require('table.{name}'), nil)")

    assert not ok
    assert problem.endswith(f"bad argument #1 to '{name}' (table expected, got nil)")


# cjson -------------------------------------------------------------------------------------------

CJSON = "local cjson = require('cjson')"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("return cjson.encode({ '/' })", '["\\/"]'),
        ("return cjson.encode(cjson.null)", "null"),
        ("return cjson.encode(cjson.empty_array)", "[]"),
        ("return cjson.decode('null') == json.null", True),
        ("cjson.encode_escape_forward_slash(false) return cjson.encode('/')", '"/"'),
        ("cjson.encode_escape_forward_slash('off') return cjson.encode('/')", '"/"'),
        ("cjson.encode_empty_table_as_object(false) return cjson.encode({})", "[]"),
        ("cjson.encode_invalid_numbers('null') return cjson.encode(1/0)", "null"),
        ("return cjson.encode_invalid_numbers('on')", True),
        ("cjson.encode_sparse_array(true) return cjson.encode({ [11] = 1 })", '{"11":1}'),
        ("return cjson.encode_sparse_array()", (False, 2, 10)),
        ("return cjson.encode_sparse_array('on', 3, 5)", (True, 3, 5)),
        ("return cjson.encode_number_precision()", 14),
        ("cjson.encode_number_precision(3) return cjson.encode(1/3)", "0.333"),
        ("return cjson.encode_max_depth(5)", 5),
        ("return cjson.decode_max_depth()", 1000),
        ("return cjson.encode_keep_buffer(false)", True),
        ("return cjson.decode_invalid_numbers(false)", False),
        ("cjson.decode_array_with_array_mt(true) return cjson.encode(cjson.decode('[]'))", "[]"),
        ("cjson.new().encode_escape_forward_slash(false) return cjson.encode('/')", '"\\/"'),
        ("require('cjson.safe').encode_max_depth(1) return cjson.encode_max_depth()", 100),
        ("return cjson._NAME", "cjson"),
    ],
)
def test_cjson_and_its_settings(run: Run, code: str, result: Any) -> None:
    """Settings are functions that change one and answer it, for one instance."""
    assert run(f"{CJSON} {code}") == result


@pytest.mark.parametrize(
    "code",
    [
        "cjson.encode_number_precision(17)",
        "cjson.encode_number_precision(1.5)",
        "cjson.encode_max_depth(0)",
        "cjson.decode_max_depth('deep')",
        "cjson.encode_sparse_array(true, -1)",
        "cjson.encode_escape_forward_slash('no')",
        "cjson.encode_invalid_numbers('NULL')",
        "cjson.decode_invalid_numbers(true)",
        "cjson.encode(print)",
        "cjson.decode('[')",
        "cjson.decode()",
    ],
)
def test_cjson_raises(run: Run, code: str) -> None:
    """Wrong settings and wrong values are errors at the caller's line."""
    ok, problem = run(f"{CJSON} return pcall(function()\n{code}\nend)")

    assert not ok
    assert problem.startswith('[string "<python>"]:2: ')


def test_cjson_safe_answers(run: Run) -> None:
    """cjson.safe gives nil and the reason instead of raising it."""
    safe = "local safe = require('cjson.safe')"

    assert run(f"{safe} return safe.encode(print)") == (
        None,
        "Cannot serialise function: type not supported",
    )
    assert run(f"{safe} return safe.decode('[')") == (
        None,
        "Expected value but found T_END at character 2",
    )
    assert run(f"{safe} return safe.decode(nil)")[0] is None
    assert run(f"{safe} return safe.new().decode('[1]')[1], safe.encode({{ 1 }})") == (1, "[1]")


# kong.tools --------------------------------------------------------------------------------------

KONG_TOOLS = """
  local s, t = require("kong.tools.string"), require("kong.tools.table")
  local u = require("kong.tools.uuid")
"""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("s.strip('  a b ')", "a b"), ("s.strip(nil)", ""), ("s.strip(12)", "12"),
        ("s.split('a,b,', ',')", ["a", "b", ""]), ("s.splitn('a,b,c', ',', 2)", ["a", "b,c"]),
        ("s.replace_dashes('a-B-c')", "a_B_c"), ("s.replace_dashes_lower('a-B')", "a_b"),
        ("t.table_contains({ 1, 2 }, 2)", True), ("t.table_contains({ 1 }, 2)", False),
        ("t.table_contains(nil, 2)", False),
        ("t.table_merge({ a = 1, b = 1 }, { b = 2 })", {"a": 1, "b": 2}),
        ("t.table_merge(nil, { 1 })", [1]), ("t.concat({ 1 }, {}, { 2, 3 })", [1, 2, 3]),
        ("t.is_array({ 1 })", True), ("t.is_array({ a = 1 })", False), ("t.is_array(1)", False),
        ("t.shallow_copy({ 1 })", [1]), ("t.shallow_copy('a')", "a"),
        ("t.deep_copy({ a = { 1 } })", {"a": [1]}),
        ("u.is_valid_uuid('123e4567-e89b-12d3-a456-426614174000')", True),
        ("u.is_valid_uuid('123e4567e89b12d3a456426614174000')", False),
        ("u.is_valid_uuid(1)", False),
    ],
)  # fmt: skip
def test_kong_tools(run: Run, expression: str, value: Any) -> None:
    """The few of Kong's tools that functions use."""
    assert evaluate(run, KONG_TOOLS, expression) == value


def test_uuids_are_random(run: Run) -> None:
    """Each is another one, of version 4 and the usual variant."""
    made = [run("return require('kong.tools.uuid').uuid()") for _ in range(50)]

    assert len(set(made)) == len(made)
    for text in made:
        assert str(uuid.UUID(text)) == text
        assert uuid.UUID(text).version == 4

"""Penlight's stringx and tablex in Lua: like Python's strings, and as documented."""

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.delivery.jail.lua_files import MACHINES, Run, load

STATES = {machine: load(machine) for machine in MACHINES}
"""One state each for all tests that change nothing in it: hypothesis runs many examples."""

both = pytest.mark.parametrize("machine", MACHINES)


@pytest.fixture(params=MACHINES)
def run(request: pytest.FixtureRequest) -> Run:
    return load(request.param)


def evaluate(run: Run, setup: str, expression: str) -> Any:
    """The value of a Lua expression, by way of JSON; {} and [] are the same."""
    return json.loads(run(f"{setup} return json.encode({expression})"))


# pl.stringx --------------------------------------------------------------------------------------

STRINGX = "local x = require('pl.stringx')"
short = st.text("ab, \n", max_size=10)


@both
@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=short, separator=st.text("ab,", min_size=1, max_size=2), count=st.integers(1, 4))
def test_stringx_is_like_python(machine: str, text: str, separator: str, count: int) -> None:
    """What Penlight took over from Python's strings does what Python does."""
    code = f"""{STRINGX}
      return json.encode({{
        x.split(a, b), x.split(a, b, c), x.split(a), {{ x.partition(a, b) }},
        {{ x.rpartition(a, b) }}, x.strip(a), x.lstrip(a), x.rstrip(a), x.strip(a, b),
        x.replace(a, b, "<>"), x.replace(a, b, "", c), x.count(a, b), x.startswith(a, b),
        x.endswith(a, b), x.lfind(a, b) or 0, x.rfind(a, b) or 0, x.splitlines(a),
        x.splitlines(a, true), x.ljust(a, c), x.rjust(a, c, "."),
      }})
    """
    made = json.loads(STATES[machine](code, text, separator, count))

    assert made == [
        text.split(separator) if text else {},
        text.split(separator, count - 1) if text else {},
        text.split() or {},
        list(text.partition(separator)),
        list(text.rpartition(separator)),
        text.strip(),
        text.lstrip(),
        text.rstrip(),
        text.strip(separator),
        text.replace(separator, "<>"),
        text.replace(separator, "", count),
        text.count(separator),
        text.startswith(separator),
        text.endswith(separator),
        text.find(separator) + 1,
        text.rfind(separator) + 1,
        text.splitlines() or {},
        text.splitlines(keepends=True) or {},
        text.ljust(count),
        text.rjust(count, "."),
    ]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("x.split('one two  three', nil, 2)", ["one", "two  three"]),
        ("x.split('  ')", {}),
        ("x.split('a.b', '.')", ["a", "b"]),
        ("x.split('abc', '')", ["abc"]),
        ("x.splitlines('a\\r\\nb\\rc')", ["a", "b", "c"]),
        ("x.join(', ', { 'a', 1 })", "a, 1"),
        ("x.replace('a.b', '.', '%1')", "a%1b"),
        ("x.count('aaa', 'aa')", 1),
        ("x.count('aaa', 'aa', true)", 2),
        ("x.startswith('abc', { 'x', 'ab' })", True),
        ("x.startswith('abc', {})", False),
        ("x.endswith('abc', { 'x', 'bc' })", True),
        ("x.endswith('abc', '')", True),
        ("x.endswith('c', 'abc')", False),
        ("x.title('hello wORLD o\\'neil')", "Hello World O'neil"),
        ("x.isalpha('abC')", True), ("x.isalpha('a1')", False), ("x.isalpha('')", False),
        ("x.isdigit('12')", True), ("x.isdigit('1.2')", False), ("x.isalnum('a1')", True),
        ("x.isspace(' \\t')", True), ("x.islower('ab c')", True), ("x.isupper('Ab')", False),
        ("x.at('abc', 2)", "b"), ("x.at('abc', -1)", "c"),
        ("x.center('ab', 5)", " ab  "), ("x.center('ab', 6, '*')", "**ab**"),
        ("x.ljust('ab', 1)", "ab"), ("x.ljust('a', 2^40, '')", "a"),
        ("x.shorten('abcdefgh', 6)", "abc..."), ("x.shorten('abcdefgh', 6, true)", "...fgh"),
        ("x.shorten('abc', 3)", "abc"), ("x.shorten('abcdef', 2)", ".."),
        ("x.lfind('abab', 'b', 3)", 4), ("x.lfind('abab', 'ab', 2, 3) == nil", True),
        ("x.rfind('abab', 'ab', 1, 3)", 1),
        ("x.strip('\\0a\\0', '\\0')", "a"),
    ],
)  # fmt: skip
def test_stringx(run: Run, expression: str, value: Any) -> None:
    """What Penlight documents, beyond what is like Python."""
    assert evaluate(run, STRINGX, expression) == value


def test_stringx_lines(run: Run) -> None:
    """lines() iterates over the lines, without their ends."""
    code = f"{STRINGX} local all = {{}} for line in x.lines(a) do all[#all + 1] = line end"

    assert json.loads(run(f"{code} return json.encode(all)", "a\n\nb\n")) == ["a", "", "b"]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("split(nil)", "argument 1 expected a 'string' got a 'nil'"),
        ("join(1, {})", "argument 1 expected a 'string' got a 'number'"),
        ("join('', 'a')", "argument 2 expected a 'table' got a 'string'"),
        ("startswith('a', 1)", "argument 2 expected a 'string' got a 'number'"),
        ("partition('a', '')", "argument 2 expected a non-empty string"),
        ("count('a', '')", "argument 2 expected a non-empty string"),
        ("ljust('a')", "argument 2 expected a 'number' got a 'nil'"),
    ],
)
def test_stringx_checks_its_arguments(run: Run, call: str, problem: str) -> None:
    """A wrong argument is an error at the caller's line."""
    ok, text = run(f"{STRINGX} return pcall(function()\nx.{call}\nend)")

    assert not ok
    assert text == f'[string "<python>"]:2: {problem}'


def test_stripping_takes_linear_time(run: Run) -> None:
    """A megabyte of blanks is no attack, wherever a letter stands in it."""
    code = f"{STRINGX} local b = (' '):rep(500000) return #x.strip(b .. a .. b) + #x.strip(b)"

    assert run(code, "x") == 1


# pl.tablex ---------------------------------------------------------------------------------------

TABLEX = """
  local t = require('pl.tablex')
  local function double(value) return value * 2 end
  local function sum(left, right) return left + right end
  local function over(value, least) return value > least end
  local function sorted(list) table.sort(list) return list end
"""


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("t.size({ 1, 2, x = 3 })", 3),
        ("sorted(t.keys({ a = 1, b = 2 }))", ["a", "b"]),
        ("sorted(t.values({ a = 1, b = 2 }))", [1, 2]),
        ("t.copy({ 1, 2 })", [1, 2]),
        ("t.find({ 'a', 'b', 'a' }, 'a')", 1),
        ("t.find({ 'a', 'b', 'a' }, 'a', 2)", 3),
        ("t.find({ 'a' }, 'x') == nil", True),
        ("t.rfind({ 'a', 'b', 'a' }, 'a')", 3),
        ("t.rfind({ 'a', 'b' }, 'x') == nil", True),
        ("{ t.find_if({ 1, 5, 9 }, over, 4) }", [2, True]),
        ("t.find_if({ 1 }, over, 4) == nil", True),
        ("t.count_map({ 'a', 'b', 'a' })", {"a": 2, "b": 1}),
        ("t.map(double, { a = 1, b = 2 })", {"a": 2, "b": 4}),
        ("t.map(sum, { 1, 2 }, 10)", [11, 12]),
        ("t.imap(sum, { 1, 2 }, 10)", [11, 12]),
        ("t.filter({ 1, 5, 9 }, over, 4)", [5, 9]),
        ("t.reduce(sum, { 1, 2, 3 })", 6),
        ("t.reduce(sum, { 1, 2, 3 }, 10)", 16),
        ("t.reduce(sum, {}) == nil", True),
        ("t.makeset({ 'a', 'b' })", {"a": True, "b": True}),
        ("t.merge({ a = 1, b = 2 }, { b = 3, c = 4 })", {"b": 3}),
        ("t.merge({ a = 1, b = 2 }, { b = 3, c = 4 }, true)", {"a": 1, "b": 3, "c": 4}),
        ("t.union({ a = 1 }, { b = 2 })", {"a": 1, "b": 2}),
        ("t.intersection({ a = 1, b = 1 }, { b = 2 })", {"b": 2}),
        ("t.difference({ a = 1, b = 2 }, { b = 3, c = 4 })", {"a": 1}),
        ("t.difference({ a = 1, b = 2 }, { b = 3, c = 4 }, true)", {"a": 1, "c": 4}),
        ("t.update({ a = 1 }, { b = 2 })", {"a": 1, "b": 2}),
        ("t.index_by({ a = 1, b = 2 }, { 'b', 'a' })", [2, 1]),
        ("t.range(1, 5, 2)", [1, 3, 5]),
        ("t.range(3, 1, -1)", [3, 2, 1]),
        ("t.sub({ 1, 2, 3, 4 }, 2, 3)", [2, 3]),
        ("t.sub({ 1, 2, 3, 4 }, -2)", [3, 4]),
        ("t.compare({ 1, 2 }, { 1, 2 }, rawequal)", True),
        ("t.compare({ 1, 2 }, { 1 }, rawequal)", False),
        ("t.compare({ 1, 2 }, { 1, 3 }, rawequal)", False),
        ("t.deepcompare({ a = { 1 } }, { a = { 1 } })", True),
        ("t.deepcompare({ a = { 1 } }, { a = { 2 } })", False),
        ("t.deepcompare({ 1 }, { 1, 2 })", False),
        ("t.deepcompare({ 1, 2 }, { 1 })", False),
        ("t.deepcompare(1, {})", False),
        ("t.deepcompare('a', 'a')", True),
        ("t.deepcompare({ 1 }, { 1.05 }, false, 0.1)", True),
        ("t.deepcompare({ 1 }, { 1.5 }, false, 0.1)", False),
        ("t.deepcopy({ a = { { b = 1 } } })", {"a": [{"b": 1}]}),
    ],
)
def test_tablex(run: Run, expression: str, value: Any) -> None:
    """The functions of Penlight's tablex do what is documented."""
    assert evaluate(run, TABLEX, expression) == value


def test_deep_copies_keep_the_shape(run: Run) -> None:
    """Cycles, shared tables and metatables survive; no table of the original does."""
    code = """
      local t = require("pl.tablex")
      local shared, metatable = {}, {}
      local original = setmetatable({ shared, shared }, metatable)
      original.self = original
      local copy = t.deepcopy(original)
      return copy.self == copy, copy[1] == copy[2], copy[1] ~= shared,
        getmetatable(copy) == metatable
    """

    assert run(code) == (True, True, True, True)


def test_comparing_asks_the_metatable(run: Run) -> None:
    """__eq decides about tables that have it, unless metatables are to be ignored."""
    code = """
      local metatable = { __eq = function(left, right) return left.id == right.id end }
      local left = setmetatable({ id = 1, x = 1 }, metatable)
      local right = setmetatable({ id = 1, x = 2 }, metatable)
      local compare = require("pl.tablex").deepcompare
      return compare(left, right), compare(left, right, true)
    """

    assert run(code) == (True, False)


def test_tablex_iterates(run: Run) -> None:
    """sort() goes by the keys, foreach() calls with value, key and what else was given."""
    code = """
      local t = require("pl.tablex")
      local seen = {}
      for key, value in t.sort({ b = 2, a = 1 }) do seen[#seen + 1] = key .. value end
      for key in t.sort({ 1, 2 }, function(x, y) return x > y end) do seen[#seen + 1] = key end
      local function note(value, key, more) seen[#seen + 1] = key .. value .. more end
      t.foreach({ x = 1 }, note, "!")
      t.foreachi({ "y" }, function(value, index) seen[#seen + 1] = value .. index end)
      return json.encode(seen)
    """

    assert json.loads(run(code)) == ["a1", "b2", 2, 1, "x1!", "y1"]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("size(nil)", "argument 1 expected a 'table' got a 'nil'"),
        ("map('+', {})", "argument 1 expected a 'function' got a 'string'"),
        ("filter({}, nil)", "argument 2 expected a 'function' got a 'nil'"),
        ("range(1, 2, 0)", "argument 3 must not be 0"),
    ],
)
def test_tablex_checks_its_arguments(run: Run, call: str, problem: str) -> None:
    """A wrong argument is an error at the caller's line."""
    ok, text = run(f"{TABLEX} return pcall(function() t.{call} return nil end)")

    assert not ok
    assert text.endswith(problem)

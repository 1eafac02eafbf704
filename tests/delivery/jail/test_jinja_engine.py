r"""Jinja templates as the worker renders them: what is smoothed towards resty, and what stays.

The rows are where a plain sandboxed Jinja and lua-resty-template 2.0 differ. Templates that attack
are in test_jinja_attacks.py.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    booleans,
    dictionaries,
    floats,
    integers,
    lists,
    recursive,
    sampled_from,
    text,
)

from delivery.jail.frames import (
    Arguments,
    Call,
    Failure,
    Functions,
    Limits,
    Profile,
    Report,
    Templates,
)
from delivery.jail.jinja_engine import Jinja
from delivery.templates import compile_template

DATA: dict[str, Any] = {
    "operation": "create",
    "special": "O'Neil <b>/\"&",
    "nothing": None,
    "off": False,
    "on": True,
    "n": 3.0,
    "big": 2**53,
    "created_at": 1627581878,
    "empty": "",
    "tags": ["a", "b", "c"],
    "users": [{"name": "lois", "age": 30.0}, {"name": "clark", "age": None}],
    "entity": {
        "items": "I",
        "keys": "K",
        "values": "V",
        "get": "G",
        "enabled": False,
        "null": None,
        "k-y": "ky",
        "__class__": "C",
    },
}
LIMITS = Limits(cpu_seconds=5)


@pytest.fixture(scope="module")
def jinja() -> Jinja:
    return Jinja(LIMITS, Profile())


def answer(jinja: Jinja, call: Call) -> Report:
    return msgspec.msgpack.decode(jinja.answer(call), type=Report)


def run(jinja: Jinja, *sources: str, data: Any = DATA, hook: str = "hook") -> Report:
    arguments = Arguments(msgspec.json.encode(data))
    return answer(jinja, Call("workspace", hook, Templates(sources), arguments))


def render(jinja: Jinja, source: str, data: Any = DATA) -> str:
    report = run(jinja, source, data=data)
    assert report.failures == []
    return report.texts[0].decode()


def check(jinja: Jinja, *sources: str) -> list[Failure]:
    return answer(jinja, Call("", "", Templates(sources))).failures


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # The same in both, by nature
        ("{{ entity.get }} {{ operation }}d", "G created"),
        ("{{ missing }}|{{ entity.missing }}|{{ special.missing }}|{{ tags.missing }}", "|||"),
        ("{# note #}{{ missing or 'd' }}{{ nothing or 'd' }}", "dd"),
        ("{{ operation == 'create' and 'y' or 'z' }}", "y"),
        ("{{ entity['k-y'] }} {{ context.operation }} {{ context['entity'].get }}", "ky create G"),
        ("{{ 7/2 }}", "3.5"),
        ('{"a":{"b":{{ n }}}}', '{"a":{"b":3}}'),
        # A null, booleans
        ("{{ nothing }}|{{ entity.null }}|{{ none }}", "||"),
        ("{{ entity.enabled }} {{ on }} {{ true }}", "false true true"),
        # Numbers
        ("{{ n }} {{ 3.0 }} {{ 4/2 }} {{ 10/2 }}", "3 3 2 5"),
        ("{{ created_at * 1000 }} {{ big }}", "1627581878000 9.007199254741e+15"),
        ("{{ 1e14 }} {{ 10 ** 14 }} {{ 0.1 + 0.2 }}", "1e+14 1e+14 0.3"),
        # Names of methods are fields
        ("{{ entity.items }}{{ entity.keys }}{{ entity.values }}{{ entity.get }}", "IKVG"),
        ("{{ entity.__class__ }}{{ users[0].update }}", "C"),
        # Everywhere a value becomes text, it becomes the same text
        ("{{ 'x' ~ 3.0 ~ none ~ true ~ missing }}", "x3true"),
        ("{{ [1.0, none, true, 'x']|join('-') }}", "1--true-x"),
        ("{{ 3.0|string }}|{{ true|upper }}|{{ 'a1.0'|replace(1.0, 2.0) }}", "3|TRUE|a2.0"),
        ("{% set x %}{{ none }}{{ 2.0 }}{% endset %}{{ x }}", "2"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(none) }}{{ m(1.0) }}", "[][1]"),
        # The final newline, and others
        ("x\n", "x\n"),
        ("a\r\nb\r\n", "a\nb\n"),
    ],
)
def test_what_is_as_with_resty(jinja: Jinja, source: str, expected: str) -> None:
    """Jinja's own ways that would surprise after resty are smoothed."""
    assert render(jinja, source) == expected


@pytest.mark.parametrize(
    ("source", "expected", "resty"),
    [
        ("{{ special }}", "O'Neil <b>/\"&", "escapes six characters; here `|e` does"),
        ("{{ off }}", "false", "prints nothing for false at the top level"),
        ("{{ tags[1] }} {{ tags[0] }} {{ tags[-1] }}", "b a c", "counts from 1"),
        ("{{ '' or 'd' }} {{ 0 or 'd' }}", "d d", "takes both for true"),
        ("{{ tags }}", '["a","b","c"]', "prints `table: 0x…`"),
        ("{{ 'a' ~ 'b' }} {{ 1 != 2 }}", "ab true", "spells these `..` and `~=`"),
        ("{{ tags|length }} {{ 'x'|upper }}", "3 X", "spells these `#tags` and `('x'):upper()`"),
        ("{% if on %}y{% endif %}", "y", "spells this `{% if on then %}y{% end %}`"),
        ("{% for t in tags %}{{ t }}{% endfor %}", "abc", "spells this with ipairs"),
        ("{*n*}{-raw-}{{ n }}{-raw-}", "{*n*}{-raw-}3{-raw-}", "prints 3 and {{ n }}"),
        ("{% raw %}{{ n }}{% endraw %}", "{{ n }}", "spells this {-raw-}"),
        (r"\{{ n }}", r"\3", "takes this for an escaped tag"),
        ("{% if on %}\nx{% endif %}", "\nx", "eats the newline after `%}`; here `-%}` does"),
    ],
)
def test_what_is_jinjas(jinja: Jinja, source: str, expected: str, resty: str) -> None:
    """The rest of the differences are the language itself, and stay."""
    assert render(jinja, source) == expected, f"resty {resty}"


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        # As with resty
        ("{{ missing.x }}", 1, "'missing' is undefined"),
        ("a\nb {{ entity.missing.x }}", 2, "'missing' is undefined"),
        ("{{ nothing.x }}", 1, "null has no fields, so no 'x'"),
        ("{{ n.x }}", 1, "a number has no fields, so no 'x'"),
        ("{{ on.x }}", 1, "a boolean has no fields"),
        # Jinja's
        ("{{ '1' + 1 }}", 1, "can only concatenate"),
        ("\n{{ 'a'.upper() }}", 2, "a text has no 'upper'; filters take the place of methods"),
        ("{{ tags.append('d') }}", 1, "a list has no 'append'"),
        ("{{ entity.items() }}", 1, "a text cannot be called"),
        ("{{ entity.pop('items') }}", 1, "'pop' is undefined"),
        ("{{ 1 / 0 }}", 1, "division by zero"),
        ("{% for x in self %}{% endfor %}", 1, "there is no 0"),
        ("{{ n|length }}", 1, "a number has no length"),
        ("{{ 'x'|sum }}", 1, "a text where a number is needed"),
        ("{% macro m() %}\n{{ missing.x }}{% endmacro %}\n{{ m() }}", 2, "'missing' is undefined"),
        ("{% block b %}\n{{ missing.x }}{% endblock %}", 2, "'missing' is undefined"),
        ("{% set x %}\n\n{{ missing.x }}{% endset %}", 3, "'missing' is undefined"),
    ],
)
def test_what_cannot_be_rendered(jinja: Jinja, source: str, line: int, words: str) -> None:
    """A template that fails does so with its line and in its author's words, and has no text."""
    report = run(jinja, "before", source)

    [failure] = report.failures
    assert (failure.index, failure.line) == (1, line)
    assert words in failure.text.decode()
    assert report.texts == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ special|e }}{{ empty|escape }}", "O&#39;Neil &lt;b&gt;&#47;&quot;&amp;"),
        ("{{ n|e }}{{ nothing|e }}", "3"),
        ("{{ missing|default('d') }}{{ nothing|d('d') }}", "dd"),
        ("{{ ''|d('d') }}{{ ''|d('e', true) }}", "e"),
        ("{{ ' Ab cd '|trim|lower }} {{ 'ab cd'|title }} {{ 'ab'|capitalize }}", "ab cd Ab Cd Ab"),
        ("{{ 'xax'|trim('x') }}{{ 'aaa'|replace('a', 'b', 2) }}", "abba"),
        ("{{ tags|first }}{{ tags|last }}{{ tags|join }}{{ tags|reverse|join }}", "acabccba"),
        ("{{ 'abc'|reverse }}{{ 'żółw'|length }}{{ nothing|count }}{{ missing|count }}", "cba400"),
        ("{{ users|map(attribute='name')|join(', ') }}", "lois, clark"),
        ("{{ users|join(',', attribute='name') }}", "lois,clark"),
        ("{{ users|selectattr('age')|map(attribute='name')|first }}", "lois"),
        ("{{ users|rejectattr('age')|map(attribute='name')|last }}", "clark"),
        ("{{ [3, 1, 2]|sort|join }}{{ [1, 1]|unique|length }}", "1231"),
        ("{{ [1, 2]|max }}{{ [1, 2]|min }}", "21"),
        ("{{ [1, 2, 3]|select('odd')|list }} {{ tags|map('upper') }}", '[1,3] ["A","B","C"]'),
        ("{{ [1, 2.5]|sum }} {{ users[:1]|sum(attribute='age') }}", "3.5 30"),
        ("{{ (-1.55)|abs|round(1) }} {{ 2.4|round }}", "1.6 2"),
        ("{{ '7'|int + 1 }} {{ 'x'|int(-1) }} {{ '1.5'|float }}", "8 -1 1.5"),
        ("{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}", "a2b1"),
        ("{% for k, v in {'b': 1, 'a': 2}|items %}{{ k }}{{ v }}{% endfor %}", "b1a2"),
        ("{{ 'a much longer text'|truncate(9) }} {{ 'a b/ż'|urlencode }}", "a... a%20b/%C5%BC"),
        ("{{ {'a b': 'c&d', 'n': 1.0}|urlencode }}", "a+b=c%26d&n=1"),
        ("{{ n is divisibleby 3 }}{{ 3 is odd }}{{ missing is defined }}", "truetruefalse"),
        ("{{ nothing is none }}{{ 'a' in tags }}{{ 2 is even }}", "truetruetrue"),
        ("{{ range(3)|join }}{{ range(1, 7, 2) }}", "012[1,3,5]"),
        ("{% for t in tags %}{{ loop.index }}{{ loop.cycle('x', 'y') }}{% endfor %}", "1x2y3x"),
        (
            "{% for t in [1, [2]] recursive %}{{ t if t is number else loop(t) }}{% endfor %}",
            "12",
        ),
        (
            "{% macro m() %}<{{ caller(1) }}>{% endmacro %}{% call(x) m() %}{{ x }}{% endcall %}",
            "<1>",
        ),
        ("{% filter upper %}{{ tags[0] }}{% endfilter %}", "A"),
        ("{% with x = 1.0 %}{{ x }}{% endwith %}", "1"),
        ("{{ 'abcd'[1:3] }}{{ tags[:2]|join }}{{ tags[5] }}", "bcab"),
        ("{{ 1.5 * 3 }} {{ 7 // 2 }} {{ 2 ** 0.5 }}", "4.5 3 1.4142135623731"),
        ("{{ 'a' * 3 }}{{ 2 * 'b' }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ ([1] + [2])|join }}", "aaabb3812"),
    ],
)
def test_the_language(jinja: Jinja, source: str, expected: str) -> None:
    """Filters, tests, loops and macros that are offered do what Jinja's manual says."""
    assert render(jinja, source).strip() == expected.strip()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ json(tags) }}{{ tags|tojson }}", '["a","b","c"]["a","b","c"]'),
        ("{{ json(special) }}", '"O\'Neil <b>/\\"&"'),
        ("{{ json(nothing) }} {{ json(missing) }}", "null null"),
        ("{{ [missing, on]|tojson }}", "[null,true]"),
        ("{{ json(big) }} {{ json(3) }} {{ json(n) }}", "9007199254740992 3 3.0"),
        ("{{ json(range(2)) }}{{ json((1, 2)) }}{{ {1: 'a'}|tojson }}", '[0,1][1,2]{"1":"a"}'),
        ("{{ json('a' ~ '\\n\u017c') }}", '"a\\nż"'),
    ],
)
def test_json(jinja: Jinja, source: str, expected: str) -> None:
    """`json(x)`, also spelled `|tojson`, is plain JSON: for bodies, not for HTML."""
    assert render(jinja, source) == expected


def test_fields_come_before_functions(jinja: Jinja) -> None:
    """A field named like one of the two functions hides it."""
    assert render(jinja, "{{ json }}{{ range }}", {"json": "J", "range": 1}) == "J1"


def test_the_context_comes_before_fields(jinja: Jinja) -> None:
    """`context` is the whole event, as for resty."""
    assert render(jinja, "{{ context.context }}", {"context": "C"}) == "C"


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("{{ x", 1, "unexpected end of template"),
        ("\n{{ a b }}", 2, "got 'b'"),
        ("{{ a .. b }}", 1, "expected name or number"),
        ("{{ #tags }}", 1, "unexpected char '#'"),
        ("{% if a then %}x{% end %}", 1, "got 'then'"),
        ("{% local x = 1 %}", 1, "unknown tag 'local'"),
        ("{% if a %}", 1, "looking for the following tags: 'elif' or 'else' or 'endif'"),
        ("\n\n{% include 'x' %}", 3, "includes are disabled"),
        ("{% if false %}{% include 'x' %}{% endif %}", 1, "includes are disabled"),
        ("{% import 'x' as y %}", 1, "includes are disabled"),
        ("{% from 'x' import y %}", 1, "includes are disabled"),
        ("{% extends 'x' %}", 1, "includes are disabled"),
        ("{% autoescape true %}{% endautoescape %}", 1, "autoescape is not available"),
        ("{% do x %}", 1, "unknown tag 'do'"),
        ("{{ 'a'|center(9) }}", 1, "there is no filter `center`"),
        ("{% if false %}{{ x|attr('y') }}{% endif %}", 1, "there is no filter `attr`"),
        ("{{ x is callable }}", 1, "there is no test `callable`"),
        ("{{ 1 if x is callable }}", 1, "there is no test `callable`"),
        ("{% for i in a %}" * 25 + "{% endfor %}" * 25, None, "too many statically nested blocks"),
        ("{{ f(a=1, a=2) }}", None, "keyword argument repeated"),
        ("{{ " + "(" * 500 + ")" * 500 + " }}", None, "nests or calls itself too deeply"),
        ("{{ " + "9" * 5000 + " }}", None, "Exceeds the limit"),
    ],
)
def test_what_does_not_compile(jinja: Jinja, source: str, line: int | None, words: str) -> None:
    """A check and a run refuse it alike, with line and reason, wherever in the template it is."""
    [failure] = check(jinja, source)

    assert (failure.index, failure.line) == (0, line)
    assert words in failure.text.decode()
    assert run(jinja, source) == Report([failure])


def test_a_check_reports_every_template_that_does_not_compile(jinja: Jinja) -> None:
    """One failure for each, under its number; nothing runs."""
    failures = check(jinja, "{{ x", "{{ missing.x }}{{ 1 / 0 }}", "\n{% y %}", "ok")

    assert [(failure.index, failure.line) for failure in failures] == [(0, 1), (2, 2)]


def test_a_run_stops_at_the_first_failure(jinja: Jinja) -> None:
    """Whether it shows when compiling or when rendering."""
    assert [f.index for f in run(jinja, "ok", "{{ x", "{{ y").failures] == [1]
    assert [f.index for f in run(jinja, "ok", "{{ x.y }}", "{{ x.y }}").failures] == [1]


def test_all_texts_come_in_order(jinja: Jinja) -> None:
    """One text for each template."""
    assert run(jinja, "a", "{{ n }}", "").texts == [b"a", b"3", b""]
    assert run(jinja).texts == []


def test_functions_are_refused(jinja: Jinja) -> None:
    """Lua has an engine of its own."""
    [failure] = answer(jinja, Call("", "", Functions(("return 1",)))).failures

    assert b"Lua" in failure.text


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"a":"\xff"}', b"[" * 5000])
def test_data_that_is_no_mapping_is_a_failure(jinja: Jinja, data: bytes) -> None:
    """The service sends none; if it does, the worker goes on."""
    report = answer(jinja, Call("", "", Templates(("{{ a }}",)), Arguments(data)))

    assert len(report.failures) == 1
    assert render(jinja, "{{ n }}") == "3"


def test_characters_without_utf8_are_replaced(jinja: Jinja) -> None:
    """Half a surrogate pair cannot be sent."""
    assert render(jinja, r"{{ '\ud800' }}\N{DASH}{{ '\N{EM DASH}' }}") == r"?\N{DASH}—"


def test_nothing_of_one_call_is_seen_by_the_next(jinja: Jinja) -> None:
    """Neither names nor macros, in the same templates or in others of the hook."""
    source = "{{ x }}{{ m }}{% set x = 1 %}{% macro m() %}{% endmacro %}"

    assert run(jinja, source, source).texts == [b"", b""]
    assert run(jinja, source).texts == [b""]


def test_templates_are_compiled_once() -> None:
    """As many programs are kept as the limit says; the least recently used goes first."""
    jinja = Jinja(msgspec.structs.replace(LIMITS, states=2), Profile())
    compiled: list[str] = []
    compile_one = jinja._sandbox._generate

    def counted(source: Any, *arguments: Any, **named: Any) -> str:
        compiled.append("")
        return compile_one(source, *arguments, **named)

    jinja._sandbox._generate = counted  # type: ignore[method-assign]
    for source in ("a", "b", "a", "c", "a"):
        run(jinja, source)
    assert len(compiled) == 3
    run(jinja, "b")
    assert len(compiled) == 4
    run(jinja, "b", hook="another")
    assert len(compiled) == 5


NAMES = ["a", "b", "items", "keys", "get", "values", "update", "pop", "copy", "__class__", "self_"]
LEAVES = text() | integers(-(2**63), 2**63 - 1) | floats(allow_nan=False, allow_infinity=False)
TREES = dictionaries(
    sampled_from(NAMES),
    recursive(
        LEAVES | booleans(),
        lambda inner: dictionaries(sampled_from(NAMES), inner) | lists(inner),
    ),
    min_size=1,
)


def paths(value: Any, jinja: str = "context", resty: str = "context") -> list[tuple[str, str]]:
    """How each leaf is reached in both languages."""
    if isinstance(value, dict):
        steps = [(f".{key}", f".{key}", item) for key, item in value.items()]
    elif isinstance(value, list):
        steps = [(f"[{i}]", f"[{i + 1}]", item) for i, item in enumerate(value)]
    else:
        return [(jinja, resty)]
    return [path for a, b, item in steps for path in paths(item, jinja + a, resty + b)]


@settings(deadline=None, derandomize=True)
@given(data=TREES)
def test_plain_paths_print_as_with_resty(data: dict[str, Any]) -> None:
    """But for escaping and counting: whatever is there prints the same from both engines."""
    found = paths(data)
    resty = compile_template("\n".join(f"{{*{path}*}}" for _, path in found))

    assert resty is not None
    decoded = msgspec.json.decode(msgspec.json.encode(data))
    source = "\n".join(f"{{{{{path}}}}}" for path, _ in found)
    assert render(SHARED, source, data) == resty.render(decoded)


SHARED = Jinja(LIMITS, Profile())

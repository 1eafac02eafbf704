r"""Templates, byte for byte as lua-resty-template 2.0 renders them (observed under LuaJIT 2.1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, floats, integers, recursive, sampled_from, text

from delivery.templates import Budget, TemplateError, compile_template, number_text, walk

CONTEXT: dict[str, Any] = {
    "special": "x<y>'\"/&",
    "name": "abc",
    "n": 3.0,
    "big": 1e14,
    "on": True,
    "off": False,
    "nothing": None,
    "empty": {},
    "list": [1, "two", {"z": "Z"}, None],
    "o": {"f": False, "t": True, "s": "str", "k-y": "ky", "end": "E", "null": None, "1": "one"},
    "type": "shadows Lua's own",
}


def render(source: str) -> str:
    return compile_template(source).render(CONTEXT)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Values
        ("{{special}}", "x&lt;y&gt;&#39;&quot;&#47;&amp;"),
        ("{*special*}", "x<y>'\"/&"),
        ("{{ n }} {{ big }} {{ o.t }}", "3 1e+14 true"),
        ("{{ missing }}|{{ nothing }}|{{ o.missing }}|{{ o.null }}|{{ empty.x }}", "||||"),
        ("{{ off }}|{{ o.f }}|{{ context.off }}", "|false|false"),
        ("{{ context.name }} {{ context['name'] }} {{ context.missing }}", "abc abc "),
        ("{{ name.x }}|{{ name[1] }}", "|"),
        ("{{ type }}", "shadows Lua&#39;s own"),
        # Paths
        ("{{ list[1] }} {{ list[2] }} {{ list[3].z }}", "1 two Z"),
        ("{{ list[0] }}{{ list[4] }}{{ list[5] }}{{ list.x }}{{ list['1'] }}", ""),
        ("{{ list[01] }}", "1"),
        ("{{ o['k-y'] }} {{ o[\"k-y\"] }} {{ o['end'] }} {{ o[1] }}{{ o['1'] }}", "ky ky E one"),
        ("{{ list [ 3 ] . z }}{{\to\n.\ns\n}}", "Zstr"),
        ("{{ żółw }}{{ o._x1 }}", ""),
        # Text around tags
        ("", ""),
        (" {{name}} \n{{name}}\n", " abc \nabc\n"),
        ("a\r\nb\rc\n\rd\n", "a\nb\nc\nd\n"),
        ("\r\nb{{name}}\r\nc", "\nbabc\nc"),
        ("<'&'>", "<'&'>"),
        ('{"a":{"b":{{ n }}}}', '{"a":{"b":3}}'),
        ("{{ n }}}}", "3}}"),
        ("{{}}{{ }}{**}", ""),
        ("]=] ]] [[", "]=] ]] [["),
        # What looks like a tag and is none
        ("{", "{"),
        ("{ {name} }", "{ {name} }"),
        ("{{ name", "{{ name"),
        ("{{ name }", "{{ name }"),
        ("{* name }}", "{* name }}"),
        ("{% x {# x {( x {[ x {- x", "{% x {# x {( x {[ x {- x"),
        # Escaped tags
        (r"\{{ name }}", "{{ name }}"),
        (r"\\{{ name }}", r"\abc"),
        (r"\\\{{ name }}", r"\\abc"),
        (r"\{* name *}\{% x %}\{# x #}\{-raw-}", "{* name *}{% x %}{# x #}{-raw-}"),
        (r"\{(name)}\{[name]}", "{(name)}{[name]}"),
        (r"\{{ {{name}} }}", "{{ abc }}"),
        (r"\{{ name", r"\{{ name"),
        ("\\", "\\"),
        (r"C:\dir", r"C:\dir"),
    ],
)
def test_rendering(source: str, expected: str) -> None:
    """Text and plain paths come out exactly as from the original."""
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "Admin account `{{ entity.username }}` {{ operation}}d; address: `{{ entity.email }}`",
            "Admin account `Arya Stark` created; address: `arya@gameofthrones.com`",
        ),
        (
            "Rate limit exceeded by '{{ consumer.username }}' on service ' {{ service.name }}' ",
            "Rate limit exceeded by '' on service ' test' ",
        ),
        ("new consumer added", "new consumer added"),
        (
            "{{ hostname }} ({{ ip }}:{{ port }}) is {{ health }}",
            "backend (10.0.0.5:8080) is unhealthy",
        ),
    ],
)
def test_published_templates(source: str, expected: str) -> None:
    """The templates of Kong's documentation and of the seeds."""
    context: dict[str, Any] = {
        "entity": {"username": "Arya Stark", "email": "arya@gameofthrones.com"},
        "operation": "create",
        "consumer": {},
        "service": {"name": "test"},
        "hostname": "backend",
        "ip": "10.0.0.5",
        "port": 8080,
        "health": "unhealthy",
    }

    assert compile_template(source).render(context) == expected


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("{{ a or b }}", 1, "`a or b`: only plain paths"),
        ("{{ a .. 'x' }}", 1, "only plain paths"),
        ("{{ #list }}", 1, "only plain paths"),
        ("{{ name:upper() }}", 1, "only plain paths"),
        ("{{ string.upper(name) }}", 1, "only plain paths"),
        ("{{ list[n] }}", 1, "only plain paths"),
        ("{{ list[-1] }}", 1, "only plain paths"),
        ("{{ o['a\\tb'] }}", 1, "only plain paths"),
        ("{{ 1 }}", 1, "only plain paths"),
        ("{{ 'x' }}", 1, "only plain paths"),
        ("{{ true }}", 1, "only plain paths"),
        ("{{ nil }}", 1, "only plain paths"),
        ("{{ o.end }}", 1, "only plain paths"),
        ("{{ a, b }}", 1, "only plain paths"),
        ("{{ a. }}", 1, "only plain paths"),
        ("{{{a}}}", 1, "only plain paths"),
        ("{{ a\N{NO-BREAK SPACE}}}", 1, "only plain paths"),
        ("\n\n{% if a then %}x{% end %}", 3, "`{% %}`: only plain paths"),
        ("{{ a }}\r\n{# note #}", 2, "`{# #}`: only plain paths"),
        ("{(file.html)}", 1, "`{( )}`: only plain paths"),
        ("{[name]}", 1, "`{[ ]}`: only plain paths"),
        ("{-raw-}x{-raw-}", 1, "`{- -}`: only plain paths"),
        ("{{ template.x }}", 1, "write `context.template`"),
        ("{* echo *}", 1, "write `context.echo`"),
        ("{{ ___ }}", 1, "write `context.___`"),
    ],
)
def test_what_is_more_than_a_path_is_refused(source: str, line: int, words: str) -> None:
    """The language behind the paths is Lua; it is refused when compiled, with its line."""
    with pytest.raises(TemplateError) as caught:
        compile_template(source)

    assert caught.value.line == line
    assert f"line {line}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("{{ missing.x }}", 1, "`missing.x` looks for 'x' in nothing"),
        ("{{ off.x }}", 1, "looks for 'x' in nothing"),
        ("a\nb {{ o.missing.x }}", 2, "`o.missing.x` looks for 'x' in nothing"),
        ("{{ o.null.x }}", 1, "in nothing"),
        ("{{ list[9].x }}", 1, "in nothing"),
        ("{{ n.x }}", 1, "in a number"),
        ("{{ on.x }}", 1, "in a boolean"),
        ("{{ name.len }}", 1, "looks for 'len' in a string"),
        ("{{ o }}", 1, "`o` is a table"),
        ("{* list *}", 1, "`list` is a table"),
        ("{{ context }}", 1, "`context` is a table"),
        ("{{ error }}", 1, "`context.error` means the event only"),
        ("{{ os.time }}", 1, "the event has no `os`"),
    ],
)
def test_what_cannot_be_rendered_is_an_error(source: str, line: int, words: str) -> None:
    """Missing parents, tables and Lua's own names fail with the line instead of printing junk."""
    template = compile_template(source)

    with pytest.raises(TemplateError) as caught:
        template.render(CONTEXT)
    assert caught.value.line == line
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1 / 3, "0.33333333333333"),
        (1_627_581_878, "1627581878"),
        (99_999_999_999_999, "99999999999999"),
        (100_000_000_000_000, "1e+14"),
        (2**53, "9.007199254741e+15"),
        (1e-5, "1e-05"),
        (1e300, "1e+300"),
        (10**400, "inf"),
        (-(10**400), "-inf"),
    ],
)
def test_numbers_print_as_in_lua(value: float, expected: str) -> None:
    """Fourteen significant digits, integers like any other number."""
    assert number_text(value) == expected


def test_nested_payloads_are_walked() -> None:
    """Strings at any depth are templates; keys and other values stay."""
    payload = {
        "text": "{{ name }}",
        "{{ name }}": [{"x": "{* special *}"}, 7, None, True],
    }

    assert walk(payload, CONTEXT) == {
        "text": "abc",
        "{{ name }}": [{"x": "x<y>'\"/&"}, 7, None, True],
    }


def test_the_output_of_a_delivery_is_bounded() -> None:
    """A short template cannot turn one long field into gigabytes, in one text or over many."""
    context = {"long": "x" * 1000}

    assert len(compile_template("{{ long }}" * 5).render(context, Budget(5000))) == 5000
    with pytest.raises(TemplateError, match="too long"):
        compile_template("{{ long }}" * 6).render(context, Budget(5999))
    with pytest.raises(TemplateError, match="too long"):
        walk(["{{ long }}"] * 2000, context)


def test_a_hostile_template_compiles_in_linear_time() -> None:
    """Half a million unclosed tags are text, found without looking for each one's end."""
    source = "{{ {* {% " * 50_000

    assert compile_template(source).render({}) == source


def test_a_template_is_compiled_once() -> None:
    """The same text gives the same template, from a cache with a bound."""
    assert compile_template("{{ once }}") is compile_template("{{ once }}")
    assert compile_template.cache_info().maxsize is not None


@given(text())
def test_text_without_tags_is_kept(source: str) -> None:
    """Whatever holds no opening brace comes out as it is, but for the kind of its newlines."""
    source = source.replace("{", "").replace("\r", "")

    assert render(source) == source


@given(text(alphabet=sampled_from("{}*%#()[]-\\ \n\rab.'\"1")))
def test_every_text_compiles_or_is_refused(source: str) -> None:
    """No text makes the compiler or the renderer fail in another way."""
    context = {"a": {"b": "x"}, "b": [1]}

    try:
        rendered = compile_template(source).render(context)
    except TemplateError:
        return
    assert isinstance(rendered, str)


JSON = recursive(
    integers() | floats(allow_nan=False, allow_infinity=False) | text(),
    lambda inner: dictionaries(text(), inner, max_size=3),
)


@given(value=JSON)
def test_escaping_leaves_nothing_special(value: Any) -> None:
    """What `{{ }}` prints never holds a character that HTML or an attribute would notice."""
    try:
        rendered = compile_template("{{ v }}").render({"v": value})
    except TemplateError:
        assert isinstance(value, dict)
        return
    assert not set("<>\"'/") & set(rendered)

r"""Templates, byte for byte as lua-resty-template 2.0 renders them (observed under LuaJIT 2.1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, floats, integers, recursive, text

from delivery.templates import (
    Budget,
    NotPlain,
    Template,
    TemplateError,
    compile_template,
    number_text,
)

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


def plain(source: str) -> Template:
    template = compile_template(source)
    assert template is not None
    return template


def render(source: str) -> str:
    return plain(source).render(CONTEXT)


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
        # Comments and raw text
        ("a {# {{name}} #}\nb", "a b"),
        ("{-raw-}{{name}}{-raw-}{-verbatim-}{% x %}{-verbatim-}", "{{name}}{% x %}"),
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
        (r"\{* name *}\{% x %}\{# x #}", "{* name *}{% x %}{# x #}"),
        (r"\{-raw-}x{-raw-}", "{-raw-}x{-raw-}"),
        (r"\{-raw-}", r"\{-raw-}"),
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

    assert plain(source).render(context) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ a or b }}",
        "{{ a .. 'x' }}",
        "{{ #list }}",
        "{{ name:upper() }}",
        "{{ string.upper(name) }}",
        "{{ list[n] }}",
        "{{ list[-1] }}",
        "{{ list[1.0] }}",
        "{{ o['a\\tb'] }}",
        "{{ o['a\rb'] }}",
        "{{ o['a'b'] }}",
        "{{ o['a\"] }}",
        "{{ 1 }}",
        "{{ 'x' }}",
        "{{ true }}",
        "{{ nil }}",
        "{{ end }}",
        "{{ o.end }}",
        "{{ a, b }}",
        "{{ a. }}",
        "{{ a -- b }}",
        "{{{a}}}",
        "{{ a\N{NO-BREAK SPACE}}}",
        "{{ a\N{EM SPACE}.b }}",
        "{% if a then %}x{% end %}",
        "{-block-}x{-block-}",
        "{{ template.x }}",
        "{* echo *}",
        "{{ ___ }}",
        "{{ blocks.x }}",
        "{{ layout }}",
    ],
)
def test_what_is_more_than_a_path_needs_lua(source: str) -> None:
    """The language behind the paths is Lua, and so are the engine's own names."""
    assert compile_template(source) is None


@pytest.mark.parametrize(
    "source", ["a\n{(file.html)}", "{{ a }}\n{[name]}", "\n{% layout = 'x' %}"]
)
def test_includes_are_refused(source: str) -> None:
    """What no engine renders is refused at once, with its line."""
    with pytest.raises(TemplateError, match="line 2: includes are disabled"):
        compile_template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ o }}",
        "{* list *}",
        "{{ context }}",
        "{{ error }}",
        "{{ os.time }}",
        "{{ json }}",
        "{{ name.len }}",
        "{{ name.x }}",
        "{{ name[1] }}",
    ],
)
def test_values_that_need_lua(source: str) -> None:
    """A table's address, Lua's own names and what strings can do are left to Lua."""
    with pytest.raises(NotPlain):
        render(source)


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
    ],
)
def test_what_cannot_be_rendered_is_an_error(source: str, line: int, words: str) -> None:
    """A missing parent fails with the line, in any engine."""
    with pytest.raises(TemplateError) as caught:
        render(source)

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


def test_the_output_of_a_delivery_is_bounded() -> None:
    """A short template cannot turn one long field into gigabytes, in one text or over many."""
    context = {"long": "x" * 1000}
    budget = Budget(5999)

    assert len(plain("{{ long }}" * 5).render(context, budget)) == 5000
    with pytest.raises(TemplateError, match="line 2: the text becomes too long"):
        plain("\n{{ long }}").render(context, budget)


def test_a_template_is_compiled_once() -> None:
    """The same text gives the same template, from a cache with a bound."""
    assert compile_template("{{ once }}") is compile_template("{{ once }}")
    assert compile_template.cache_info().maxsize is not None


@given(text())
def test_text_without_tags_is_kept(source: str) -> None:
    """Whatever holds no opening brace comes out as it is, but for the kind of its newlines."""
    source = source.replace("{", "").replace("\r", "")

    assert render(source) == source


JSON = recursive(
    integers() | floats(allow_nan=False, allow_infinity=False) | text(),
    lambda inner: dictionaries(text(), inner, max_size=3),
)


@given(value=JSON)
def test_escaping_leaves_nothing_special(value: Any) -> None:
    """What `{{ }}` prints never holds a character that HTML or an attribute would notice."""
    try:
        rendered = plain("{{ v }}").render({"v": value})
    except NotPlain:
        assert isinstance(value, dict)
        return
    assert not set("<>\"'/") & set(rendered)

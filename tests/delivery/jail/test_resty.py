r"""Templates with Lua, as lua-resty-template 2.0 renders them (observed under LuaJIT 2.1)."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from delivery.jail.frames import Arguments, Call, Templates
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.jail.resty import MAX_BLOCKS, MAX_DEPTH, compile_resty
from delivery.resty_syntax import TemplateError
from tests.delivery.jail.lua_rendering import MACHINES, Failed, Renderer

CONTEXT: dict[str, Any] = {
    "special": "x<y>'\"/&{}",
    "name": "abc",
    "n": 3.0,
    "on": True,
    "off": False,
    "nothing": None,
    "empty": {},
    "list": [1, "two", {"z": "Z"}],
    "o": {"f": False, "s": "str", "k-y": "ky", "type": "T", "items": "I"},
    "type": "shadows Lua's own",
    "layout": "a field",
    "created_at": 1_627_581_878,
}


@pytest.fixture(params=MACHINES)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    """On both virtual machines: templates must not notice which one there is."""
    return Renderer(request.param, cpu_seconds=0.1)


def fails(renderer: Renderer, source: str) -> Failed:
    with pytest.raises(Failed) as caught:
        renderer.render(source, CONTEXT)
    return caught.value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # Printing
        ("{{ special }}", "x&lt;y&gt;&#39;&quot;&#47;&amp;{}"),
        ("{* special *}", "x<y>'\"/&{}"),
        ("<'&'>{{ '<' }}{* '<' *}", "<'&'>&lt;<"),
        ("{{ nil }}|{{ missing }}|{{ nothing }}|{{ o.missing }}|{{ empty.x }}", "||||"),
        ("{{ off }}|{{ o.f }}|{{ context.off }}|{{ off == false }}", "|false|false|false"),
        ("{{ n }} {{ 10/2 }} {{ 7/2 }} {{ 1e14 }} {{ 2^53 }}", "3 5 3.5 1e+14 9.007199254741e+15"),
        ("{{ created_at * 1000 }} {{ '1' + 1 }}", "1627581878000 2"),
        ("{{ on }} {{ not on }} {{ #list }}", "true false 3"),
        ("{{ name, special }}{* name, special *}", "abcabc"),
        ("{{ special:gsub('x', '/') }}", "&#47;&lt;y&gt;&#39;&quot;&#47;&amp;&#123;&#125;"),
        ("{* special:gsub('x', '/') *}", "/<y>'\"/&{}"),
        ("{{ special, true }}", "x&lt;y&gt;&#39;&quot;&#47;&amp;&#123;&#125;"),
        ("{{ function() return '<' end }}", "<"),
        ("{{ function() return function() end end }}", ""),
        ("{{ (function() return '<' end)() }}", "&lt;"),
        # Expressions
        ("{{ missing or 'd' }} {{ '' or 'd' }} {{ 0 or 'd' }}", "d  0"),
        ("{{ name == 'abc' and 'y' or 'z' }} {{ name ~= 'abc' }}", "y false"),
        ("{{ o['k-y'] }} {{ o['missing' ] or o.type }}", "ky T"),
        ("{{ list[1] }} {{ list[#list].z }}", "1 Z"),
        ("{{ name:upper() }} {{ string.rep(name, 2) }} {{ ('%02d'):format(n) }}", "ABC abcabc 03"),
        ("{{ name .. [[x]] }}", "abcx"),
        ("{{ math.floor(2.7) }} {{ os.date('!%Y', 0) }}", "2 1970"),
        ("{{ tostring(o.f) }} {{ name --[[ why ]] }}", "false abc"),
        ("{{ 'a -- b' }}{{ [[ -- c]] }}{{ name -- d\n .. 'e' }}", "a -- b -- cabce"),
        ("{{ (o).type }} {{ ({ 'a', 'b' })[2]}}", "T b"),
        # Statements
        ("{% if on then %}a{% elseif off then %}b{% else %}c{% end %}", "a"),
        ("{% for i, v in ipairs({ 'a', 'b' }) do %}{{i}}={{v}};{% end %}", "1=a;2=b;"),
        ("{% local a = name %}{{ a }}", "abc"),
        ("{% -- a comment %}x", "x"),
        ("{% --[[ %}x{{ name }}{% ]] %}y", "y"),
        ("{% local function f(x) %}[{{ x }}]{% end f(1) f(2) %}", "[1][2]"),
        ("{% echo(1, nil, '<', true) %}{% echo() %}", "1nil<true"),
        ("{% x = 1 %}{{ x }}{{ context.x }}", "1"),
        ("{% name = 'z' %}{{ name }} {{ context.name }}", "z abc"),
        ("{% context.name = 'z' %}{{ name }}", "z"),
        ("{% context = { name = 'z' } %}{{ name }}", "z"),
        ("a{% do return 'b' end %}c", "b"),
        ("a{% do return end %}c", ""),
        # White space
        ("a{% local x %}\nb\n", "ab\n"),
        ("a \t{% local x %} b", "a b"),
        ("a{# b #}\n c {# d #}\n", "a c "),
        ("{{ name }}\n{{ name }}\n", "abc\nabc\n"),
        (
            "{% for i = 1, 2 do %}\n  {% if i == 1 then %}\n  one\n  {% end %}\n{% end %}\n",
            "  one\n",
        ),
        ("a{% local x %}\r\n\r\nb\r\n", "a\n\nb\n"),
        # Blocks
        ("{-a-}<{{ name }}>{-a-}[{* blocks.a *}]", "[<abc>]"),
        ("{-a-}\n <b>\n{-a-}\n[{* blocks.a *}]", "[ <b>]"),
        ("{-a-}\n1{-a-}\n{{ blocks.a }}{{ blocks['a'] }}", "11"),
        ("{-a-}1{-a-}{-a-}2{-a-}{{ blocks.a }}", "2"),
        ("{-a-}{-b-}1{-b-}[{{ blocks.b }}]{-a-}{{ blocks.b }}{{ blocks.a }}", "[1]"),
        ("{% local x = 1 %}{-a-}{{ x }}{-a-}[{{ blocks.a }}]", "[]"),
        ("{% context = 1 %}{-a-}1{{ name }}{-a-}{{ blocks.a }}", "1"),
        ("{-a-}{% context.x = 1 %}{-a-}{{ x }}", "1"),
        ("{-a-}{% do return 'r' end %}{-a-}{{ blocks.a }}", "r"),
        ("{-a-}\\{{ name }}{-a-}{{ blocks.a }}", "{{ name }}"),
        ('{-a"b]]-}1{-a"b]]-}{{ blocks[\'a"b]]\'] }}', "1"),
        ("{% local x %}{-raw-}{{ x }}{% {-raw-}", "{{ x }}{% "),
        # Escaped tags
        (r"{% local x %}\{{ name }} \\{{ name }}", "{{ name }} \\abc"),
        (r"\{% if %}\{-a-}\{# b #}{-a-}{% local x %}", "{% if %}{-a-}{# b #}{-a-}"),
        # Text is data
        ("]=] ]] [[ --[[ ' \" \\ {{ 1 }}", "]=] ]] [[ --[[ ' \" \\ 1"),
        ("]=] os.exit() --[=[{% local x %}", "]=] os.exit() --[=["),
        ("{-a-}]=] os.exit() --[=[{-a-}{{ blocks.a }}", "]=] os.exit() --[=["),
        ('{"a":{"b":{{ 1 + 1 }}}}', '{"a":{"b":2}}'),
        ("\0{{ 1 }}\0ż", "\x001\0ż"),
        # Names
        ("{{ type }} {{ context.type }}", "shadows Lua&#39;s own shadows Lua&#39;s own"),
        ("{{ layout }}|{{ context.layout }}", "|a field"),
        ("{{ o.items }} {{ escape('<') }} {* escape('<') *}", "I &amp;lt; &lt;"),
        ("{{ template.escape('<') }} {{ output(nil) }}", "&amp;lt; "),
        ("{{ print }}{{ io.open }}{{ require }}{{ loadstring }}{{ debug }}{{ _G }}", ""),
        # json
        ("{* json(special) *}", '"x<y>\'\\"/&{}"'),
        ("{* json(list) *} {* json({ a = n }) *}", '[1,"two",{"z":"Z"}] {"a":3}'),
        ("{* json(nil) *} {* json(missing) *} {* json(o.f) *}", "null null false"),
        ("{{ json(name) }}", "&quot;abc&quot;"),
        # Strings cut in the middle of a character
        ("{{ ('ż'):sub(1, 1) }}", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_rendering(renderer: Renderer, source: str, expected: str) -> None:
    """Every rule of the language, with its output to the byte."""
    assert renderer.render(source, CONTEXT) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ 'O\\'Neil <b>/' }}", "O&#39;Neil &lt;b&gt;&#47;"),
        ("{{ null }}", ""),
        ("{{ yes }} {{ no }} {{ o.no }}", "true  false"),
        ("{{ 3.0 }} {{ 4/2 }}", "3 2"),
        ("{{ tags[1] }}", "first"),
        ("{{ o.items }}{{ o.keys }}{{ o.values }}{{ o.get }}", "1234"),
        ("{{ '' or 'd' }} {{ 0 or 'd' }}", " 0"),
        ("{{ 'a' .. 'b' }} {{ 1 ~= 2 }} {{ #tags }} {{ x:upper() }}", "ab true 2 X"),
        ("{% for _, tag in ipairs(tags) do %}{* tag *} {% end %}", "firstsecond"),
        ("end\n", "end\n"),
        ("{{ '1' + 1 }}", "2"),
        ("\\{{ x }}", "{{ x }}"),
        ("{{ x or 'd' }} {{ missing or 'd' }} {{ o['items'] }} {{ 7/2 }}", "x d 1 3.5"),
    ],
)
def test_what_jinja_does_differently(renderer: Renderer, template: str, expected: str) -> None:
    """The column of this engine in the comparison of the two."""
    context = {
        "null": None,
        "yes": True,
        "no": False,
        "o": {"no": False, "items": 1, "keys": 2, "values": 3, "get": 4},
        "tags": ["first", "second"],
        "x": "x",
    }

    assert renderer.render(template, context) == expected


@pytest.mark.parametrize(
    "source", ["{{ a ~ b }}", "{{ a != b }}", "{{ a|upper }}", "{% if a %}b{% endif %}"]
)
def test_what_only_jinja_has_does_not_compile(renderer: Renderer, source: str) -> None:
    """Never guessed: it is a mistake here, found without running anything."""
    with pytest.raises(Failed):
        renderer.check(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "Admin `{{ entity.username }}` {{ operation:sub(1, -2) }}ed: `{{ entity.email }}`",
            "Admin `Arya Stark` created: `arya@gameofthrones.com`",
        ),
        (
            "Rate limit exceeded by '{{ consumer.username or 'nobody' }}' on '{{ service.name }}'",
            "Rate limit exceeded by 'nobody' on 'test'",
        ),
        (
            "{% if health == 'unhealthy' then %}:warning: {{ '' }}{% end %}{{ ip }}:{{ port }}",
            ":warning: 10.0.0.5:8080",
        ),
        (
            '{"blocks":[{"type":"section","text":{"type":"mrkdwn","text":{* json(text) *}}}]}',
            '{"blocks":[{"type":"section","text":{"type":"mrkdwn","text":"a \\"b\\"\\n/"}}]}',
        ),
        (
            "{-raw-}${x} {{DATE(2017)}}{-raw-} \\{{DATE(2017)}} {{ port + 0 }}",
            "${x} {{DATE(2017)}} {{DATE(2017)}} 8080",
        ),
        (
            '{"payload":{"summary":{* json(entity.username) *},"custom":{* json(service) *}}}',
            '{"payload":{"summary":"Arya Stark","custom":{"name":"test"}}}',
        ),
    ],
)
def test_templates_as_people_write_them(renderer: Renderer, source: str, expected: str) -> None:
    """Slack, Teams cards with another engine's tags, PagerDuty, and Kong's own with some Lua."""
    context = {
        "entity": {"username": "Arya Stark", "email": "arya@gameofthrones.com"},
        "operation": "create",
        "consumer": {},
        "service": {"name": "test"},
        "ip": "10.0.0.5",
        "port": 8080,
        "health": "unhealthy",
        "text": 'a "b"\n/',
    }

    assert renderer.render(source, context) == expected


@pytest.mark.parametrize("source", ["{{ list }}", "{* o *}", "{{ context }}", "{{ os }}"])
def test_tables_print_their_address(renderer: Renderer, source: str) -> None:
    """As in the original; only their JSON is of use."""
    assert renderer.render(source, CONTEXT).startswith("table: 0x")


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("{{ a b }}", 1, "')' expected near 'b'"),
        ("{{{a}}}", 1, "'}' expected near ')'"),
        ("a\n{{ 'b }}\n", 2, "unfinished string"),
        ('{{ "}}" }} {{ "}}" }}', 1, "unfinished string"),
        ("{{ '}}' }} {{ '}}' }}", 1, "unfinished string"),
        ("\n{{ a -- b }}", 2, "a comment takes in the end of the tag"),
        ("\n{* a --[[ b ]] -- c *}", 2, "a comment takes in the end of the tag"),
        ("\n\n{% if a %}b{% end %}", 3, "'then' expected near the end of the tag"),
        ("{% if a then %}b", 1, "'end' expected"),
        ("{% end %}", 1, "'<eof>' expected near 'end'"),
        ("{{ a\n.\n+ }}", 3, "'<name>' expected near '+'"),
        ("{% a = %}b", 1, "unexpected symbol"),
        ("{% return %}b", 1, "'<eof>' expected"),
        ("{-a-}\n\n{{ b c }}{-a-}", 3, "')' expected near 'c'"),
        ("{% if a then %}{-b-}{% end %}{-b-}{% end %}", 1, "'<eof>' expected near 'end'"),
        ("\n{(a)}", 2, "includes are disabled"),
        ("\n{-a-}\n{[b]}{-a-}", 3, "includes are disabled"),
        ("\n{% layout = 'a' %}", 2, "includes are disabled"),
        ("{-a-}{-a-}" * (MAX_BLOCKS + 1), 1, f"more than {MAX_BLOCKS} blocks"),
    ],
)
def test_what_does_not_compile(renderer: Renderer, source: str, line: int, text: str) -> None:
    """Found without running anything, in words about the template, with its line."""
    with pytest.raises(Failed) as caught:
        renderer.check(source)

    assert caught.value.line == line
    assert text in caught.value.text
    assert "___" not in caught.value.text
    assert fails(renderer, source).text == caught.value.text


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("a\n{{ o.missing.x }}", 2, "attempt to index field 'missing' (a nil value)"),
        ("{{ missing.x .. '' }}", 1, "attempt to index global 'missing' (a nil value)"),
        ("a\n\n{{\nname + 1 }}", 4, "attempt to perform arithmetic on global 'name'"),
        ("\n{% error('why') %}", 2, "why"),
        ("\n\r\n{-a-}\n{{ missing.x }}{-a-}", 4, "attempt to index"),
        ("{% local function f() %}\n{{ x.y }}{% end %}\n{% f() %}", 2, "attempt to index"),
        ("\n{{ error }}", 2, "(error object is a nil value)"),
        ("\n{{ next }}", 2, "bad argument #1"),
        ("\n{{ function() missing() end }}", 2, "attempt to call global 'missing'"),
        ("\n{{ json(print or next) }}", 2, "Cannot serialise function"),
        ("{% context.c = context %}\n{{ json(context) }}", 2, "excessive depth"),
        ("\n{% local f = include f('a') %}", 2, "includes are disabled"),
        ("\n{{ include }}", 2, "includes are disabled"),
        ("\n{{ template.render('a') }}", 2, "includes are disabled"),
        ("\n{% load('/etc/passwd') %}", 2, "includes are disabled"),
        ("{% local x x, layout = 1, 'a' %}\n", 1, "includes are disabled"),
        (
            "{% template.escape = 1 %}",
            1,
            "Cannot modify template.escape. Protected by the sandbox.",
        ),
        ("{% string.rep = 1 %}", 1, "Cannot modify string.rep. Protected by the sandbox."),
        ("{% ___ = nil %}b", 1, "attempt to index local"),
        ("{% local ___ = 1 %}b", 1, "attempt to index local"),
        ("{% while true do end %}", 1, "time limit"),
    ],
)
def test_what_fails_when_rendered(renderer: Renderer, source: str, line: int, text: str) -> None:
    """There is no text, but what is wrong and the line where."""
    renderer.check(source)

    failed = fails(renderer, source)

    assert failed.line == line
    assert text in failed.text


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1) ___.finish( }}",
        "{* 1); ___[0] = ___[1]; ___.output( *}x",
        "{% end end end %}",
        "{% ]] ]=] ]==] %}",
        "{% --[==[ %}x{% ]===] %}",
        "{-a-}{% ___.block(1) %}{-a-}",
        "{% setfenv(1, {}) %}",
        "{% getmetatable(___).x = 1 %}",
        "{% ___.finish = nil %}{{ ___.finish() }}",
        "{% do return string.dump end %}",
        "\x1bLJ{% x %}",
        "{{ '\\27LJ' }}",
    ],
)
def test_breaking_out_leads_nowhere(renderer: Renderer, source: str) -> None:
    """Around a tag's code there is only the template's own chunk, and the next render is well."""
    with suppress(Failed):
        renderer.render(source, CONTEXT)

    assert renderer.render("{{ 1 + 1 }}{{ string.rep('a', 2) }}", CONTEXT) == "2aa"


def test_the_output_is_bounded(renderer: Renderer) -> None:
    """Neither one text nor all of a call together can be longer than the limit, in bytes."""
    small = Renderer(text_size=1000)
    ten = "{% for i = 1, 10 do %}żżżżż{% end %}"

    assert len(small.render(ten * 10, {}).encode()) == 1000
    for source in (ten * 10 + "\nx", "{{ ('x'):rep(1001) }}", "{% echo(('x'):rep(1001)) %}"):
        with pytest.raises(Failed, match="the text becomes too long"):
            small.render(source, {})
    with pytest.raises(Failed, match="the text becomes too long"):
        small.render("{% do return ('x'):rep(1001) end %}", {})
    with pytest.raises(Failed, match="the text becomes too long"):
        small.render_all([ten * 5, ten * 5, "{{ 1 }}"], {})


def test_blocks_are_not_nested_without_end() -> None:
    """The work of compiling stays bounded: beyond a depth a template is refused."""
    nested = ["{{1}}"]
    for number in range(MAX_DEPTH + 1):
        nested.append(f"{{-{number}-}}{nested[-1]}{{-{number}-}}")

    compile_resty(nested[MAX_DEPTH])
    with pytest.raises(TemplateError, match=f"a block within more than {MAX_DEPTH} blocks"):
        compile_resty(nested[MAX_DEPTH + 1])


def test_a_render_leaves_nothing_behind(renderer: Renderer) -> None:
    """Whatever a template assigns, the next event finds it as it was."""
    source = (
        "{% local a = x, kept %}{{ a }}{{ x }}{{ f }}{{ blocks.a }}{{ name }}{{ o.s }}"
        "{% x, f, name, blocks.a = 1, function() return 'f' end, 'z', 'b' %}"
        "{% context.name, o.s = 'y', 'changed' %}{-b-}{% y = 1 %}{-b-}{{ y }}"
    )

    texts = [renderer.render(source, CONTEXT) for _ in range(3)]

    assert texts == ["abcstr"] * 3


def test_literals_never_become_code() -> None:
    """The compiled chunk holds what is in tags, and texts travel beside it."""
    chunk = compile_resty("os.exit() ]=]{{ 1 }}{-raw-}a{-raw-}{-os.exit()-}os.exit(){-os.exit()-}")

    assert "exit" not in chunk.lua + "".join(chunk.blocks)
    assert chunk.literals == ("os.exit() ]=]", "a", "os.exit()", "os.exit()")


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    """Jailed workers for Lua, as the service runs them."""
    async with WorkerPool.open(JailOptions()) as pool:
        yield pool


async def test_in_a_worker(pool: WorkerPool) -> None:
    """Through the pipe to the jailed process: texts of all templates, or the first failure."""
    context = Arguments(msgspec.json.encode(CONTEXT))
    sources = ("{{ name:upper() }}", "{% for i = 1, 3 do %}{{ i }}{% end %}", "ż{{ name }}")
    good = Call("", "hook", Templates(sources), context)
    bad = Call("", "hook", Templates(("{{ name }}", "\n{{ o.x.y }}")), context)

    ran = await pool.run(good)
    failed = await pool.run(bad)

    assert ran.texts == ("ABC", "123", "żabc")
    assert (failed.faults[0].index, failed.faults[0].line, failed.texts) == (1, 2, ())

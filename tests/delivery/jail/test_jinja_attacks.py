"""Templates that want out, or want everything: each ends in a clean error or with its worker.

What is harmless runs here; what takes time or memory runs in a real worker.
"""

import signal
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis.strategies import builds, recursive, sampled_from

from delivery.jail.frames import Arguments, Call, Limits, Profile, Report, Templates
from delivery.jail.jinja_engine import Jinja
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.jail.ran import Ran

DATA: dict[str, Any] = {"x": "text", "tags": ["a", "b"], "entity": {"name": "arya"}}
LIMITS = Limits(cpu_seconds=5)
JINJA = Jinja(LIMITS, Profile())


def call(*sources: str) -> Call:
    return Call("workspace", "hook", Templates(sources), Arguments(msgspec.json.encode(DATA)))


def run(*sources: str, **limits: Any) -> Report:
    jinja = Jinja(msgspec.structs.replace(LIMITS, **limits), Profile()) if limits else JINJA
    return msgspec.msgpack.decode(jinja.answer(call(*sources)), type=Report)


@pytest.fixture(autouse=True)
def _handler() -> None:
    """The engine of these tests has the signal again, whoever took it."""
    signal.signal(signal.SIGPROF, JINJA._clock._expired)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "x['__class__']['__base__']",
        "[].__class__.__base__",
        "(1).__class__",
        "entity.__init__.__globals__",
        "entity['__class__'].x",
        "entity.get('name')",
        "context.__class__.x",
        "range.__self__",
        "json.__globals__['__builtins__']",
        "range.__call__(3)",
        "json.__wrapped__",
        "'{0.__class__}'.format(x)",
        "'{a.__class__}'.format_map({'a': 1})",
        "'%s' % x",
        "''.join(tags)",
        "x.encode()",
        "tags.sort()",
        "tags.append(1)",
        "entity.update({})",
        "missing.__class__.__mro__",
        "missing._fail_with_undefined_error",
        "missing._undefined_exception.__init__.__globals__",
        "(1 if false).__class__",
        "self.__init__.__globals__",
        "self._TemplateReference__context",
        "self['x']",
        "self()",
        "cycler.__init__.__globals__",
        "joiner()",
        "lipsum.__globals__['os']",
        "namespace(a=1)",
        "dict()",
        "caller()",
        "varargs.x.y",
        "kwargs.x.y",
        "[entity]|map(attribute='__class__.__mro__')|list",
        "[x]|map('attr', '__class__')|list",
        "[x]|map('format', 1)|list",
        "[x]|selectattr('__class__.x')|list",
        "[x]|select('callable')|list",
        "[x]|sort(attribute='__class__.x')",
        "x|attr('__class__')",
        "x|format(1)",
        "x|xmlattr",
        "x is callable",
        "json(range)",
        "range[range]",
        "x|select(range)",
        "entity[range].x",
        "json(json)",
        "json",
        "range",
        "self",
        "1(2)",
        "x()",
        "none()",
        "missing()",
    ],
)
def test_nothing_leads_to_python(expression: str) -> None:
    """No expression gets hold of an attribute, a method or a class: it fails, and says so."""
    [failure] = run("{{ " + expression + " }}").failures

    assert failure.line == 1
    assert b" at 0x" not in failure.text
    assert not any(word in failure.text for word in (b"<class", b"<function", b"<bound", b"<built"))


@pytest.mark.parametrize(
    "expression",
    [
        "x.__class__",
        "x['format']",
        "{}.__class__",
        "entity.__class__",
        "entity.update",
        "entity.__getitem__",
        "tags.__class__",
        "tags.append",
        "range(9).start",
        "range(1, _loop_vars=entity).__class__",
        "entity[range]",
        "[x]|map(attribute='format')|first",
        "cycler",
        "lipsum",
        "__builtins__",
        "environment",
        "__import__",
        "undefined",
        "super",
    ],
)
def test_what_is_no_field_is_missing(expression: str) -> None:
    """Where Python has an attribute, and where Jinja has a global, there is nothing."""
    assert run("{{ " + expression + " }}") == Report(texts=[b""])


@pytest.mark.parametrize(
    "source",
    [
        "{% for t in tags %}{{ loop.__class__ }}{% endfor %}",
        "{% for t in tags %}{{ loop._iterator }}{% endfor %}",
        "{% for t in tags %}{{ loop._recurse.__globals__ }}{% endfor %}",
        "{% for t in tags %}{{ loop.cycle.__func__ }}{% endfor %}",
        "{% for t in tags %}{{ loop }}{% endfor %}",
        "{% for t in tags %}{{ loop(tags) }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m._environment }}",
        "{% macro m() %}{% endmacro %}{{ m.__call__.__globals__ }}",
        "{% macro m() %}{% endmacro %}{{ m }}",
        "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{% call m() %}{% endcall %}",
        "{% macro m() %}{{ varargs.__class__.x }}{% endmacro %}{{ m(1) }}",
        "{% macro m() %}{{ kwargs.__class__.x }}{% endmacro %}{{ m(a=1) }}",
        "{% block b %}{{ super.__globals__ }}{% endblock %}",
        "{% block b %}{{ super() }}{% endblock %}",
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% set entity.name = 1 %}",
        "{% set x.y = 1 %}",
        "{% set tags[0] = 1 %}",
        "{% for entity.name in tags %}{% endfor %}",
        "{% for t in range %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for t in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
)
def test_the_engines_own_objects_are_closed(source: str) -> None:
    """Loops, macros and blocks show what the manual lists and nothing of themselves."""
    [failure] = run(source).failures

    assert b" at 0x" not in failure.text
    assert run("{{ x }}").texts == [b"text"]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("9 ** (9 ** 9)", "the number becomes too large"),
        ("9 ** 999 ** 9", "the number becomes too large"),
        ("(2 ** 4000) * (2 ** 4000)", "the number becomes too large"),
        ("'x' * 10 ** 9", "the text becomes too long"),
        ("10 ** 9 * 'x'", "the text becomes too long"),
        ("('x' * 10 ** 6) ~ ('x' * 10 ** 6)", "the text becomes too long"),
        ("('x' * 10 ** 6) + ('x' * 10 ** 6)", "the text becomes too long"),
        ("[1] * 10 ** 9", "a list of more than 100000 items"),
        ("range(99999)|list + [1, 2]", "a list of more than 100000 items"),
        ("range(10 ** 30)", "a range of more than 100000 items"),
        ("range(100001)", "a range of more than 100000 items"),
        ("'%999999999d' % 1", "a text where a number is needed"),
        ("'%999999999d' is odd", "a text where a number is needed"),
        ("'%*d' is divisibleby((999999999, 1))", "a text where a number is needed"),
        ("'x'|round(9, 'ceil')", "a text where a number is needed"),
        ("1|round(10 ** 9)", "rounding to more than 20 digits"),
        ("('a' * 10 ** 6)|replace('a', 'b' * 10 ** 6)", "the text becomes too long"),
        ("('a' * 10 ** 6)|replace('', 'bb')", "the text becomes too long"),
        ("('a' * 1000)|list|join('b' * 10 ** 6)", "the text becomes too long"),
        ("('&' * 10 ** 6)|e", "the text becomes too long"),
        ("(' ' * 10 ** 6)|urlencode", "the text becomes too long"),
        ("'\"'" + "|tojson" * 60, "the text becomes too long"),
        ("[[['x' * 1000] * 1000] * 1000] * 1000", "the text becomes too long"),
        ("'9' * 5000 + 1", "concatenate"),
        ("('9' * 5000)|int * 1.0 * tags|length", ""),
        ("'a'|center(10 ** 9)", "there is no filter"),
        ("'a'|indent(10 ** 9)", "there is no filter"),
        ("'a'|wordwrap(1, wrapstring=x)", "there is no filter"),
        ("tags|batch(10 ** 9, 1)|list", "there is no filter"),
        ("tags|slice(10 ** 9)|list", "there is no filter"),
        ("tags|map('center', 10 ** 9)|list", "No filter named 'center'"),
        ("tags|sum(start=[])", "a list where a number is needed"),
    ],
)
def test_sizes_are_bounded(expression: str, words: str) -> None:
    """Nothing makes much of little: sizes are looked at before anything of that size is made."""
    report = run("{{ " + expression + " }}")

    assert words.encode() in b"".join(failure.text for failure in report.failures)
    assert report.failures or not words


ATOMS = sampled_from(
    [
        *(
            "x",
            "missing",
            "tags",
            "entity",
            "context",
            "range",
            "json",
            "loop",
            "self",
            "super",
            "m",
        ),
        *("caller", "varargs", "kwargs", "none", "true", "1", "2.5", "'a'", "'{0.x}'", "'%9d'"),
    ]
)
SHAPES = sampled_from(
    [
        *("{0}.x", "{0}.__class__", "{0}['format']", "{0}.__init__.__globals__", "{0}[{1}]"),
        *("{0}()", "{0}({1})", "{0}(*{1})", "{0}(**{1})", "{0}(x={1})", "{0}[1:]", "-{0}"),
        *("{0} ~ {1}", "{0} + {1}", "{0} * {1}", "{0} ** {1}", "{0} % {1}", "{0} // {1}"),
        *("{0} in {1}", "{0} < {1}", "{0} == {1}", "{0} if {1}", "not {0}", "{0} and {1}"),
        *("{0} is odd", "{0} is in {1}", "{0} is sequence", "{0} is iterable", "[{0}, {1}]"),
        *(
            "{{x: {0}, 1: {1}}}",
            "({0},)",
            "{0}|map({1})",
            "{0}|map(attribute={1})",
            "{0}|join({1})",
        ),
        *("{0}|list", "{0}|sort", "{0}|first", "{0}|string", "{0}|tojson", "{0}|items", "{0}|sum"),
        *("{0}|select({1})", "{0}|selectattr({1})", "{0}|replace({1}, x)", "{0}|default({1})"),
        *("{0}|round({1})", "{0}|truncate({1})", "{0}|urlencode", "{0}|dictsort", "{0}|unique"),
    ]
)
EXPRESSIONS = recursive(
    ATOMS,
    lambda inner: builds(lambda shape, a, b: f"({shape.format(a, b)})", SHAPES, inner, inner),
    max_leaves=6,
)
PLACES = sampled_from(
    [
        "{{{{ {0} }}}}",
        "{{% for t in tags %}}{{{{ {0} }}}}{{% endfor %}}",
        "{{% for t in {0} %}}{{{{ t }}}}{{% endfor %}}",
        "{{% macro m() %}}{{{{ {0} }}}}{{% endmacro %}}{{{{ m(x) }}}}",
        "{{% macro m() %}}{{{{ {0} }}}}{{% endmacro %}}{{% call m(x) %}}y{{% endcall %}}",
        "{{% block b %}}{{{{ {0} }}}}{{% endblock %}}",
        "{{% set m %}}{{{{ {0} }}}}{{% endset %}}{{{{ m }}}}",
        "{{% with m = {0} %}}{{{{ m }}}}{{% endwith %}}",
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PLACES, EXPRESSIONS)
def test_any_expression_ends_in_text_or_an_error(place: str, expression: str) -> None:
    """Whatever is put together of what attacks are made of shows nothing of the interpreter."""
    report = run(place.format(expression))

    said = b"".join([*report.texts, *(failure.text for failure in report.failures)])
    assert len(report.failures) + len(report.texts) == 1
    assert b" at 0x" not in said
    assert not any(word in said for word in (b"<class", b"<function", b"<bound", b"<built"))


ENDLESS = "\n{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_time_is_limited() -> None:
    """A loop ends with its line when its time is over, and the clock is stopped."""
    report = run("x", ENDLESS, cpu_seconds=0.05)

    assert [(f.index, f.line, f.text) for f in report.failures] == [
        (1, 2, b"time limit of 0.05s exceeded")
    ]
    assert report.texts == []
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_time_for_compiling_is_limited() -> None:
    """A check ends in time, too; a run has twice as long, so that none fails for the load."""
    jinja = Jinja(Limits(cpu_seconds=0.02), Profile())
    program = Templates(("x", "{{ a }}" * 9000))

    report = msgspec.msgpack.decode(jinja.answer(Call("", "", program)), type=Report)
    assert [(f.index, f.text) for f in report.failures] == [(1, b"time limit of 0.02s exceeded")]
    report = msgspec.msgpack.decode(
        jinja.answer(Call("", "", program, Arguments(b"{}"))), type=Report
    )
    assert [(f.index, f.text) for f in report.failures] == [(1, b"time limit of 0.04s exceeded")]


def test_all_texts_together_are_limited() -> None:
    """In bytes, while they are made, with the line that was one too much."""
    assert run("12345", "123ż", text_size=10).texts == [b"12345", "123ż".encode()]

    [failure] = run("12345", "1\n{{ 'żżż' }}\n", text_size=10).failures
    assert (failure.index, failure.line) == (1, 2)
    assert failure.text == b"the text becomes too long"
    [failure] = run("{% for a in range(99999) %}\n{{ x }}{% endfor %}", text_size=98).failures
    assert failure.line == 2


def test_errors_are_cut() -> None:
    """An error cannot be as long as what it is about."""
    [failure] = run("{{ x }", "{{ tags['" + "ż" * 9000 + "'].y }}", error_size=50).failures
    assert len(failure.text) <= 50

    [failure] = run("{{ y.z }}".replace("y", "ż" * 9000), error_size=50).failures
    assert len(failure.text) == 50


OPTIONS = JailOptions(
    engine="jinja2", workers=1, spares=1, wall_seconds=10, start_seconds=30, limits=Limits()
)


def error(ran: Ran) -> str:
    assert ran.error is not None
    return ran.error


async def test_attacks_on_a_worker_end_cleanly() -> None:
    """Time, memory, recursion and code that Python refuses: an error, and the next call is fine."""
    attacks = {
        ENDLESS: "time limit of 0.5s exceeded",
        "{% for a in range(99999) %}{% set b = range(99999)|list %}{% endfor %}": "time limit",
        "{% for a in range(99999) %}{% set b = ('x' * 999999)|upper %}{% endfor %}": "time limit",
        "{% for a in range(99999)|map('string') %}{{ a|list|sort|join|e }}{% endfor %}": "",
        "{% macro m(a) %}{{ m(a|list) }}{% endmacro %}{{ m('x' * 999999) }}": "",
        "{% macro m(x) %}{{ m(x ~ x) }}{% endmacro %}{{ m('x') }}": "the text becomes too long",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "too deeply",
        "{% set x %}{% for a in range(99999) %}{{ 'x' * 99 }}{% endfor %}{% endset %}": "too long",
        "{{ " + "[" * 150 + "]" * 150 + " }}": "too deeply",
        "{{ " + "1+" * 15000 + "1 }}": "too deeply",
        "{% for i in a %}" * 25 + "{% endfor %}" * 25: "too many statically nested blocks",
        "{% if a %}" * 150 + "{% endif %}" * 150: "",
        "{{ 1[0:1] }}": "not subscriptable",
        r"{{ '\N{GREEK SMALL LETTER ALPHA}\ud800'|tojson }}": "surrogates not allowed",
        "{{ missing.x }}": "'missing' is undefined",
    }

    async with WorkerPool.open(OPTIONS) as pool:
        for source, words in attacks.items():
            ran = await pool.run(call(source))
            assert not ran.killed, source
            assert words in (error(ran) if words else ""), source
            assert (await pool.run(call("{{ x }}"))).texts == ("text",)


async def test_memory_is_limited() -> None:
    """What takes all there is fails cleanly, and there is a worker for the next call."""
    attacks = (
        "{{ (['x' * 999999] * 99999)|map('upper')|length }}",
        "{{ (['x' * 999999] * 99999)|map('list')|list }}",
        "{% macro m() %}{% set a = ('x' * 999999)|list %}{{ m() }}{{ a }}{% endmacro %}{{ m() }}",
    )
    options = msgspec.structs.replace(OPTIONS, limits=Limits(cpu_seconds=8))

    async with WorkerPool.open(options) as pool:
        for source in attacks:
            ran = await pool.run(call(source))
            assert not ran.killed
            assert error(ran) == "not enough memory"
            assert ran.faults[0].line == 1
            assert (await pool.run(call("{{ x }}"))).texts == ("text",)


async def test_what_holds_up_the_interpreter_is_killed() -> None:
    """No signal is seen while lists are compared: the clock outside ends that."""
    same = "{% set a = [range(99999)|list] * 99999 %}{% set b = [range(99999)|list] * 99999 %}"
    options = msgspec.structs.replace(OPTIONS, wall_seconds=1)

    async with WorkerPool.open(options) as pool:
        with anyio.fail_after(20):
            ran = await pool.run(call(same + "{{ a == b }}"))
            assert ran.killed
            assert (await pool.run(call("{{ x }}"))).texts == ("text",)


async def test_what_the_language_has_runs_in_a_worker() -> None:
    """Nothing is loaded so late that the jail would not let it."""
    sources = (
        r"{{ 'a\N{BULLET}\x41\u017c' ~ 1.5 ~ [1]|tojson }}",
        "{{ tags|join(',')|upper|e|title|capitalize|trim|replace('A', 'c')|urlencode|truncate }}",
        "{{ [3, 1]|sort|map('string')|select('string')|list }}{{ {'a': 1}|dictsort }}",
        "{{ 2.5|round(0, 'floor') }}{{ '7'|int }}{{ '7'|float }}{{ 9 // 2 }}{{ 1 is odd }}",
        "{% for k, v in entity|items %}{{ loop.last }}{{ loop.nextitem }}{% endfor %}",
    )

    async with WorkerPool.open(OPTIONS) as pool:
        ran = await pool.run(call(*sources))
        assert ran.faults == ()
        assert ran.texts == (
            "a•Aż1.5[1]",
            "c%2Cb",
            '["1","3"][["a",1]]',
            "2774true",
            "true",
        )
        assert (await pool.run(msgspec.structs.replace(call("{{ x"), arguments=None))).faults

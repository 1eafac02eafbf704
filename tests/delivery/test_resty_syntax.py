r"""Where tags are and what they hold, as lua-resty-template 2.0 sees it (observed, not guessed)."""

import time

import pytest
from hypothesis import given
from hypothesis.strategies import sampled_from, text

from delivery.resty_syntax import Block, Expression, Part, Statements, TemplateError, parse


def parts(source: str) -> list[Part]:
    return list(parse(source))


def value(code: str, line: int = 1) -> Expression:
    return Expression(line, code, escaped=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", []),
        ("text", ["text"]),
        ("{{ a }}b{* c *}", [value("a"), "b", Expression(1, "c", escaped=False)]),
        ("{% if a then %}b{% end %}", [Statements(1, "if a then"), "b", Statements(1, "end")]),
        ("a{# b #}c", ["a", "c"]),
        ("{{}}{{ }}{**}{%%}{##}", []),
        ("{-a-}b{{c}}{-a-}d", [Block(1, "a", "b{{c}}"), "d"]),
        ("{- a -}b{- a -}", [Block(1, "a", "b")]),
        ("{-a-}{-b-}c{-b-}{-a-}", [Block(1, "a", "{-b-}c{-b-}")]),
        ("{-a-}b{- a -}", ["{-a-}b{- a -}"]),
        ("{-raw-}{{a}}{-raw-}", ["{{a}}"]),
        ("{-verbatim-}{-a-}{-verbatim-}", ["{-a-}"]),
        # The first closer ends a tag
        ("{{ '}}' }}", [value("'"), "' }}"]),
        ("{{{x}}}", [value("{x"), "}"]),
        ('{"a":{"b":{{ x }}}}', ['{"a":{"b":', value("x"), "}}"]),
        # What does not close is text
        ("{{ a }", ["{{ a }"]),
        ("{% a {# b {( c {[ d {-e-} {- f", ["{% a {# b {( c {[ d {-e-} {- f"]),
        ("{-" + "n" * 129 + "-}{-" + "n" * 129 + "-}", [("{-" + "n" * 129 + "-}") * 2]),
        # Line breaks
        ("{% a %}\n\nb", [Statements(1, "a"), "\nb"]),
        ("{# a #}\n\nb", ["\nb"]),
        ("{-a-}\n\nb{-a-}\n\nc", [Block(2, "a", "\nb"), "\nc"]),
        ("{-a-}\nb\n\n{-a-}", [Block(2, "a", "b\n")]),
        ("{-a-}b\r\n{-a-}", [Block(1, "a", "b\n")]),
        ("{-a-}\n{-a-}", [Block(1, "a", "")]),
        ("{-raw-}\n\nb\n{-raw-}\n\nc", ["\nb\n", "\nc"]),
        ("{{ a }}\nb{* c *}\nd", [value("a"), "\nb", Expression(2, "c", escaped=False), "\nd"]),
        ("{% a %}\r\nb", [Statements(1, "a"), "\nb"]),
        ("a\r\nb\rc\n\rd", ["a\nb\nc\nd"]),
        ("{-raw-}\r\na\r\nb{-raw-}", ["a\nb"]),
        # Blanks
        ("a \t{% b %} c", ["a", Statements(1, "b"), " c"]),
        ("a \t{-b-} c {-b-} d", ["a", Block(1, "b", " c "), " d"]),
        ("a {# b #} c", ["a ", " c"]),
        ("a {-raw-} b {-raw-} c", ["a ", " b ", " c"]),
        ("a\n {% b %}", ["a\n", Statements(2, "b")]),
        # Backslashes
        (r"\{{ a }}", ["{{ a }}"]),
        (r"\\{{ a }}", ["\\", value("a")]),
        (r"\\\{{ a }}", ["\\\\", value("a")]),
        (r"\{{ a", [r"\{{ a"]),
        (r"b \{% a %}", ["b ", "{% a %}"]),
        (r"\\{% a %}", ["\\\\", Statements(1, "a")]),
        (r"\{-a-}b{-a-}", ["{-a-}b{-a-}"]),
        (r"\\{-a-}b{-a-}", ["\\\\", Block(1, "a", "b")]),
        (r"\\{-raw-}b{-raw-}", ["\\", "b"]),
        (r"\{(a)}\{[b]}\{*c*}\{#d#}", ["{(a)}", "{[b]}", "{*c*}", "{#d#}"]),
        # Lines are those of the code
        ("a\n{{\n\nb\n}}\n{{ c }}", ["a\n", value("b", 4), "\n", value("c", 6)]),
        ("\n{-a-}\n{{b}}{-a-}\n{{c}}", ["\n", Block(3, "a", "{{b}}"), value("c", 4)]),
    ],
)
def test_parts(source: str, expected: list[Part]) -> None:
    """Tags, blocks, escapes and white space, row by row."""
    assert parts(source) == expected


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("{(file.html)}", 1),
        ("a\n{(file.html, {x = 1})}", 2),
        ("{( )}", 1),
        ("{[name]}", 1),
        (r"\\{(file)}", 1),
        ('{% layout = "page" %}', 1),
        ("{%layout='page'%}", 1),
        ('\n{{ include("file") }}', 2),
        ("{* include [[file]] *}", 1),
        ("{%\nlocal a = include 'file' %}", 2),
        ("""{{ "it's" .. include("file") }}""", 1),
    ],
)
def test_includes_and_layouts_are_refused(source: str, line: int) -> None:
    """No template can name a file: it is refused with its line."""
    with pytest.raises(TemplateError, match=f"line {line}: includes are disabled") as caught:
        parts(source)

    assert caught.value.line == line


@pytest.mark.parametrize(
    "source",
    [
        "{{ a.include('b') }}",
        "{{ 'include(\"x\")' }}",
        '{{ "a \\" include(1)" }}',
        "{{ includes(1) }}",
        "{{ include }}",
        "{% if layout == 1 then %}",
        "{% local layout = 1 %}",
        "{{ a.layout }}",
        "include('x') {-raw-}{(x)}{-raw-}",
    ],
)
def test_what_only_looks_like_an_include_is_accepted(source: str) -> None:
    """Fields, strings and text may say `include`; what calls it in another way fails when run."""
    assert parts(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ {* {% " * 7000,
        "{-" * 32_000,
        "{-" * 32_000 + "-}",
        "".join(f"{{-{number}-}}" for number in range(8000)),
        "{-a-}" * 13_000,
        "\\{{" * 21_000 + "}}",
        "\\{-a-}" * 11_000 + "{-a-}",
        "{{ include " + '\\"' * 32_000 + "}}",
        "\n{{a}}" * 11_000,
        " " * 65_000 + "{% a %}",
        "\r" * 65_000,
    ],
    ids=range(11),
)
def test_hostile_templates_take_linear_time(source: str) -> None:
    """64 KiB of what looks like the begin of something are read in far less than a second."""
    begin = time.process_time()
    parts(source)

    assert time.process_time() - begin < 1


@given(text(alphabet=sampled_from("{}*%#()[]-\\ \n\rab'\"")))
def test_every_text_is_parsed_or_refused(source: str) -> None:
    """There is no third way, and every line is one of the template."""
    lines = []

    try:
        lines = [part.line for part in parse(source) if not isinstance(part, str)]
    except TemplateError as error:
        lines = [error.line]
    assert all(1 <= line <= source.count("\n") + 1 for line in lines)

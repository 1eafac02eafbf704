"""The two ways to render a template agree: what is rendered without Lua is what Lua would print."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from delivery.templates import NotPlain, TemplateError, compile_template
from tests.delivery.jail.lua_files import DIRECTORY
from tests.delivery.jail.lua_rendering import Failed, Renderer

bounded = settings(max_examples=600, deadline=None, derandomize=True)
RENDERER = Renderer()

NAMES = ["a", "b", "c", "context", "error", "os", "json", "blocks", "żółw", "_1", "end"]
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["x<y>'\"/&{}\r\n"])
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "1", "k-y", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
CONTEXTS = st.fixed_dictionaries({"a": JSON, "b": JSON}, optional=dict.fromkeys(NAMES[2:], JSON))

BLANK = st.sampled_from([""] * 8 + [" ", "\t", "\n", "\r\n", "\v\f ", "\N{EM SPACE}", "\x1c"])
KEYS = ["1", "2", "0", "01", "-1", "'a'", '"a"', '"b"', "'k-y'", "''", "'1'", "'a\"b'", "a", "'a"]
STEP = st.builds("{}.{}{}{}".format, BLANK, BLANK, st.sampled_from(NAMES), BLANK) | st.builds(
    "{}[{}{}{}]".format, BLANK, BLANK, st.sampled_from(KEYS), BLANK
)
PATH = st.builds(
    lambda root, steps: root + "".join(steps),
    st.sampled_from(["a", "a", "a", "b", *NAMES]),
    st.lists(STEP, max_size=3),
)
TAG = st.builds(
    "{}{{{}{}{}{}{}}}".format,
    st.sampled_from(["", "", "\\", "\\\\", "\\\\\\"]),
    st.sampled_from("{{{*"),
    BLANK,
    PATH,
    BLANK,
    st.sampled_from("}}}*"),
)
TEXT = st.text(alphabet="{}*%#-[]()\\ \t\n\rż\0'\"<", max_size=6)
ODD = st.from_regex(
    r"\{#|#\}|\{-(raw|verbatim|a)-\}|\{%|%\}|\{\{|\}\}|\]=?\]|--|\{\(", fullmatch=True
)
TEMPLATES = st.lists(TAG | TAG | TEXT | ODD, max_size=6).map("".join)


def by_lua(source: str, context: dict[str, Any]) -> str | None:
    with suppress(Failed):
        return RENDERER.render(source, context)
    return None


def agree(source: str, context: dict[str, Any]) -> None:
    try:
        template = compile_template(source)
        text = None if template is None else template.render(context)
    except NotPlain:
        text = None
    except TemplateError:
        assert by_lua(source, context) is None
        return
    if text is not None:
        assert by_lua(source, context) == text.encode("utf-8", "replace").decode()


@bounded
@given(TEMPLATES, CONTEXTS)
def test_both_ways_agree(source: str, context: dict[str, Any]) -> None:
    """Plain templates, whatever their text and the event's values, and those that fail."""
    agree(source, context)


@bounded
@given(PATH, CONTEXTS)
def test_paths_lead_to_the_same_value(path: str, context: dict[str, Any]) -> None:
    """Every kind of step into every kind of value."""
    agree(f"{{{{ {path} }}}}|{{* {path} *}}", context)


@bounded
@given(NUMBERS)
def test_numbers_print_alike(number: float) -> None:
    """Also the large, the small and the negative zero."""
    agree("{{ n }}", {"n": number})


def words_of_our_lua() -> list[str]:
    files = (path.read_text() for path in DIRECTORY.rglob("*.lua"))
    return sorted({word for text in files for word in re.findall(r"[A-Za-z_]\w*", text)})


def test_the_sandbox_has_no_name_that_plain_templates_do_not_know() -> None:
    """A field that an event lacks is empty without Lua only if Lua finds nothing either."""
    words = words_of_our_lua()

    assert {"os", "setmetatable", "template"} < set(words)
    for word in words:
        agree(f"{{{{ {word} }}}}", {})


@pytest.mark.parametrize("method", ["len", "upper", "split", "x"])
def test_strings_are_left_to_lua(method: str) -> None:
    """What a string answers to a name is Lua's business."""
    template = compile_template(f"{{{{ a.{method} }}}}")

    assert template is not None
    with pytest.raises(NotPlain):
        template.render({"a": "x"})

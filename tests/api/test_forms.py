"""Forms: every rule of Kong's documentation about the names of arguments."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, strategies as st

from api.forms import multipart, nested, urlencoded
from api.responses import BadRequest

LIMIT = 1000


def tree(text: str) -> dict[str, Any]:
    return nested(urlencoded(text.encode(), LIMIT))


def parts(*given: tuple[str, str, str]) -> bytes:
    """A multipart body with the boundary `x`: (further disposition, content type, content)."""
    made = [
        f"--x\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n{content}\r\n"
        for disposition, kind, content in given
    ]
    return ("".join(made) + "--x--\r\n").encode()


def of_parts(body: bytes) -> dict[str, Any]:
    return nested(multipart(body, "multipart/form-data; boundary=x", LIMIT))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=", {"a": ""}),
        ("a", {"a": ""}),
        ("a.b.c=v", {"a": {"b": {"c": "v"}}}),
        (
            "config.headers.content-type=application/json",
            {"config": {"headers": {"content-type": "application/json"}}},
        ),
        ("config[url]=u&config[method]=POST", {"config": {"url": "u", "method": "POST"}}),
        ("a.b=1&a.c=2", {"a": {"b": "1", "c": "2"}}),
        (".a=1", {".a": "1"}),
        ("a.=1", {"a.": "1"}),
        ("a..b=1", {"a..b": "1"}),
        ("a[]=v", {"a": ["v"]}),
        ("a[]=v&a[]=w", {"a": ["v", "w"]}),
        ("a%5B%5D=v&a%5B%5D=w", {"a": ["v", "w"]}),
        ("a[1]=v&a[2]=w", {"a": ["v", "w"]}),
        ("a[2]=w&a[1]=v", {"a": ["v", "w"]}),
        ("a[foo]=v", {"a": {"foo": "v"}}),
        ("a[1]=v&a[foo]=w", {"a": {"1": "v", "foo": "w"}}),
        ("a[1].b=v&a[2].b=w", {"a": [{"b": "v"}, {"b": "w"}]}),
        ("a[b][c]=v", {"a": {"b": {"c": "v"}}}),
        ("a[b].c[]=v", {"a": {"b": {"c": ["v"]}}}),
        ("paths=/a&paths=/b", {"paths": ["/a", "/b"]}),
        ("a.b=1&a.b=2", {"a": {"b": ["1", "2"]}}),
        ("a[b=1", {"a[b": "1"}),
        ("a]b=1", {"a]b": "1"}),
        ("a[b]c=1", {"a[b]c": "1"}),
        ("[a]=1", {"[a]": "1"}),
        ("a=b%20c+d", {"a": "b c d"}),
        ("a=%E4%B8%AD", {"a": "中"}),
        ("a[99999999999]=v", {"a": {"99999999999": "v"}}),
    ],
)
def test_a_name_says_where_its_value_goes(text: str, expected: dict[str, Any]) -> None:
    """Dots and brackets nest, empty brackets append, numbers are places, repetition collects."""
    assert tree(text) == expected


@pytest.mark.parametrize("text", ["a=1&a.b=2", "a.b=2&a=1", "a=1&a[]=2", "a.b=1&a.b.c=2"])
def test_contradicting_names_are_refused(text: str) -> None:
    """A value cannot also have something below it."""
    with pytest.raises(BadRequest, match="contradicts"):
        tree(text)


def test_a_name_nests_only_so_deep() -> None:
    """A name with very many steps is refused before anything is built of it."""
    with pytest.raises(BadRequest, match="nested deeper"):
        tree("a" + ".b" * 100_000 + "=1")


def test_too_many_arguments_are_refused() -> None:
    """The limit is Kong's answer, for both kinds of forms."""
    text = urlencode([("a[]", "1")] * (LIMIT + 1))
    body = parts(*[('name="a[]"', "", "1")] * (LIMIT + 1))

    with pytest.raises(BadRequest, match="Too many arguments"):
        tree(text)
    with pytest.raises(BadRequest, match="Too many arguments"):
        of_parts(body)


@pytest.mark.parametrize("raw", [b"a=\xff", b"a=%FF", b"%FF=a"])
def test_a_form_is_utf_8(raw: bytes) -> None:
    """Neither raw bytes nor escapes may spell anything else."""
    with pytest.raises(BadRequest, match="UTF-8"):
        urlencoded(raw, LIMIT)


def test_parts_follow_the_same_rules() -> None:
    """Multipart names nest and append; a file's content is its value, newlines included."""
    body = parts(
        ('name="source"', "", "crud"),
        (
            'name="config.functions[]"; filename="lambda.lua"',
            "Content-Type: text/x-lua\r\n",
            "a\nb",
        ),
        ('name="config.functions[]"', "", "c"),
    )

    assert of_parts(body) == {"source": "crud", "config": {"functions": ["a\nb", "c"]}}


def test_a_part_may_be_json() -> None:
    """A part that says so is parsed, and what it holds is not taken apart further."""
    body = parts(('name="config"', "Content-Type: application/json\r\n", '{"a.b":[1,true,null]}'))

    assert of_parts(body) == {"config": {"a.b": [1, True, None]}}


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "multipart/form-data", "without a boundary"),
        (b"", "multipart/form-data; boundary=x", "too early"),
        (b"rubbish", "multipart/form-data; boundary=x", "Cannot parse"),
        (parts(('name="a"', "", "1"))[:-4], "multipart/form-data; boundary=x", "too early"),
        (parts(("filename=a", "", "1")), "multipart/form-data; boundary=x", "no name"),
        (
            parts(('name="a"', "Content-Type: application/json\r\n", "{")),
            "multipart/form-data; boundary=x",
            "Cannot parse JSON body",
        ),
        (
            parts(('name="a"', "", "1")).replace(b"1", b"\xff"),
            "multipart/form-data; boundary=x",
            "UTF-8",
        ),
    ],
)
def test_broken_multipart_is_refused(body: bytes, content_type: str, message: str) -> None:
    """No boundary, no end, no name, no JSON, no UTF-8: each says what is wrong."""
    with pytest.raises(BadRequest, match=message):
        multipart(body, content_type, LIMIT)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=20))
def test_any_pairs_make_a_tree_or_a_refusal(pairs: list[tuple[str, str]]) -> None:
    """No name crashes, and nothing that was given is lost."""
    try:
        made = nested(pairs)
    except BadRequest:
        return

    assert sum(_leaves(value) for value in made.values()) == len(pairs)


def _leaves(node: Any) -> int:
    if isinstance(node, str):
        return 1
    return sum(_leaves(child) for child in (node.values() if isinstance(node, dict) else node))

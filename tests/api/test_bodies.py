"""Bodies of every kind, well meant or not."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from api.bodies import Body, deeper, idempotency, read_body, read_bytes
from api.responses import (
    BadRequest,
    RequestError,
    SchemaViolation,
    TooLarge,
    UnsupportedMediaType,
)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def sent(
    *chunks: bytes,
    content_type: str | None = JSON,
    method: str = "POST",
    path: str = "/consumers",
    key: str | None = None,
    limit: int = 1024 * 1024,
) -> Request:
    """A request whose body arrives in these chunks; after them the sender is gone."""
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    state = {"workspace": "w", "idempotency_key": key, "body_limit": limit}
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "state": state}
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks)}
        for place, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return Request(scope, receive)


async def body_of(*chunks: bytes, **options: Any) -> Body:
    return await read_body(sent(*chunks, **options))


async def test_json_is_taken_as_it_is() -> None:
    """No inference: text stays text, and Unicode, big numbers and nulls survive."""
    text = '{"a":"10","b":"","c":null,"d":123456789012345678901234567890,"e":1.0,"f":"\\u00fc"}'
    body = await body_of(text.encode())

    assert body.args == {
        "a": "10",
        "b": "",
        "c": None,
        "d": int("1234567890" * 3),
        "e": 1.0,
        "f": "ü",
    }
    assert not body.form


async def test_a_form_is_marked_as_one() -> None:
    """Whoever knows the schema has to infer the types."""
    body = await body_of(b"a.b=1", content_type=f"{FORM}; charset=utf-8")

    assert (body.args, body.form) == ({"a": {"b": "1"}}, True)


async def test_multipart_is_a_form() -> None:
    """The boundary comes from the content type."""
    content = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'
    body = await body_of(content, content_type="multipart/form-data; boundary=x")

    assert (body.args, body.form) == ({"a": "1"}, True)


async def test_no_body_means_no_arguments() -> None:
    """Without a content type, an empty body is fine."""
    assert (await body_of(b"", content_type=None)).args == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"a":1}x',
        b"\xff",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b'{"a":' + b"1" * 5_000 + b"}",
        b"\x00",
    ],
)
async def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    """Malformed, not UTF-8, half a surrogate pair, bottomless: one answer, Kong's."""
    with pytest.raises(BadRequest, match=r"^Cannot parse JSON body$"):
        await body_of(body)


@pytest.mark.parametrize("content_type", ["text/plain", "application/json-patch+json", "x"])
async def test_other_types_are_refused(content_type: str) -> None:
    """Kong reads three content types, by name and not by looking inside."""
    with pytest.raises(UnsupportedMediaType):
        await body_of(b"{}", content_type=content_type)


async def test_a_body_needs_a_type() -> None:
    """Content without a content type is not guessed at."""
    with pytest.raises(UnsupportedMediaType):
        await body_of(b"{}", content_type=None)


async def test_the_type_is_given_once() -> None:
    """Two content types could be read two ways."""
    request = sent(b"{}")
    request.scope["headers"] *= 2

    with pytest.raises(BadRequest):
        await read_body(request)


async def test_deep_nesting_is_refused_by_field() -> None:
    """64 levels pass; one more is the fault of the field it is in."""
    await body_of(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}")

    with pytest.raises(SchemaViolation) as caught:
        await body_of(b'{"a":' + b"[" * 65 + b"]" * 65 + b',"b":1}')
    assert caught.value.fields == {"a": "must not be nested deeper than 64 levels"}


@pytest.mark.parametrize("value", [b'"x\\u0000"', b'{"\\u0000":1}', b'[["\\u0000"]]'])
async def test_nul_is_refused_by_field(value: bytes) -> None:
    """NUL hides the end of a text; the field that holds it is named."""
    with pytest.raises(SchemaViolation) as caught:
        await body_of(b'{"a":' + value + b',"b":"\\\\u0000","c":[1]}')
    assert caught.value.fields == {"a": "must not contain NUL"}


async def test_an_escaped_backslash_is_no_nul() -> None:
    """The six characters \\u0000 as text are harmless."""
    assert (await body_of(b'{"b":"\\\\u0000"}')).args == {"b": "\\u0000"}


async def test_the_limit_holds_while_reading() -> None:
    """A body is refused with the chunk that passes the limit; what follows is not read."""
    request = sent(b"a" * 6, b"b" * 5, b"never read", limit=10)

    with pytest.raises(TooLarge, match="larger than 10 bytes"):
        await read_bytes(request)
    assert (await request.receive())["body"] == b"never read"
    assert await read_bytes(sent(b"a" * 6, b"b" * 4, limit=10)) == b"aaaaaabbbb"


async def test_a_sender_who_left_is_noticed() -> None:
    """Half a body is never taken for a whole one."""
    request = sent(b"{")
    await request.receive()

    with pytest.raises(ClientDisconnect):
        await read_bytes(request)


async def test_the_digest_names_the_request() -> None:
    """Equal for a retry in another order of keys; different for any other request."""
    digest = (await body_of(b'{"a":1,"b":{"c":2,"d":3}}')).digest

    assert (await body_of(b' {"b":{"d":3,"c":2},"a":1}')).digest == digest
    others = [
        await body_of(b'{"a":1,"b":{"c":2,"d":4}}'),
        await body_of(b'{"a":1,"b":{"c":2,"d":3}}', method="PUT"),
        await body_of(b'{"a":1,"b":{"c":2,"d":3}}', path="/services"),
    ]
    assert digest not in {body.digest for body in others}


def test_a_key_is_scoped_by_workspace() -> None:
    """Two workspaces may choose the same key."""
    request, other = sent(b"", key="k"), sent(b"", key="k")
    other.state.workspace = "v"
    mine, theirs = idempotency(request, b"digest"), idempotency(other, b"digest")

    assert idempotency(sent(b""), b"digest") is None
    assert mine is not None
    assert theirs is not None
    assert mine.key != theirs.key
    assert mine.request == b"digest"


def test_depth_is_counted_in_containers() -> None:
    """A scalar has no depth, and empty containers count."""
    assert not deeper(1, 0)
    assert not deeper([], 1)
    assert deeper([[]], 1)
    assert not deeper({"a": [1]}, 2)
    assert deeper({"a": [{}]}, 2)


@given(
    st.binary(max_size=200) | st.text(max_size=50).map(str.encode),
    st.sampled_from(
        [JSON, FORM, "multipart/form-data; boundary=x", "multipart/form-data", "", "a/b", None]
    ),
)
async def test_arbitrary_bodies_are_read_or_refused(body: bytes, content_type: str | None) -> None:
    """Whatever arrives, the answer is arguments or a 4xx."""
    with suppress(RequestError):
        assert isinstance((await body_of(body, content_type=content_type)).args, dict)

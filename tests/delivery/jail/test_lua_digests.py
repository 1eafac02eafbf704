"""Digests, base64 and URIs in Lua: against Python and published vectors."""

import base64
import hashlib
import hmac
import json
import zlib
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given, settings, strategies as st

from tests.delivery.jail.lua_files import MACHINES, Run, load

STATES = {machine: load(machine) for machine in MACHINES}
"""One state each for all tests that change nothing in it: hypothesis runs many examples."""

both = pytest.mark.parametrize("machine", MACHINES)
bounded = settings(max_examples=60, deadline=None, derandomize=True)

DIGESTS = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
SUM = "return require('internal.' .. a).sum(b)"
HMAC = "return require('internal.hmac')(require('internal.' .. a), b, c)"


def latin(data: bytes) -> str:
    return data.decode("latin-1")


@pytest.fixture(params=MACHINES)
def run(request: pytest.FixtureRequest) -> Run:
    return load(request.param)


# Digests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "digest"),
    [
        # RFC 1321
        ("md5", "", "d41d8cd98f00b204e9800998ecf8427e"),
        ("md5", "a", "0cc175b9c0f1b6a831c399e269772661"),
        ("md5", "message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("md5", "1234567890" * 8, "57edf4a22be3c955ac49da2e2107b67a"),
        # RFC 3174
        ("sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha1", "01234567" * 80, "dea356a2cddd90c7a7ecedc5ebb563934f460452"),
        # RFC 6234
        ("sha224", "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        (
            "sha256",
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            "sha384",
            "abc",
            (
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                "8086072ba1e7cc2358baeca134c825a7"
            ),
        ),
        (
            "sha512",
            "abc",
            (
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        ),
    ],
)
def test_digests_of_the_standards(run: Run, name: str, text: str, digest: str) -> None:
    """The examples of RFC 1321, 3174 and 6234 come out."""
    code = "return require('resty.string').to_hex(require('internal.' .. a).sum(b))"

    assert run(code, name, text) == digest


@both
@pytest.mark.parametrize("name", DIGESTS)
@settings(bounded, max_examples=25)
@given(data=st.binary(max_size=300))
def test_digests_are_those_of_python(machine: str, name: str, data: bytes) -> None:
    """Any text has the digest that hashlib finds."""
    expected = hashlib.new(name, data).digest()

    assert STATES[machine](SUM, name, latin(data)) == latin(expected)


@both
@pytest.mark.parametrize("name", DIGESTS)
def test_digests_at_the_edges_of_blocks(machine: str, name: str) -> None:
    """Every length around one and two blocks is padded rightly."""
    for length in [*range(54, 66), *range(110, 130)]:
        data = bytes(range(256 - length, 256))

        assert STATES[machine](SUM, name, latin(data)) == latin(hashlib.new(name, data).digest())


@both
@pytest.mark.parametrize("name", DIGESTS)
@settings(bounded, max_examples=10)
@given(parts=st.lists(st.binary(max_size=150), max_size=4))
def test_resty_digests_take_text_in_parts(machine: str, name: str, parts: list[bytes]) -> None:
    """Updates add up, final() may come before more of them, and reset() starts anew."""
    code = """
      local hasher = require("resty." .. a):new()
      hasher:update("something else")
      local updated = hasher:reset()
      for _, part in ipairs(json.decode(b)) do
        updated = updated and hasher:update(part)
        hasher:final()
      end
      return updated, hasher:final()
    """
    text = json.dumps([latin(part) for part in parts], ensure_ascii=False)

    # The characters up to U+00FF are here the bytes themselves, which json.decode passes on.
    assert STATES[machine](code, name, text) == (
        True,
        latin(hashlib.new(name, b"".join(parts)).digest()),
    )


def test_resty_digests_take_only_text(run: Run) -> None:
    """Anything but a string is refused, and two hashers do not meddle with each other."""
    code = "local h = require('resty.sha256'):new() return pcall(h.update, h, nil)"
    pair = """
      local sha1 = require("resty.sha1")
      local first, second = sha1:new(), sha1:new()
      first:update("a") second:update("b") first:update("c")
      return first:final(), second:final()
    """

    ok, problem = run(code)
    first, second = run(pair)

    assert not ok
    assert problem.endswith("bad argument #1 to 'update' (string expected, got nil)")
    assert first == latin(hashlib.sha1(b"ac", usedforsecurity=False).digest())
    assert second == latin(hashlib.sha1(b"b", usedforsecurity=False).digest())


@pytest.mark.parametrize(
    ("name", "key", "text", "digest"),
    [
        # RFC 2202
        ("md5", b"\x0b" * 16, b"Hi There", "9294727a3638bb1c13f48ef8158bfc9d"),
        (
            "md5",
            b"Jefe",
            b"what do ya want for nothing?",
            "750c783e6ab0b503eaa86e310a5db738",
        ),
        (
            "sha1",
            b"\xaa" * 80,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        # RFC 4231
        (
            "sha256",
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            "sha256",
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            "sha512",
            b"Jefe",
            b"what do ya want for nothing?",
            (
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
            ),
        ),
    ],
)
def test_hmacs_of_the_standards(run: Run, name: str, key: bytes, text: bytes, digest: str) -> None:
    """The examples of RFC 2202 and 4231 come out."""
    assert run(HMAC, name, latin(key), latin(text)) == latin(bytes.fromhex(digest))


@both
@pytest.mark.parametrize("name", DIGESTS)
@settings(bounded, max_examples=10)
@given(key=st.binary(max_size=140), data=st.binary(max_size=100))
def test_hmacs_are_those_of_python(machine: str, name: str, key: bytes, data: bytes) -> None:
    """Keys shorter and longer than a block are used as hmac uses them."""
    expected = hmac.digest(key, data, name)

    assert STATES[machine](HMAC, name, latin(key), latin(data)) == latin(expected)


@both
@bounded
@given(data=st.binary(max_size=100))
def test_crc32_is_zlibs(machine: str, data: bytes) -> None:
    """The sum is the one of zlib, never negative."""
    assert STATES[machine]("return require('internal.crc32')(a)", latin(data)) == zlib.crc32(data)


def test_resty_string(run: Run) -> None:
    """to_hex is in lower case and takes any byte; atoi reads what starts a text."""
    code = "return require('resty.string').to_hex(a)"
    numbers = "local s = require('resty.string') return s.atoi(a)"

    assert run(code, latin(bytes(range(256)))) == bytes(range(256)).hex()
    assert [run(numbers, text) for text in ("12", " -7x", "+3", "x", "")] == [12, -7, 3, 0, 0]
    assert run("return pcall(require('resty.string').to_hex, 1)")[0] is False


# Base64 and URIs ---------------------------------------------------------------------------------


@both
@bounded
@given(data=st.binary(max_size=40))
def test_base64_is_pythons(machine: str, data: bytes) -> None:
    """Both alphabets encode as Python does, and what was encoded is decoded, padded or not."""
    encoded, bare, url = STATES[machine](
        "local b = require('internal.base64')"
        " return b.encode(a), b.encode(a, true), require('ngx.base64').encode_base64url(a)",
        latin(data),
    )
    decoded = STATES[machine](
        "local d = require('internal.base64').decode"
        " return { d(a), d(b), (require('ngx.base64').decode_base64url(c)) }",
        encoded,
        bare,
        url,
    )

    assert encoded == base64.b64encode(data).decode()
    assert bare == encoded.rstrip("=")
    assert url == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert list(decoded.values()) == [latin(data)] * 3


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA A", "AA\n", "A-__", "ż===", "\0\0\0\0", "AAA!"])
def test_what_is_no_base64(run: Run, text: str) -> None:
    """Wrong letters and lengths give nil, from ngx.base64 with a reason."""
    text = latin(text.encode())

    assert run("return require('internal.base64').decode(a)", text) is None
    assert run("return require('ngx.base64').decode_base64url(a)", text.replace("-__", "+//")) == (
        None,
        "invalid input",
    )


def test_ngx_base64_takes_only_text(run: Run) -> None:
    """Anything but a string is an error."""
    for name in ("encode_base64url", "decode_base64url"):
        ok, problem = run("return pcall(require('ngx.base64')[a], 1)", name)

        assert not ok
        assert problem.endswith("must provide a string")


@both
@bounded
@given(data=st.binary(max_size=40))
def test_escaped_components_are_pythons(machine: str, data: bytes) -> None:
    """A component keeps only unreserved characters, and unescaping gives it back."""
    escaped = STATES[machine]("return require('internal.uri').escape(a)", latin(data))

    assert escaped == quote_from_bytes(data, safe="")
    assert STATES[machine]("return require('internal.uri').unescape(a)", escaped) == latin(data)


@both
@bounded
@given(text=st.text("%+aF0g ż", max_size=12))
def test_unescaping_is_lenient(machine: str, text: str) -> None:
    """A plus is a blank, and what is no escape stays."""
    data = text.encode()

    unescaped = STATES[machine]("return require('internal.uri').unescape(a)", latin(data))

    assert unescaped == latin(unquote_to_bytes(data.replace(b"+", b" ")))


def test_escaping_a_whole_uri(run: Run) -> None:
    """Type 0 escapes only what no URI may hold, and "#", "%" and "?"."""
    code = "return require('internal.uri').escape(a, 0)"

    assert run(code, "http://a.b/c d?e=f&g#%\x7f\xff") == "http://a.b/c%20d%3Fe=f&g%23%25%7F%FF"
    assert run("return pcall(require('internal.uri').escape, 'a', 7)")[0] is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("{}", ""),
        ("{ foo = 3 }", "foo=3"),
        ("{ ['b r'] = 'hello world' }", "b%20r=hello%20world"),
        ("{ baz = { 32, 'hello' } }", "baz=32&baz=hello"),
        ("{ a = true }", "a"),
        ("{ a = false }", ""),
        ("{ a = {} }", ""),
        ("{ a = { true, 1 } }", "a&a=1"),
        ("{ a = '&=' }", "a=%26%3D"),
    ],
)
def test_arguments_are_encoded(run: Run, arguments: str, text: str) -> None:
    """The examples of OpenResty's documentation come out."""
    assert run(f"return require('internal.uri').encode_args({arguments})") == text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("{ 'a' }", 'attempt to use a non-string key in the "args" option table'),
        ("{ a = print }", "attempt to use function as query arg value"),
        ("{ a = { {} } }", "attempt to use table as query arg value"),
    ],
)
def test_arguments_that_cannot_be_encoded(run: Run, arguments: str, problem: str) -> None:
    """Names are strings, values are text, numbers or truth."""
    ok, text = run(f"return pcall(require('internal.uri').encode_args, {arguments})")

    assert not ok
    assert text.endswith(problem)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2&a", {"a": ["1", "2", True]}),
        ("a&b=", {"a": True, "b": ""}),
        ("=x&&a=b=c", {"a": "b=c"}),
        ("b%20r=1+2%", {"b r": "1 2%"}),
    ],
)
def test_arguments_are_decoded(run: Run, text: str, arguments: dict[str, Any]) -> None:
    """Repeated names make lists, a name alone is true, and what has no name is left out."""
    decoded = run("return json.encode((require('internal.uri').decode_args(a)))", text)

    assert json.loads(decoded) == arguments


def test_arguments_are_counted(run: Run) -> None:
    """A hundred arguments are read unless told otherwise, and more are reported."""
    code = """
      local decoded, problem = require("internal.uri").decode_args(a, b)
      return require("table.nkeys")(decoded), problem
    """
    text = "&".join(f"a{number}=1" for number in range(101))

    assert run(code, text) == (100, "truncated")
    assert run(code, text, 0) == (101, None)
    assert run(code, text, 101) == (101, None)
    assert run(code, "a&b", 1) == (1, "truncated")

"""What `api/listen.py` promises."""

import base64
import hashlib
import hmac
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from standardwebhooks import Webhook

from api.listen import BODY_LIMIT, Arrival, Receiver, kong_verdict, listening, standard_verdict

BODY = b'{"source":"crud","n":1.0}'
SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four byt").decode()
NOW = 1_800_000_000.0


@contextmanager
def connected(receiver: Receiver) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(receiver.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    """Send one request and read its answer; gives the status."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def first(receiver: Receiver) -> Arrival:
    return next(iter(receiver))


def signed(secret: str, at: float = NOW) -> dict[str, str]:
    """The Standard Webhooks headers as its own library makes them."""
    if not secret.startswith("whsec_"):
        secret = base64.b64encode(secret.encode()).decode()
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), BODY.decode())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at)),
        "webhook-signature": signature,
    }


def kong(algorithm: str, key: bytes = b"s3", body: bytes = BODY) -> dict[str, str]:
    digest = hmac.new(key, body, algorithm).hexdigest()
    return {"x-kong-signature": f"{algorithm}={digest}"}


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        (kong("sha256"), "valid"),
        (kong("sha1"), "valid"),
        (kong("sha256", key=b"other"), "invalid"),
        (kong("sha256", body=BODY + b"\n"), "invalid"),
        (kong("md5"), "invalid"),
        ({"x-kong-signature": hmac.new(b"s3", BODY, hashlib.sha256).hexdigest()}, "invalid"),
        ({"x-kong-signature": "sha256=\xff"}, "invalid"),
        ({}, "absent"),
    ],
)
def test_kongs_signature_is_over_the_exact_body(headers: dict[str, str], verdict: str) -> None:
    """Both algorithms are known, and one byte more or another key is told apart."""
    assert kong_verdict(headers, BODY, "s3") == verdict


@pytest.mark.parametrize("secret", [SECRET, "just a text"])
@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "valid"),
        ({"webhook-signature": "v1,bm8= " + signed(SECRET)["webhook-signature"]}, "rotated"),
        ({"webhook-id": "msg_2"}, "invalid"),
        ({"webhook-timestamp": "1"}, "invalid"),
        ({"webhook-timestamp": "soon"}, "invalid"),
        ({"webhook-signature": "v1,bm8="}, "invalid"),
        ({"webhook-signature": "\xff"}, "invalid"),
    ],
)
def test_standard_webhooks_signatures_agree_with_its_library(
    secret: str, change: dict[str, str], verdict: str
) -> None:
    """One right signature among several will do; another id or time makes it wrong."""
    headers = signed(secret) | change
    expected = verdict if verdict != "rotated" else "valid" if secret == SECRET else "invalid"

    assert standard_verdict(headers, BODY, secret, NOW) == expected


@pytest.mark.parametrize(("off", "verdict"), [(300, "valid"), (301, "expired"), (-301, "expired")])
def test_a_right_signature_of_another_time_is_expired(off: int, verdict: str) -> None:
    """As in the library, five minutes to either side are allowed."""
    assert standard_verdict(signed(SECRET), BODY, SECRET, NOW + off) == verdict


def test_what_arrives_is_given_as_it_came() -> None:
    """Method, path, headers and body, with both verdicts; the sender gets the chosen status."""
    with listening("127.0.0.1", 0, status=503, secret="s3") as receiver, connected(receiver) as c:
        status = exchange(c, "POST", "/hook?a=1", BODY, {"X-Mine": "1"} | kong("sha256"))
        arrival = first(receiver)

    assert status == 503
    assert (arrival.method, arrival.path, arrival.body) == ("POST", "/hook?a=1", BODY.decode())
    assert arrival.headers["x-mine"] == "1"
    assert (arrival.kong_signature, arrival.standard_webhooks) == ("valid", "absent")


def test_without_a_secret_nothing_is_checked() -> None:
    """The verdict says so instead of calling a signature wrong."""
    with listening("127.0.0.1", 0) as receiver, connected(receiver) as connection:
        exchange(connection, "PUT", "/", BODY, kong("sha256"))

        assert first(receiver).kong_signature == "unchecked"


def test_a_connection_is_kept_and_every_method_is_taken() -> None:
    """A pooling client sends the next request on the same connection."""
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    with (
        listening("127.0.0.1", 0, status=204) as receiver,
        connected(receiver) as connection,
    ):
        connection.connect()
        kept = connection.sock
        statuses = [exchange(connection, method, "/") for method in methods]

        assert statuses == [204] * 7
        assert connection.sock is kept
        assert [first(receiver).method for _ in methods] == methods


def test_a_body_that_is_not_text_is_shown_in_part() -> None:
    """Bytes that are no UTF-8 are spelt out."""
    with listening("127.0.0.1", 0) as receiver, connected(receiver) as connection:
        exchange(connection, "POST", "/", b"a\xffb")

        assert first(receiver).body == "a\\xffb"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "many"}, 411),
        ({"Content-Length": str(BODY_LIMIT + 1)}, 413),
    ],
)
def test_a_body_without_a_sensible_length_is_refused(headers: dict[str, str], status: int) -> None:
    """It is not shown, and the connection ends because the body was not read."""
    with listening("127.0.0.1", 0) as receiver:
        with connected(receiver) as connection:
            connection.putrequest("POST", "/refused")
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
        with connected(receiver) as connection:
            exchange(connection, "POST", "/next")

        assert answer.status == status
        assert answer.getheader("connection") == "close"
        assert first(receiver).path == "/next"


def test_half_a_body_is_not_shown() -> None:
    """A sender that goes away in the middle leaves nothing behind."""
    with listening("127.0.0.1", 0) as receiver:
        address = urlsplit(receiver.url)
        with socket.create_connection((str(address.hostname), address.port or 0), 5) as half:
            half.sendall(b"POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
            half.shutdown(socket.SHUT_WR)

            assert half.recv(1) == b""
        with connected(receiver) as connection:
            exchange(connection, "POST", "/next")

        assert first(receiver).path == "/next"


def test_a_secret_that_cannot_be_a_key_is_refused() -> None:
    """What follows whsec_ must be base64; better said at once than at every arrival."""
    with pytest.raises(ValueError, match="base64"), listening("127.0.0.1", 0, secret="whsec_!"):
        pass


def test_the_text_for_people_cannot_steer_their_terminal() -> None:
    """Every part is there, and control characters are spelt out."""
    arrival = Arrival(
        NOW, "POST", "/\x1b[2J", {"a": "b\x9b"}, '{\n "x": "\x07é"\n}', "valid", "absent"
    )
    lines = arrival.as_text().split("\n")

    assert lines[0].endswith(" POST /\\x1b[2J")
    assert lines[1:] == [
        "  a: b\\x9b",
        "",
        "  {",
        '   "x": "\\x07é"',
        "  }",
        "  (x-kong-signature valid, standard webhooks absent)",
        "",
    ]

"""The way out, against real receivers on loopback that behave well, badly, or not at all."""

import asyncio
import gzip
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from delivery.address import AddressPolicy
from delivery.egress import Egress
from delivery.outcome import Outcome
from tests.receiver import (
    Behaviour,
    Receiver,
    answer,
    close,
    endless,
    hang,
    many_headers,
    raw,
    slowly,
)

TLS = Path(__file__).parent / "tls"
ANY = "0.0.0.0"  # noqa: S104 -- an address to connect to; nothing listens there
LOOPBACK = AddressPolicy.parse([], allow_loopback=True)


def names(**addresses: str | list[str]) -> Callable[..., list[tuple[Any, ...]]]:
    """A name server for the names given; `_` stands for a dot. Others do not exist."""

    def lookup(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        found = addresses.get(host.replace(".", "_"))
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port),
            )
            for address in ([found] if isinstance(found, str) else found)
        ]

    return lookup


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    """Loopback allowed, a deadline of half a second."""
    async with Egress(
        LOOPBACK, timeout=0.5, lookup=names(receiver_test="127.0.0.1", other_test="127.0.0.1")
    ) as egress:
        yield egress


async def post(egress: Egress, url: str, body: bytes = b"{}", **options: bool) -> Outcome:
    with anyio.fail_after(10):
        return await egress.send("POST", url, {"Content-Type": "x/y"}, body, **options)


# What is sent


async def test_a_request_arrives_as_it_was_given(receiver: Receiver, egress: Egress) -> None:
    """Method, target, headers and the exact bytes; nothing compressed is asked for."""
    outcome = await egress.send(
        "PUT",
        f"http://receiver.test:{receiver.port}/a%2Fb/ż?q=1&q=%7E+x#part",
        {"X-One": "1", "User-Agent": "mine", "x-two": "zażółć"},
        b"\x00\xffexact",
    )

    [request] = receiver.requests
    assert outcome.ok
    assert (request.method, request.body) == ("PUT", b"\x00\xffexact")
    assert request.target == "/a%2Fb/%C5%BC?q=1&q=%7E+x"
    assert {name.lower(): value for name, value in request.headers} == {
        "host": f"receiver.test:{receiver.port}",
        "user-agent": "mine",
        "accept": "*/*",
        "accept-encoding": "identity",
        "x-one": "1",
        "x-two": "zażółć".encode().decode("latin-1"),
        "content-length": "7",
    }


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_requests_without_a_body(receiver: Receiver, egress: Egress, method: str) -> None:
    """No body means no content type and no invented bytes."""
    outcome = await egress.send(method, f"{receiver.url}/x", {}, b"")

    [request] = receiver.requests
    assert outcome.ok
    assert (request.method, request.body) == (method, b"")
    assert request.header("content-type") is None


async def test_bodies_of_more_than_a_mebibyte(receiver: Receiver, egress: Egress) -> None:
    """The largest event with its wrapping arrives whole, and without a warning."""
    body = bytes(range(256)) * 5000

    outcome = await post(egress, receiver.url, body)

    assert outcome.ok
    assert receiver.requests[0].body == body


async def test_a_receiver_that_reads_late(egress: Egress) -> None:
    """More than the network buffers is sent when there is room again, within the deadline."""
    body = b"x" * 20_000_000 + b"end"
    arrived = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await anyio.sleep(0.1)
        while not arrived.endswith(b"end"):
            arrived.extend(await reader.read(1 << 20))
        writer.write(_response(b"200 OK", b""))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        outcome = await post(
            egress, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", body
        )

    assert outcome.ok
    assert len(arrived) > len(body)


async def test_credentials_in_the_url_become_a_header(receiver: Receiver, egress: Egress) -> None:
    """They authenticate and appear nowhere else; a header of the hook's own wins."""
    url = f"http://me:p%40ss@127.0.0.1:{receiver.port}/"

    await post(egress, url)
    await egress.send("POST", url, {"Authorization": "Bearer t"}, b"")

    first, second = receiver.requests
    assert first.header("authorization") == "Basic bWU6cEBzcw=="
    assert first.header("host") == f"127.0.0.1:{receiver.port}"
    assert second.header("authorization") == "Bearer t"


async def test_the_environment_is_not_asked(
    receiver: Receiver, egress: Egress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve names itself, past the policy; cookies would tie hooks together."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    receiver.script("/", answer(headers={"Set-Cookie": "a=b"}))

    outcomes = [await post(egress, f"{receiver.url}/") for _ in range(2)]

    assert [outcome.ok for outcome in outcomes] == [True, True]
    assert receiver.requests[1].header("cookie") is None


async def test_connections_are_kept_and_shared(receiver: Receiver, egress: Egress) -> None:
    """A good receiver sees one connection for requests in a row."""
    for _ in range(5):
        await post(egress, receiver.url)

    assert len(receiver.requests) == 5
    assert receiver.accepted == 1


# What is made of answers


@pytest.mark.parametrize(
    ("status", "ok", "retryable", "gone"),
    [
        (200, True, True, False),
        (204, True, True, False),
        (299, True, True, False),
        (302, False, True, False),
        (400, False, False, False),
        (404, False, False, False),
        (410, False, False, True),
        (429, False, True, False),
        (503, False, True, False),
    ],
)
async def test_the_status_decides(
    receiver: Receiver, egress: Egress, status: int, ok: bool, retryable: bool, gone: bool
) -> None:
    """2xx is success; for the rest the outcome says whether to go on."""
    receiver.script("/", answer(status, {"Retry-After": "7", "X-Seen": "yes"}))

    outcome = await post(egress, f"{receiver.url}/")

    assert (outcome.ok, outcome.retryable, outcome.gone) == (ok, retryable, gone)
    assert outcome.status == status
    assert outcome.response is not None
    assert outcome.response.headers["X-Seen"] == "yes"
    assert ok or f"answered {status}" in str(outcome.reason)
    assert outcome.retry_after == (None if ok else 7)


async def test_the_answer_is_kept_for_the_record(receiver: Receiver, egress: Egress) -> None:
    """Status, headers as spelled by the receiver, repeated ones joined, body as text."""
    body = "dzięki ".encode() + b"\xff"
    receiver.script("/", raw(_response(b"200 OK", body, b"X-A: 1\r\nX-A: 2\r\nDate: today\r\n")))

    outcome = await post(egress, f"{receiver.url}/")

    assert outcome.response is not None
    assert outcome.response.body == "dzięki \ufffd"
    assert outcome.response.headers == {
        "X-A": "1, 2",
        "Date": "today",
        "Content-Length": str(len(body)),
    }


@pytest.mark.parametrize(
    "location", ["/elsewhere", "http://169.254.169.254/", "file:///etc/passwd", "//other.test/"]
)
async def test_redirects_are_not_followed(
    receiver: Receiver, egress: Egress, location: str
) -> None:
    """A redirect is the receiver's failure, wherever it points."""
    receiver.script("/", answer(307, {"Location": location}))

    outcome = await post(egress, f"{receiver.url}/")

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert "redirects are not followed" in str(outcome.reason)
    assert len(receiver.requests) == 1


async def test_a_body_without_end_is_cut(receiver: Receiver) -> None:
    """What was read counts as the answer, and the connection is dropped."""
    receiver.script("/", endless())
    async with Egress(LOOPBACK, timeout=5, response_cap=100_000) as egress:
        outcome = await post(egress, f"{receiver.url}/")

        with anyio.fail_after(5):
            await receiver.wait_until(lambda: receiver.open == 0)

    assert outcome.ok
    assert outcome.response is not None
    assert len(outcome.response.body) == 100_000


async def test_nothing_is_decompressed(receiver: Receiver, egress: Egress) -> None:
    """A bomb stays as small as it came."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    receiver.script("/", answer(200, {"Content-Encoding": "gzip"}, bomb))

    outcome = await post(egress, f"{receiver.url}/")

    assert outcome.ok
    assert outcome.response is not None
    assert len(outcome.response.body) <= len(bomb) < 20_000


def _response(status: bytes, body: bytes, fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, fields, len(body), body)


GARBAGE = {
    "not HTTP": raw(b"\x00\xff this is not HTTP\r\n\r\n"),
    "another protocol": raw(b"220 mail.example ESMTP\r\n"),
    "no answer": close,
    "half a status line": raw(b"HTTP/1.1 20"),
    "half the headers": raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n"),
    "half the body": raw(_response(b"200 OK", b"x" * 100)[:-50]),
    "bad chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "a negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nab"),
    "100,000 headers": many_headers(100_000),
    "a header without end": endless(b"x" * 65536, head=b"HTTP/1.1 200 OK\r\nX-A: "),
    "only 100 Continue": endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, head=b""),
    "one byte at a time": slowly(b"HTTP/1.1 200 OK\r\n", every=0.2),
    "one byte of body at a time": slowly(_response(b"200 OK", b"x" * 100), every=0.01),
    "silence": hang,
}


@pytest.mark.parametrize("behaviour", GARBAGE.values(), ids=GARBAGE.keys())
async def test_broken_receivers_are_failures(
    receiver: Receiver, egress: Egress, behaviour: Any
) -> None:
    """Whatever it does instead of answering, one clear line, in time, and the next try works."""
    receiver.script("/", behaviour, answer())

    with anyio.fail_after(3):
        outcome = await post(egress, f"{receiver.url}/")
        again = await post(egress, f"{receiver.url}/")

    assert (outcome.ok, outcome.retryable, outcome.blocked) == (False, True, False)
    assert outcome.reason
    assert "\n" not in outcome.reason
    assert len(outcome.reason) <= 300
    assert again.ok


@pytest.mark.parametrize(
    "flood",
    [
        endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, head=b""),
        endless(b"1;" + b"x" * 2000, head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        endless(
            b"1\r\nx\r\n" * 1000, head=b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        ),
    ],
    ids=["interim answers", "chunk extensions", "tiny chunks"],
)
async def test_a_flood_is_cut_off_at_once(receiver: Receiver, flood: Behaviour) -> None:
    """It is not parsed until the deadline: that would keep the event loop from other hooks."""
    receiver.script("/", flood)
    async with Egress(LOOPBACK, timeout=30) as egress:
        with anyio.fail_after(5):
            outcome = await post(egress, f"{receiver.url}/")
            await receiver.wait_until(lambda: receiver.open == 0)

    assert not outcome.ok


# What cannot be reached


async def test_a_closed_port(egress: Egress) -> None:
    """Refused connections say so, with the host and port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    outcome = await post(egress, f"http://127.0.0.1:{port}/")

    assert outcome == Outcome(
        ok=False, reason=f"cannot connect to 127.0.0.1:{port}: Connection refused"
    )


@pytest.mark.parametrize("host", ["missing.test", "a" * 70 + ".test"])
async def test_names_that_do_not_resolve(egress: Egress, host: str) -> None:
    """A missing name may appear later: retried."""
    outcome = await post(egress, f"http://{host}/")

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert f"cannot resolve {host}: " in str(outcome.reason)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://",
        "http://:80/",
        "http://host:99999/",
        "http://host:0/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://[::1/",
        "http://exa\nmple.com/",
    ],
)
async def test_urls_that_cannot_be_called(egress: Egress, url: str) -> None:
    """Not retried: only a change of the hook helps."""
    outcome = await post(egress, url)

    assert (outcome.ok, outcome.retryable) == (False, False)
    assert outcome.reason


# The deadline


async def test_the_deadline_covers_the_name_lookup(receiver: Receiver) -> None:
    """A slow name server delays its own host only, and takes one thread for it."""
    asked: list[str] = []
    answered = threading.Event()

    def lookup(host: str, port: int, **options: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        if host == "slow.test":
            answered.wait(10)
        return names(slow_test="127.0.0.1", fast_test="127.0.0.1")(host, port, **options)

    async with Egress(LOOPBACK, timeout=0.3, lookup=lookup) as egress:
        slow: list[Outcome] = []

        async def send_slow() -> None:
            slow.append(await post(egress, f"http://slow.test:{receiver.port}/"))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(send_slow)
            fast = await post(egress, f"http://fast.test:{receiver.port}/")
        answered.set()
        again = await post(egress, f"http://slow.test:{receiver.port}/")

    assert fast.ok
    assert {outcome.reason for outcome in slow} == {"no complete answer within 0.3 s"}
    assert asked.count("slow.test") == 1
    assert again.ok


async def test_cancelled_requests_leave_nothing_behind(receiver: Receiver) -> None:
    """After a thousand exchanges cut off at every stage, the next ones work at once."""
    held = anyio.Event()
    receiver.script("/held", answer(until=held))
    receiver.script("/slow", slowly(_response(b"200 OK", b"x" * 50), every=0.002))
    generator = random.Random(1)  # noqa: S311 -- the same moments in every run

    async with Egress(LOOPBACK, timeout=5) as egress:
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    path = generator.choice(["/held", "/slow", "/"])
                    tasks.start_soon(
                        _cut_off, egress, f"{receiver.url}{path}", generator.uniform(0, 0.05)
                    )
        held.set()
        with anyio.fail_after(5):
            await receiver.wait_until(lambda: receiver.open <= 50)
        outcomes = [await post(egress, receiver.url) for _ in range(100)]

    assert all(outcome.ok for outcome in outcomes)


async def _cut_off(egress: Egress, url: str, after: float) -> None:
    with anyio.move_on_after(after):
        await egress.send("POST", url, {}, b"x" * 1000)


async def test_requests_do_not_queue_for_connections(receiver: Receiver, egress: Egress) -> None:
    """Three hundred hanging exchanges with a receiver leave it reachable for one more."""
    receiver.script("/hang", hang)

    async with anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(post, egress, f"{receiver.url}/hang")
        with anyio.fail_after(5):
            await receiver.wait_for(1, "/hang")
        outcome = await post(egress, f"{receiver.url}/ok")

    assert outcome.ok


# The address policy


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", ANY, "169.254.169.254", "10.0.0.1"]
)
async def test_forbidden_addresses_in_the_url(receiver: Receiver, host: str) -> None:
    """Nothing is dialed, nothing is retried, and the outcome says why."""
    async with Egress(AddressPolicy.parse([]), timeout=1) as egress:
        outcome = await post(egress, f"http://{host}:{receiver.port}/")

    assert (outcome.ok, outcome.blocked, outcome.retryable) == (False, True, False)
    assert "blocked by the address policy: " in str(outcome.reason)
    assert receiver.accepted == 0


async def test_every_address_of_a_name_is_checked(receiver: Receiver) -> None:
    """One forbidden address among good ones spoils the name: which is dialed is chance."""
    lookup = names(mixed_test=["1.1.1.1", "127.0.0.1"])
    async with Egress(AddressPolicy.parse([]), timeout=1, lookup=lookup) as egress:
        outcome = await post(egress, f"http://mixed.test:{receiver.port}/")

    assert outcome.blocked
    assert "127.0.0.1 is in @loopback" in str(outcome.reason)
    assert receiver.accepted == 0


async def test_the_checked_address_is_the_one_dialed(receiver: Receiver) -> None:
    """A name that changes between check and use gains nothing: it is looked up once."""
    lookups = iter(["127.0.0.1", "10.255.255.1", "10.255.255.1"])

    def rebinding(host: str, port: int, **options: object) -> list[tuple[Any, ...]]:
        return names(rebind_test=next(lookups))(host, port, **options)

    async with Egress(AddressPolicy.parse(["@loopback"]), timeout=1, lookup=rebinding) as egress:
        outcome = await post(egress, f"http://rebind.test:{receiver.port}/")

    assert outcome.ok
    assert receiver.requests[0].header("host") == f"rebind.test:{receiver.port}"


async def test_a_host_allowed_by_name(receiver: Receiver) -> None:
    """`egress_allow` with a host name permits that name, not the address behind it."""
    policy = AddressPolicy.parse(["inside.test"])
    lookup = names(inside_test="127.0.0.1", outside_test="127.0.0.1")
    async with Egress(policy, timeout=1, lookup=lookup) as egress:
        inside = await post(egress, f"http://Inside.Test:{receiver.port}/")
        outside = await post(egress, f"http://outside.test:{receiver.port}/")
        bare = await post(egress, f"http://127.0.0.1:{receiver.port}/")

    assert inside.ok
    assert outside.blocked
    assert bare.blocked


@pytest.mark.parametrize("listens", ["127.0.0.1", ANY, "::"])
async def test_our_own_listeners_are_out_of_reach(receiver: Receiver, listens: str) -> None:
    """The Admin API cannot be called through a hook, by any name of this machine."""
    policy = AddressPolicy.parse(["@loopback", "me.test"], own=[(listens, receiver.port)])
    async with Egress(policy, timeout=1, lookup=names(me_test="127.0.0.1")) as egress:
        outcomes = [
            await post(egress, f"http://{host}:{receiver.port}/")
            for host in ("127.0.0.1", ANY, "[::ffff:127.0.0.1]", "me.test")
        ]

    assert [outcome.blocked for outcome in outcomes] == [True] * 4
    assert "is this service itself" in str(outcomes[0].reason)
    assert receiver.accepted == 0


# TLS


def trusting() -> ssl.SSLContext:
    """Verifies against the tests' own authority."""
    return ssl.create_default_context(cafile=TLS / "ca.pem")


@asynccontextmanager
async def over_tls(
    certificate: str, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[Receiver, Egress]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / certificate)
    lookup = names(receiver_test="127.0.0.1", other_test="127.0.0.1")
    async with (
        Receiver(tls=context) as receiver,
        Egress(LOOPBACK, timeout=2, tls=tls, lookup=lookup) as egress,
    ):
        yield receiver, egress


async def test_tls_verifies_the_name_not_the_address() -> None:
    """A right certificate for the host in the URL is accepted, although an address is dialed."""
    async with over_tls("receiver.pem", trusting()) as (receiver, egress):
        outcome = await post(egress, f"https://receiver.test:{receiver.port}/")

    assert outcome.ok
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("certificate", "host", "trusted", "words"),
    [
        ("receiver.pem", "other.test", True, "other.test"),
        ("receiver.pem", "127.0.0.1", True, "127.0.0.1"),
        ("expired.pem", "receiver.test", True, "expired"),
        ("receiver.pem", "receiver.test", False, "unable to get local issuer"),
    ],
)
async def test_bad_certificates_fail_closed(
    certificate: str, host: str, trusted: bool, words: str
) -> None:
    """Wrong name, expired, unknown authority: nothing is sent, the reason says which."""
    async with over_tls(certificate, trusting() if trusted else None) as (receiver, egress):
        outcome = await post(egress, f"https://{host}:{receiver.port}/")

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert f"the certificate of {host} was refused" in str(outcome.reason)
    assert words in str(outcome.reason)
    assert receiver.requests == []


async def test_a_hook_can_give_up_verification() -> None:
    """`ssl_verify` false accepts any certificate, for that hook's requests only."""
    async with over_tls("expired.pem", None) as (receiver, egress):
        url = f"https://receiver.test:{receiver.port}/"
        unverified = await post(egress, url, ssl_verify=False)
        verified = await post(egress, url)

    assert unverified.ok
    assert not verified.ok


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n"])
async def test_a_handshake_that_breaks(egress: Egress, greeting: bytes) -> None:
    """A receiver that does not speak TLS is told nothing in clear."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await post(egress, f"https://127.0.0.1:{port}/")

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert f"127.0.0.1:{port}" in str(outcome.reason)
    assert heard.startswith(b"\x16\x03")  # a TLS handshake record
    assert b"HTTP" not in heard

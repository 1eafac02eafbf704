"""The application on the wire: a real server, and clients that do not keep to the rules."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import uvicorn
from anyio.abc import SocketStream
from hypothesis import HealthCheck, given, settings, strategies as st
from starlette.routing import Route

from api.app import create_app, first_segments
from api.front_door import Policy
from tests.api.admin_api import HOOK, Api, serving

EVENT = b'{"source":"balancer","event":"health","data":{"n":1}}'


@asynccontextmanager
async def listening(api: Api) -> AsyncIterator[int]:
    """The application behind uvicorn, on a free port of loopback."""
    config = uvicorn.Config(api.app, lifespan="off", log_config=None, server_header=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True


@pytest.fixture
async def wire(api: Api) -> AsyncIterator["Wire"]:
    async with listening(api) as port:
        yield Wire(api, port)


class Wire:
    """Bytes to the server, bytes from it."""

    def __init__(self, api: Api, port: int) -> None:
        self.api = api
        self.port = port

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)

    async def say(self, *parts: bytes) -> bytes:
        """What the server answers until it closes the connection."""
        with anyio.fail_after(10):
            async with await self.connect() as stream:
                for part in parts:
                    await stream.send(part)
                answer = b""
                async for received in stream:
                    answer += received
                return answer


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """A request that asks for the connection to be closed."""
    lines = [f"{line} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_an_event_travels_over_the_wire(wire: Wire) -> None:
    """One Server header, a length, and the position."""
    answer = await wire.say(request("POST /events", "Content-Type: application/json", body=EVENT))
    head, _, body = answer.partition(b"\r\n\r\n")

    assert status_of(answer) == 202
    assert body == b'{"positions":[1],"ids":[null],"repeated":false}'
    assert head.lower().count(b"\r\nserver: hooktape/1.2.3") == 1


async def test_head_has_no_body(wire: Wire) -> None:
    """The length of the body that GET would have, and nothing after the headers."""
    head, _, body = (await wire.say(request("HEAD /health/live"))).partition(b"\r\n\r\n")

    assert b"content-length: 17" in head.lower()
    assert body == b""


async def test_an_endless_body_is_cut_off(wire: Wire) -> None:
    """Without a length, the limit holds while the body arrives; the connection goes on."""
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = request("POST /events", "Content-Type: application/json", "Transfer-Encoding: chunked")
    head = head.replace(b"Connection: close\r\n", b"")
    answer = await wire.say(head, *[chunk] * 20, b"0\r\n\r\n", request("GET /health/live"))

    assert status_of(answer) == 413
    assert b"larger than 1048576 bytes" in answer
    assert answer.endswith(b'{"status":"live"}')


async def test_a_large_body_is_refused_before_it_is_sent(wire: Wire) -> None:
    """A client that asks first (curl does) gets 413 instead of `100 Continue`."""
    announced = (
        "Content-Type: application/json",
        "Content-Length: 9999999",
        "Expect: 100-continue",
    )
    async with await wire.connect() as stream:
        await stream.send(request("POST /events", *announced))
        with anyio.fail_after(5):
            answer = await stream.receive()

    assert status_of(answer) == 413


async def test_half_a_body_stores_nothing(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """A sender that goes away in the middle leaves no trace, in the log or in the logs."""
    half = request("POST /events", "Content-Type: application/json", body=EVENT)[:-10]
    async with await wire.connect() as stream:
        await stream.send(half)
    whole = request("POST /events", "Content-Type: application/json", body=EVENT)
    answer = await wire.say(whole)

    assert b'"positions":[1]' in answer
    assert wire.api.log.head == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("GET /health/live", (), 200),
        ("GET /events/%00", (), 404),
        ("GET /events/%ff%fe", (), 404),
        ("GET /%2e%2e/%2e%2e/etc/passwd", (), 404),
        ("GET /events?after=%00", (), 400),
        ("GET /events/1?source=%ff", (), 404),
        ("GET /event-hooks/sources/%ff", (), 404),
        ("GET /\u00ff", (), 400),
        ("BREW /events", (), 400),
        ("TRACE /events", (), 405),
        ("GET /health/live", ("Host: evil.example",), 403),
        ("GET /health/live", ("Cookie: " + "x" * 10_000,), 200),
        ("POST /events", ("Content-Type: application/json",), 400),
        ("POST /events", ("Content-Type: \u00ff",), 415),
    ],
)
async def test_odd_requests_are_answered_calmly(
    wire: Wire, line: str, headers: tuple[str, ...], status: int
) -> None:
    """Whatever the bytes, never a 5xx."""
    assert status_of(await wire.say(request(line, *headers))) == status


WRITES = [
    ("POST", "/events"),
    ("PUT", "/event-hooks/sources/app/paid"),
    ("POST", f"/event-hooks/{HOOK}/resume"),
    ("POST", f"/team/event-hooks/{HOOK}/parked/resend"),
]
TYPES = [
    "application/json",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain",
    "",
]


@given(
    st.sampled_from(WRITES),
    st.sampled_from(TYPES) | st.text("\t !~;=/", max_size=8),
    st.binary(max_size=80) | st.sampled_from([b"[" * 9999, b'{"skip":' * 999, b"a" * 1_048_577]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_body_is_too_strange(
    api: Api, write: tuple[str, str], content_type: str, body: bytes
) -> None:
    """Arbitrary bytes under arbitrary types are stored or refused, and never a 5xx."""
    method, path = write
    headers = {"content-type": content_type}
    response = await api.client.request(method, path, content=body, headers=headers)

    assert response.status_code < 500


async def test_requests_share_a_connection(wire: Wire) -> None:
    """After a refusal the connection goes on as before."""
    refused = request("POST /events", "Content-Type: text/plain", body=EVENT)
    keep = refused.replace(b"Connection: close\r\n", b"")
    answer = await wire.say(keep, request("GET /health/live"))

    assert answer.count(b"HTTP/1.1 ") == 2
    assert status_of(answer) == 415
    assert b'{"status":"live"}' in answer


async def test_the_limit_is_a_setting(tmp_path: Path) -> None:
    """Each application has its own."""
    async with serving(tmp_path, body_limit=len(EVENT) - 1) as small:
        headers = {"content-type": "application/json"}
        response = await small.client.post("/events", content=EVENT, headers=headers)

    assert response.status_code == 413


def test_building_an_application_needs_nothing() -> None:
    """No I/O and no running loop: an application is only its routes."""
    routes = [Route("/", lambda _: None), Route("/a/{b}", lambda _: None)]
    create_app(
        routes,
        version="1",
        policy=Policy.of(),
        resolve_workspace=lambda _: None,
        default_workspace="w",
    )

    assert first_segments(routes) == {"", "a"}

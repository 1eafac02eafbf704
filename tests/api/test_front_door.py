"""Who comes in, under which circumstances, and what every answer carries."""

import logging
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.front_door import Policy
from api.responses import Json, RequestError, Unauthorized
from api.routing import route

ORIGIN = "https://console.example"


async def echo(request: Request) -> Response:
    state = dict(request.scope["state"])
    return Json({"path": request.scope["path"], "params": request.path_params, **state})


async def crash(_request: Request) -> Response:
    raise KeyError("a bug")


async def crash_late(_request: Request) -> Response:
    return Broken()


async def leave(_request: Request) -> Response:
    raise ClientDisconnect


class Broken(Response):
    """Fails after the start of its answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("a late bug")


class Door:
    """An application with a few routes, and what it reported about them."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[tuple[str, str, int]] = []
        self.app = create_app(
            [
                route("/things", GET=echo, POST=echo),
                route("/things/{id}", GET=echo, DELETE=echo),
                route("/crash", GET=crash),
                route("/late", GET=crash_late),
                route("/left", GET=leave),
            ],
            version="1.2.3",
            resolve_workspace={"team": "team-id", "team-id": "team-id"}.get,
            default_workspace="default-id",
            observe=lambda method, path, status, _: self.seen.append((method, path, status)),
            **{"policy": Policy.of(["hooks.internal", "fd00::1"], [ORIGIN]), **options},
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://localhost:8001"
        )

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return await self.client.get(path, headers=headers)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    async with door.client:
        yield door


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8001",
        "LOCALHOST:1",
        "127.0.0.1:9",
        "[::1]:8001",
        "[::1]",
        "hooks.internal:80",
        "[fd00::1]:8001",
    ],
)
async def test_our_own_names_are_let_in(door: Door, host: str) -> None:
    """Loopback and configured names, with any port and in any case."""
    assert (await door.get("/things", {"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "localhost:8001.evil.example",
        "127.0.0.1.evil.example",
        "[::1].evil.example",
        "[::1",
        "10.0.0.1",
        "evil.example#localhost",
    ],
)
async def test_other_hosts_are_refused(door: Door, host: str) -> None:
    """A name that somebody pointed at our address does not open the door."""
    response = await door.get("/things", {"host": host})

    assert response.status_code == 403
    assert response.json().keys() == {"message"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://console.example.evil"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    ],
)
async def test_pages_of_other_sites_are_refused(door: Door, headers: dict[str, str]) -> None:
    """A web page cannot reach the API, not even from another port of this machine."""
    response = await door.client.post("/things", headers=headers)

    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost:8001"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
    ],
)
async def test_our_own_pages_are_let_in(door: Door, headers: dict[str, str]) -> None:
    """The same origin, an address typed by hand, and configured origins."""
    assert (await door.client.post("/things", headers=headers)).status_code == 200


async def test_a_configured_origin_is_told_so(door: Door) -> None:
    """The answer names the origin, and caches must not show it to another one."""
    allowed = await door.get("/things", {"origin": ORIGIN})
    plain = await door.get("/things")

    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in plain.headers
    assert plain.headers["vary"] == "origin"


async def test_a_preflight_lists_methods_and_headers(door: Door) -> None:
    """What a browser asks before it sends JSON from a configured page."""
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    response = await door.client.options("/things", headers=asked)

    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, POST"
    assert "content-type" in response.headers["access-control-allow-headers"]


def refuse_all(_scope: Scope, _headers: Mapping[bytes, bytes]) -> RequestError:
    return Unauthorized()


async def test_a_preflight_needs_no_token() -> None:
    """A browser sends none with it. The same answer for every path, and for our pages only."""
    asked = {"origin": ORIGIN, "access-control-request-method": "PUT"}
    async with Door(guard=refuse_all).client as client:
        answers = [await client.options(path, headers=asked) for path in ("/things", "/nobody/x")]
        page = await client.put("/things", headers={"origin": ORIGIN})
        plain = await client.options("/things")
        foreign = await client.options(
            "/things", headers=asked | {"origin": "https://evil.example"}
        )

    for answer in answers:
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "kong-admin-token" in answer.headers["access-control-allow-headers"]
    assert (page.status_code, plain.status_code, foreign.status_code) == (401, 401, 403)


async def test_without_configured_origins_nothing_is_said_about_them() -> None:
    """CORS is off: no such header at all."""
    async with Door(policy=Policy.of()).client as client:
        response = await client.get("/things", headers={"origin": "http://localhost:8001"})

    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith(("access-control", "vary"))]


async def test_every_answer_says_who_and_how_fast(door: Door) -> None:
    """Refusals too carry server, latency and request id."""
    for path, host in (("/things", "localhost"), ("/nothing", "localhost"), ("/things", "evil")):
        headers = (await door.get(path, {"host": host})).headers

        assert headers["server"] == "hooktape/1.2.3"
        assert headers["x-kong-admin-latency"].isdecimal()
        assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
        assert headers["x-kong-admin-request-id"] == headers["x-request-id"]


@pytest.mark.parametrize("name", ["X-Request-Id", "X-Kong-Admin-Request-ID"])
async def test_a_request_id_is_taken_over(door: Door, name: str) -> None:
    """The sender's own id goes through to the log and back."""
    response = await door.get("/things", {name: "abc-1.2_3~4"})

    assert response.headers["x-request-id"] == "abc-1.2_3~4"
    assert response.json()["request_id"] == "abc-1.2_3~4"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\\nb", "<script>"])
async def test_a_strange_request_id_is_replaced(door: Door, given: str) -> None:
    """What could confuse a log line is not taken over."""
    response = await door.get("/things", {"x-request-id": given})

    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a\tb", b"\xfc"])
async def test_a_strange_idempotency_key_is_refused(door: Door, key: bytes) -> None:
    """1 to 255 printable characters."""
    response = await door.client.post("/things", headers=[(b"Idempotency-Key", key)])

    assert response.status_code == 400
    assert "Idempotency-Key" in response.json()["message"]


async def test_an_idempotency_key_reaches_the_endpoint(door: Door) -> None:
    """As it was sent."""
    key = "~" * 255
    response = await door.client.post("/things", headers={"Idempotency-Key": key})

    assert response.json()["idempotency_key"] == key


@pytest.mark.parametrize(
    ("path", "seen", "workspace", "prefix"),
    [
        ("/things", "/things", "default-id", ""),
        ("/things/", "/things", "default-id", ""),
        ("/things/1/", "/things/1", "default-id", ""),
        ("/team/things", "/things", "team-id", "/team"),
        ("/team-id/things/", "/things", "team-id", "/team-id"),
        ("/team/things/team", "/things/team", "team-id", "/team"),
        ("/things/team", "/things/team", "default-id", ""),
    ],
)
async def test_workspace_and_slash_are_taken_off(
    door: Door, path: str, seen: str, workspace: str, prefix: str
) -> None:
    """By name or by id; our own paths come first; a closing slash means nothing."""
    answer = (await door.get(path)).json()

    assert (answer["path"], answer["workspace"], answer["prefix"]) == (seen, workspace, prefix)


@pytest.mark.parametrize(
    "path", ["/nothing", "/nobody/things", "/team/nothing", "/team/team/things", "//things", "/"]
)
async def test_what_is_not_there_is_not_found(door: Door, path: str) -> None:
    """An unknown path and an unknown workspace look the same."""
    response = await door.client.get(f"http://localhost:8001{path}")

    assert response.status_code == 404
    assert response.json() == {"message": "Not found"}


async def test_other_methods_are_told_which_there_are(door: Door) -> None:
    """Allow is complete, for a plain path and for one with parameters."""
    for path, allow in (
        ("/things", "GET, HEAD, OPTIONS, POST"),
        ("/things/1", "DELETE, GET, HEAD, OPTIONS"),
    ):
        response = await door.client.request("PATCH", path)

        assert response.status_code == 405
        assert response.json() == {"message": "Method not allowed"}
        assert response.headers["allow"] == allow
        assert (await door.client.options(path)).headers["allow"] == allow


async def test_head_is_get_without_a_body(door: Door) -> None:
    """The same status and headers."""
    response = await door.client.head("/things")

    assert response.status_code == 200
    assert int(response.headers["content-length"]) > 0


async def test_a_body_that_announces_itself_as_too_large_is_not_read() -> None:
    """413 before the first byte."""
    async with Door(body_limit=10).client as client:
        refused = await client.post("/things", content=b"x" * 11)
        taken = await client.post("/things", content=b"x" * 10)

    assert (refused.status_code, taken.status_code) == (413, 200)


async def test_a_bug_is_a_500_and_a_log_entry(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """The client learns the request id, the log the rest."""
    with caplog.at_level(logging.ERROR, "hooktape.api"):
        response = await door.get("/crash", {"x-request-id": "the-one"})

    assert response.status_code == 500
    assert response.json() == {"message": "An unexpected error occurred"}
    assert response.headers["x-request-id"] == "the-one"
    (record,) = caplog.records
    assert record.__dict__["request_id"] == "the-one"
    assert record.exc_info


async def test_a_bug_in_the_middle_of_an_answer_breaks_it_off(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an answer is never completed as if it were whole."""
    with caplog.at_level(logging.CRITICAL), pytest.raises(KeyError):
        await door.get("/late")


async def test_whoever_left_gets_no_answer(door: Door) -> None:
    """A client that went away is no error of ours."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": "/left", "headers": headers}
    await door.app(scope, receive, send)

    assert sent == []
    assert door.seen == [("GET", "/left", 499)]


async def test_answers_are_observed_by_route(door: Door) -> None:
    """The template of the path is reported, never the path."""
    for path in ("/things", "/things/1", "/team/things/2", "/nothing/at/all"):
        await door.get(path)
    await door.get("/things", {"host": "evil"})

    assert door.seen == [
        ("GET", "/things", 200),
        ("GET", "/things/{id}", 200),
        ("GET", "/things/{id}", 200),
        ("GET", "unrouted", 404),
        ("GET", "unrouted", 403),
    ]


async def test_other_protocols_pass_through(door: Door) -> None:
    """Only HTTP requests stop at the door; lifespan messages reach the application."""
    sent: list[str] = []
    messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await door.app({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

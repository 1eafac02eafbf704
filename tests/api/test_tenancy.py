"""Every route of the application against every kind of token.

The routes are those of the application itself, so a new one is covered from its first day. That
these tests can fail is shown by applications with a mistake.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from api.authentication import OPEN, Guard
from api.front_door import Headers, Permit
from api.responses import Json, RequestError
from api.routing import route
from tests.api.rbac_api import ALPHA, DEFAULT, MARK, SUPER, RbacApi, secrets, serving_rbac, teams

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE", "PUT")
MARKED = MARK.encode()
UNKNOWN = "b5f1e9c0-2a53-4a9c-9d9e-4c6fca1a7d11"


def templates(api: RbacApi) -> Iterator[str]:
    """The path of every route, its parameters named for the tables that they are about."""
    for each in api.routes:
        assert isinstance(each, Route)
        yield each.path.replace("-hooks/{id}", "-hooks/{event_hooks}")


def filled(template: str, ids: Mapping[str, str]) -> str:
    """A path with ids in place of its parameters."""
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda match: ids.get(match[1], UNKNOWN), template)


def paths(api: RbacApi, ids: Mapping[str, str]) -> Iterator[str]:
    return (filled(template, ids) for template in templates(api))


def new_ids(ids: Mapping[str, str]) -> dict[str, str]:
    """As many that nothing has."""
    return {name: "999999" if known.isdecimal() else str(uuid4()) for name, known in ids.items()}


def wrong(answer: httpx.Response, *expected: int) -> bool:
    """Not one of the expected answers, or one with more than a message in it."""
    if answer.status_code not in expected or MARKED in answer.content:
        return True
    return answer.request.method != "HEAD" and answer.json().keys() != {"message"}


async def without_token(api: RbacApi, token: str | None = None) -> list[str]:
    """What can be done by somebody whom nobody knows."""
    found = []
    async with api.client(token) as client:
        for path in paths(api, {}):
            for method in METHODS:
                if path in OPEN and method in ("GET", "HEAD"):
                    continue
                if wrong(await client.request(method, path), 401):
                    found.append(f"{method} {path}")
    return found


async def from_outside(api: RbacApi, token: str, prefix: str, ids: Mapping[str, str]) -> list[str]:
    """What a token can do in a workspace where it may do nothing.

    A workspace that does not exist must look the same.
    """
    found = []
    async with api.client(token) as client:
        for path in paths(api, ids):
            for method in METHODS:
                if path in OPEN:
                    continue
                answer = await client.request(method, f"{prefix}{path}")
                nowhere = await client.request(method, f"/nowhere{path}")
                same = answer.content == nowhere.content
                if wrong(answer, 403) or not (same or method == "HEAD"):
                    found.append(f"{method} {prefix}{path}")
    return found


async def from_inside(api: RbacApi, token: str, prefix: str, ids: Mapping[str, str]) -> list[str]:
    """What a token learns in its own workspace about what is in others, by their ids.

    What is there and what is not must look the same. Only one thing cannot: an id can be taken
    only once in the whole log, so whoever knows one, which nobody can guess, learns that it is.
    """
    found = []
    async with api.client(token) as client:
        for method, template in product(METHODS, templates(api)):
            path, fresh = filled(template, ids), new_ids(ids)
            answer = await client.request(method, f"{prefix}{path}")
            unknown = await client.request(method, f"{prefix}{filled(template, fresh)}")
            shown = {_plain(each, ids, fresh) for each in (answer, unknown)}
            taken = method == "PUT" and b"primary key violation" in answer.content
            told = [each for each in ids.values() if len(each) > 9 and each not in path]
            if (
                MARKED in answer.content
                or any(each in answer.text for each in told)
                or (len(shown) > 1 and not taken)
            ):
                found.append(f"{method} {prefix}{path}")
    return found


def _plain(answer: httpx.Response, *ids: Mapping[str, str]) -> tuple[int, bytes]:
    """An answer without the ids that were asked for, without new ones and without times."""
    text = re.sub(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", b"<id>", answer.content)
    for known in ids:
        text = re.sub(rb"\b%s\b" % known["id"].encode(), b"<id>", text)
    return answer.status_code, re.sub(rb"\b(\d{10}|[0-9a-f]{32})\b", b"<n>", text)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RbacApi]:
    async with serving_rbac(tmp_path) as served:
        yield served


async def test_nothing_is_open_without_a_token(api: RbacApi) -> None:
    """401 for every path and method but the two that orchestrators ask."""
    assert len(api.routes) > 100
    assert await without_token(api) == []
    assert await without_token(api, "a-token-that-nobody-has") == []


async def test_the_super_admin_may_do_everything(api: RbacApi) -> None:
    """No path refuses the right token, with a workspace or without."""
    await teams(api)
    async with api.client(SUPER) as client:
        for path in paths(api, {}):
            for method in METHODS:
                for prefix in ("", "/beta"):
                    answer = await client.request(method, f"{prefix}{path}")

                    assert answer.status_code not in (401, 403), (method, prefix, path, answer.text)


@pytest.mark.parametrize("workspace", ["beta", "default"])
async def test_a_token_is_worth_nothing_elsewhere(api: RbacApi, workspace: str) -> None:
    """403 for whatever is there and whatever is not, and nothing is said about it."""
    await teams(api)
    ids = await secrets(api, workspace)

    assert await from_outside(api, ALPHA, f"/{workspace}", ids) == []
    if workspace == "default":
        assert await from_outside(api, ALPHA, "", ids) == []


@pytest.mark.parametrize("workspace", ["beta", "default"])
async def test_a_token_learns_nothing_of_others_at_home(api: RbacApi, workspace: str) -> None:
    """In its own workspace, the things of others look like things that do not exist."""
    await teams(api)
    ids = await secrets(api, workspace)

    assert await from_inside(api, ALPHA, "/alpha", ids) == []


async def test_the_default_workspace_is_one_among_others(api: RbacApi) -> None:
    """A token for it sees and rules nothing beyond, although its hooks would."""
    await teams(api)
    ids = await secrets(api, "beta")

    assert await from_inside(api, DEFAULT, "", ids) == []


async def test_a_route_that_nobody_guards_is_found(tmp_path: Path) -> None:
    """The test of all routes fails for an application with a hole in its guard."""

    def forgetful(guard: Guard) -> Permit:
        def careless(scope: Scope, headers: Headers) -> RequestError | None:
            return None if scope["path"] == "/forgotten" else guard(scope, headers)

        return careless

    more = [route("/forgotten", GET=_message)]
    async with serving_rbac(tmp_path, more=more, around=forgetful) as api:
        assert "GET /forgotten" in await without_token(api)


async def test_a_route_that_tells_too_much_is_found(tmp_path: Path) -> None:
    """And for one whose answer holds things of all workspaces."""
    holder: dict[str, Callable[[], Any]] = {}

    async def everything(_request: Request) -> Response:
        return Json({"names": holder["names"]()})

    async with serving_rbac(tmp_path, more=[route("/consumers/names", GET=everything)]) as api:
        rows = api.admin.view.each
        holder["names"] = lambda: [row.entity["username"] for row in rows("consumers", "")]
        await teams(api)
        ids = await secrets(api, "beta")

        assert await from_inside(api, ALPHA, "/alpha", ids) == ["GET /alpha/consumers/names"]


async def _message(_request: Request) -> Response:
    return Json({"message": "come in"})

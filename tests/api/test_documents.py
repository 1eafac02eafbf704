"""The page at `/docs` and what it is made of."""

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.rbac_api import RbacApi, serving_rbac

FILES = Path(__file__).parents[2] / "api" / "docs"
SCRIPT = "openapi-explorer.min.js"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RbacApi]:
    """The whole application, with RBAC enforced."""
    async with serving_rbac(tmp_path) as served:
        yield served


def test_what_is_vendored_is_what_was_published() -> None:
    """The digest beside it holds, and its licence is there."""
    told = (FILES / "VENDORED.md").read_text()
    (digest,) = re.findall(r"sha256:(\w{64})", told)

    assert hashlib.sha256((FILES / SCRIPT).read_bytes()).hexdigest() == digest
    assert "Apache License" in (FILES / "openapi-explorer.LICENSE").read_text()


async def test_the_page_needs_nothing_from_elsewhere(api: RbacApi) -> None:
    """Without a token and under a policy that allows this service alone."""
    page = await api.ask(None, "GET", "/docs")
    script = await api.ask(None, "GET", f"/docs/{SCRIPT}")
    policy = dict(
        part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";")
    )

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r'(?:src|href|url)="([^"]*)"', page.text) == [
        "data:,",
        f"/docs/{SCRIPT}",
        "/openapi.json",
    ]
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert script.content == (FILES / SCRIPT).read_bytes()
    assert script.headers["x-content-type-options"] == "nosniff"


async def test_a_page_that_is_known_is_not_sent_again(api: RbacApi) -> None:
    """Its tag is enough, and a HEAD tells it."""
    head = await api.ask(None, "HEAD", "/docs")
    again = await api.ask(
        None, "GET", "/docs", headers={"If-None-Match": f'"x", {head.headers["etag"]}'}
    )

    assert again.status_code == 304


async def test_nothing_else_is_served_from_there(api: RbacApi) -> None:
    """What lies beside the page stays where it is."""
    answers = [
        await api.ask("the-super-admins-token", "GET", f"/docs/{name}")
        for name in ("VENDORED.md", "index.html", "..%2fopenapi.py")
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]

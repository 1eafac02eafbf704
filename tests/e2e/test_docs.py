"""The page at `/docs`, in a browser."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio.to_thread
import pytest

from tests.e2e.browser import browsing, program
from tests.service import serving

ROOT = "document.querySelector('openapi-explorer').shadowRoot"
READY = """
new Promise(done => {
    const look = () => {
        const found = document.querySelector('openapi-explorer')?.shadowRoot
            ?.querySelectorAll('.nav-bar-path').length
        found ? done(found) : setTimeout(look, 20)
    }
    look()
})"""


TRY = """
fetch('/consumers', {method: 'POST', body: new URLSearchParams({username: 'ada'})})
    .then(answer => answer.status)"""


class Seen(NamedTuple):
    """What there was to see, and what became of a request that the page sent."""

    entries: int
    text: str
    requests: list[str]
    complaints: list[str]
    tried: int


@pytest.fixture
def browser() -> str:
    """Where Chromium is."""
    return program()


def look_at(url: str, browser: str, profile: Path) -> Seen:
    """The page at `url`, once it shows something."""
    with browsing(browser, profile) as page:
        page.open(f"{url}/docs")
        entries = page.evaluate(READY)
        text = page.evaluate(f"{ROOT}.textContent")
        seen = list(page.requests), list(page.complaints)
        return Seen(entries, text, *seen, page.evaluate(TRY))


@pytest.mark.parametrize("enforce_rbac", ["off", "on"])
async def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(
    tmp_path: Path, browser: str, enforce_rbac: str
) -> None:
    """With its policy in force, without a token, without a complaint in the console.

    What it sends to try things out is let in by the front door; with RBAC it needs a token then.
    """
    settings: dict[str, Any] = {"enforce_rbac": enforce_rbac, "admin_token": "its-token"}
    async with serving(tmp_path / "data", **settings) as service:
        document = await service.get("/openapi.json")
        seen = await anyio.to_thread.run_sync(look_at, service.url, browser, tmp_path / "profile")
    operations = [
        operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]

    assert seen.complaints == []
    assert seen.tried == (201 if enforce_rbac == "off" else 401)
    assert {urlsplit(url).path for url in seen.requests if not url.startswith("data:")} == {
        "/docs",
        "/docs/openapi-explorer.min.js",
        "/openapi.json",
    }
    assert all(url.startswith((service.url, "data:")) for url in seen.requests)
    assert seen.entries >= len(operations)
    assert [path for path in document["paths"] if path not in seen.text] == []

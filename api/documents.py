"""`/openapi.json` and `/docs`: the API described by itself, for programs and for people.

The page is served whole from `api/docs`, so it works without a network; what it loads, and nothing
else, is allowed by its Content-Security-Policy. Everything here is the same for all who ask and
holds no secret.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.openapi.document import document
from api.routing import route

_FILES: Final = Path(__file__).parent / "docs"
_SCRIPT: Final = "openapi-explorer.min.js"

# The page sets styles on its elements, which a policy can only allow for all inline styles.
_PAGE_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Documents:
    """`routes` are asked for once, by the first request for the document."""

    def __init__(self, routes: Callable[[], Sequence[BaseRoute]], version: str) -> None:
        self._described = _Content(
            "application/json", lambda: _encoded(document(routes(), version)), {}
        )
        self._page = _file("index.html", "text/html; charset=utf-8")
        self._script = _file(_SCRIPT, "text/javascript; charset=utf-8")

    def routes(self) -> list[Route]:
        return [
            route("/openapi.json", GET=self.openapi),
            route("/docs", GET=self.page),
            route(f"/docs/{_SCRIPT}", GET=self.script),
        ]

    async def openapi(self, request: Request) -> Response:
        """This document."""
        return await self._described.answer(request)

    async def page(self, request: Request) -> Response:
        """This document as a page to read and to try things out with."""
        return await self._page.answer(request)

    async def script(self, request: Request) -> Response:
        """The program of that page."""
        return await self._script.answer(request)


class _Content:
    """Bytes that are made once, when somebody asks for them, and then stay."""

    def __init__(
        self, content_type: str, make: Callable[[], bytes], headers: Mapping[str, str]
    ) -> None:
        self._make = make
        self._lock = anyio.Lock()
        self._headers = {"content-type": content_type, "cache-control": "no-cache", **headers}
        self._body: bytes | None = None

    async def answer(self, request: Request) -> Response:
        """The bytes, or 304 for somebody who has them."""
        async with self._lock:
            if self._body is None:
                body = await anyio.to_thread.run_sync(self._make)
                self._headers["etag"] = f'"{blake2b(body, digest_size=16).hexdigest()}"'
                self._body = body
        known = request.headers.get("if-none-match", "")
        if self._headers["etag"] in (each.strip() for each in known.split(",")):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


def _file(name: str, content_type: str) -> _Content:
    return _Content(content_type, (_FILES / name).read_bytes, _PAGE_HEADERS)


def _encoded(described: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(described)

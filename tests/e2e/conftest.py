"""A service and a receiver for every test, and a shell to type curl lines into."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.receiver import Receiver
from tests.service import Completed, Service, serving, shell

ADMIN = (
    "http://{HOSTNAME}:8001",
    "http://localhost:8001",
    "http://localhost:31001",
    "https://api.kong.lan:8444",
    "$ADMIN",
)
TARGET = (
    "{WEBHOOK_URL}",
    "https://hooks.slack.com/services/TTTTTTTTT/YYYYYYYYYYY/xxxxxxxxxxxxxxxxxx",
    "https://webhook.site/…",
    "http://<host>/admin-1created",
    "<endpoint>",
    "$SLACK",
    "$URL",
)
"""What documents write for the Admin API and for a receiver: all that is ever replaced in a line.

What a shell would replace, it does: `USER` is ubuntu and `WORKSPACE` team-a.
"""

Type = Callable[[str], Awaitable[Completed]]
Curl = Callable[[str], Awaitable[Any]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """As for all tests, but shared, so that a module may share a service."""
    return "asyncio"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "data") as service:
        yield service


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def type_in(service: Service, receiver: Receiver, tmp_path: Path) -> Type:
    """Types a documented line into a shell, its two addresses replaced; the target is `/hook`."""

    async def type_in(line: str) -> Completed:
        for written in ADMIN:
            line = line.replace(written, service.url)
        for written in TARGET:
            line = line.replace(written, f"{receiver.url}/hook")
        return await shell(line, tmp_path, {"USER": "ubuntu", "WORKSPACE": "team-a"})

    return type_in


@pytest.fixture
def curl(type_in: Type) -> Curl:
    """Types a line as above, insists on a 201, or a 2xx without `-i`, and answers with the JSON."""

    async def curl(line: str) -> Any:
        done = await type_in(line)
        head, blank, body = done.stdout.rpartition("\r\n\r\n")

        assert done.code == 0, done.stderr
        if blank:
            assert head.startswith(("HTTP/1.1 201 Created\r\n", "HTTP/1.1 200 OK\r\n"))
        return httpx.Response(200, text=body).json() if body else None

    return curl

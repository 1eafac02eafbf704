"""A shell to type documented lines into, and one service for all of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.documents.lines import VARIABLES, Curl, Type, addressed
from tests.receiver import Receiver
from tests.service import Completed, Service, serving, shell


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Starting a service takes longer than any of these tests, so they share one."""
    async with serving(tmp_path_factory.mktemp("shared") / "data") as service:
        yield service


@pytest.fixture
async def service(running: Service) -> AsyncIterator[Service]:
    """The shared service, left without hooks and people, and with an empty log."""
    yield running
    for path in ("/event-hooks", "/consumers", "/admins"):
        for entity in (await running.get(path))["data"]:
            await running.client.delete(f"{path}/{entity['id']}")
    running.forget()


@pytest.fixture
def type_in(service: Service, receiver: Receiver, tmp_path: Path) -> Type:
    """Types a line into a shell; the target is `/hook` at the receiver."""

    async def type_in(line: str) -> Completed:
        ours = addressed(line, service.url, f"{receiver.url}/hook")
        return await shell(ours, tmp_path, VARIABLES)

    return type_in


@pytest.fixture
def curl(type_in: Type) -> Curl:
    """Types a line as above, insists that it succeeds, and answers with the JSON."""

    async def curl(line: str) -> Any:
        done = await type_in(line)
        head, included, body = done.stdout.rpartition("\r\n\r\n")

        assert done.code == 0, done.stderr
        if included:
            assert head.startswith(("HTTP/1.1 201 Created\r\n", "HTTP/1.1 200 OK\r\n"))
        return httpx.Response(200, text=body).json()

    return curl

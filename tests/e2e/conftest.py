"""A service and a receiver for every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.receiver import Receiver
from tests.service import Service, serving


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

"""Fixtures that every test may use."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The service runs on asyncio (aiosqlite does); uvloop has its own tests."""
    return "asyncio", {"debug": False}


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """A blocking call on the event loop made by our code is a failure in every test."""
    with blockbuster_ctx(["eventstore", "projections", "delivery", "api"]):
        yield

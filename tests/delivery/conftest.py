"""Fixtures for tests of the consumer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.delivery.world import Receiver, World, delivering


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def world(tmp_path: Path, receiver: Receiver) -> AsyncIterator[World]:
    """A running consumer of a fresh log."""
    async with delivering(tmp_path, receiver) as world:
        yield world

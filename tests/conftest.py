"""Fixtures that every test may use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The service runs on asyncio (aiosqlite does); uvloop has its own tests."""
    return "asyncio", {"debug": False}

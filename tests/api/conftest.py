"""Fixtures of the Admin API's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.admin_api import Api, serving


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The API of a fresh log."""
    async with serving(tmp_path) as served:
        yield served

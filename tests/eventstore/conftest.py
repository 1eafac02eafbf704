"""A log on a real disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore import EventLog


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a log can be made. It does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
async def log(directory: Path) -> AsyncIterator[EventLog]:
    async with EventLog.open(directory) as log:
        yield log

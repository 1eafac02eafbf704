"""A log on a real disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from eventstore import EventLog

# A busy machine is no failure: what is slow shows in the benchmarks.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a log can be made. It does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
async def log(directory: Path) -> AsyncIterator[EventLog]:
    async with EventLog.open(directory) as log:
        yield log

"""A receiver, and what only some machines let a test do: there it may not be skipped silently."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest

from tests.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def strace() -> str:
    """The tracer that makes system calls fail."""
    path = shutil.which("strace")
    if path is None:
        message = "strace is not installed"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    return path

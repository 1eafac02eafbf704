"""A receiver, and what only some machines let a test do: there it may not be skipped silently."""

import os
import shutil
from collections.abc import AsyncIterator
from typing import NoReturn

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
        skip("strace is not installed")
    return path


def skip(reason: str) -> NoReturn:
    """Skip the test, or fail where everything must be there."""
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)

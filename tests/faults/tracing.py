"""Makes the disk under a service fail, by means of strace."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import anyio
import pytest

from tests.service import Service, until


def find() -> str:
    """Where strace is. Skips the test if it is nowhere."""
    return shutil.which("strace") or _skip("strace is not installed")


def _syncs_of_the_log(data: Path) -> tuple[str, ...]:
    """What the tracer is to look at: nothing but the calls that make the log durable."""
    return ("-f", "-P", str(data / "log.db-wal"), "-e", "trace=fdatasync,fsync")


def failing_once(strace: str, data: Path) -> Sequence[str]:
    """A command that runs a service whose log fails at the 20th COMMIT, and not again for long.

    The tracer keeps to the background, so that the service is the process that is started.
    """
    return (
        *(strace, "-D", "-qq", "-o", str(data.with_suffix(".strace")), *_syncs_of_the_log(data)),
        *("-e", "inject=fdatasync,fsync:error=EIO:when=20"),
    )


@asynccontextmanager
async def failing(strace: str, service: Service) -> AsyncIterator[None]:
    """Every COMMIT of the log fails within."""
    notes = service.directory.with_suffix(".strace")
    command = [strace, "-p", str(service.process.pid), *_syncs_of_the_log(service.directory)]
    command += ["-e", "inject=fdatasync,fsync:error=EIO"]
    with notes.open("wb") as stderr:
        process = await anyio.open_process(
            command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
        )
    try:
        await until(lambda: process.returncode is not None or b"attached" in notes.read_bytes())
        if process.returncode is not None:
            _skip(f"this system lets nobody trace a running process: {notes.read_text()}")
        yield
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()  # lets the service go on by itself
            await process.aclose()


def _skip(reason: str) -> NoReturn:
    """Skip the test, or fail where everything must be there."""
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)

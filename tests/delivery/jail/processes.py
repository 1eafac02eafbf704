"""Looks at processes from outside, as the system sees them."""

import os
from pathlib import Path

import anyio

LOOPS = [("asyncio", {"use_uvloop": loop}) for loop in (False, True)]
"""The service runs on uvloop where there is one, and processes differ between the two."""


async def until_gone(pid: int) -> None:
    """Wait for the end of any process, child or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(10):
            await anyio.wait_readable(handle)
    finally:
        os.close(handle)


def is_reaped(pid: int) -> bool:
    """Whether not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


def children() -> set[int]:
    """The processes that this one started and has not reaped."""
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def open_files(pid: str = "self") -> dict[str, str]:
    """What the descriptors of a process lead to, by their number."""
    entries = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return {entry.name: os.readlink(entry) for entry in entries}


def limits_of(pid: int) -> dict[str, list[str]]:
    """Soft and hard value by the names that proc(5) gives them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:25].strip(): line[25:].split()[:2] for line in lines}

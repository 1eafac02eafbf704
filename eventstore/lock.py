"""One writing process per directory: two writers can corrupt a WAL before SQLite 3.51.3."""

import fcntl
import os
from pathlib import Path

from eventstore.errors import LogLocked


def acquire(directory: Path) -> int:
    """Lock the directory, made if need be, and return the descriptor that holds the lock.

    The lock lasts until `release` or the end of the process. The file in it names the owner and is
    never deleted: deleting it would let two processes hold "the" lock, one on a file without name.
    Raises LogLocked.
    """
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(directory.parent)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise LogLocked(
            f"{directory} is in use by process {owner or 'unknown'}: one process per data directory"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def release(descriptor: int) -> None:
    """Let the next process in."""
    os.close(descriptor)


def _sync(directory: Path) -> None:
    """Make a new entry of the directory survive a power cut, as all that will be in it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

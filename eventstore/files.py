"""Files beside the databases: written whole or not at all, and on disk when a call returns."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_only(path: Path) -> sqlite3.Connection:
    """A database for reading, also while another process writes it. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
    )
    connection.executescript("PRAGMA query_only = 1; PRAGMA trusted_schema = 0;")
    return connection


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name at the end unless an exception ended it."""
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield draft
        sync(draft)
        draft.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def write(path: Path, content: bytes) -> None:
    """A new file. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """The file with this content, or as it was."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    write(draft, content)
    draft.rename(path)
    sync(path.parent)


def sync(directory: Path) -> None:
    """Make new names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

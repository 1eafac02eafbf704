"""Looks a data directory over, while the service runs or not, and changes nothing.

What the rows of events, tiles and checkpoints say is left to `audit verify`; this is about the
files around them, and about the machine they are on.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

import msgspec

from eventstore import erasing, files, reading, schema, segment
from eventstore.archive import Archive
from eventstore.errors import LogDamaged
from eventstore.keys import Digests

State = Literal["ok", "warning", "failure"]

SAFE_SQLITE: Final = (3, 51, 3)
"""Before it, two connections that write and checkpoint a WAL can damage the file."""

_SCARCE: Final = 1024**3
_NOTHING: Final = 64 * 1024**2
_AHEAD_US: Final = 60_000_000
_BORN_US: Final = 1_735_689_600_000_000  # 2025: no log of ours is older
_NETWORK: Final = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre")
_DATABASES: Final = ("log.db", "keys.db", "audit.db", "state.db", "view.db")
_REMEDIES: Final = {
    "view.db": "stop the service and delete it: it is made again from the log",
    "state.db": "stop the service and delete it: deliveries go on from what the log says, and some"
    " are repeated",
}
_RESTORE: Final = "restore the directory from a back-up"

_STREAMS = (
    "SELECT name FROM stream AS head LEFT JOIN"
    " (SELECT stream, max(version) AS version, max(seq) AS seq FROM event GROUP BY stream) AS found"
    " ON found.stream = head.name WHERE head.last_seq >= ?"
    " AND (found.version IS NOT head.version OR found.seq IS NOT head.last_seq)"
)
_IDENTITIES = (
    "SELECT count(*) FROM identity WHERE length(digest) <> 16 OR length(request) <> 16"
    " OR first < 0 OR count < 0 OR first + count > ? + 1"
)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at, and how it is in one line."""

    check: str
    state: State
    text: str


def examine(directory: Path) -> Iterator[Finding]:
    """Everything, one finding after another. Reads all of the files; raises nothing."""
    yield _sqlite()
    yield _clock()
    if not directory.is_dir():
        yield Finding("files", "warning", f"{directory} is not there: the first start makes it")
        return
    yield _disk(directory)
    yield _file_system(directory, Path("/proc/mounts"))
    yield _permissions(directory)
    if not (directory / "log.db").exists():
        yield Finding(
            "files", "warning", f"there is no log in {directory}: the first start makes it"
        )
        return
    for name in _DATABASES:
        if (directory / name).exists():
            yield _guarded(
                f"integrity of {name}", _REMEDIES.get(name, _RESTORE), _integrity, directory / name
            )
    yield _guarded("log and keys", _RESTORE, _keys, directory)
    yield _guarded("log", _RESTORE, _log, directory)
    yield _guarded("archive", _RESTORE, _archive, directory)
    yield _guarded("marks", _RESTORE, _marks, directory)


def _guarded(
    check: str, remedy: str, look: Callable[[Path], tuple[State, str]], path: Path
) -> Finding:
    try:
        return Finding(check, *look(path))
    except (sqlite3.Error, OSError, LogDamaged, TypeError, ValueError) as error:
        return Finding(check, "failure", f"{error}; {remedy}")


def _sqlite() -> Finding:
    text = f"version {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        safe = ".".join(map(str, SAFE_SQLITE))
        text += f"; {safe} and later are safe even if another program writes into the files"
        return Finding("sqlite", "warning", text)
    return Finding("sqlite", "ok", text)


def _clock() -> Finding:
    if time.time_ns() // 1000 < _BORN_US:
        return Finding("clock", "failure", f"it is not {time.strftime('%Y-%m-%d')}: set the clock")
    return Finding("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def _disk(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    state: State = "failure" if free < _NOTHING else "warning" if free < _SCARCE else "ok"
    return Finding("disk", state, f"{free // 1024**2} MiB free")


def _file_system(directory: Path, mounts: Path) -> Finding:
    """SQLite's locks and shared memory need a file system of this machine."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return Finding("file system", "ok", "unknown")
    place = directory.resolve()
    holding = [(point, kind) for _, point, kind, *_ in lines if place.is_relative_to(point)]
    _, kind = max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))
    if kind.startswith(_NETWORK):
        return Finding(
            "file system", "failure", f"{kind} is a network file system: use a local one"
        )
    return Finding("file system", "ok", kind)


def _permissions(directory: Path) -> Finding:
    """Bodies hold secrets, and keys.db makes digests worth something."""
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return Finding("permissions", "failure", f"{directory} cannot be written by this user")
    inside = [path for path in directory.rglob("*") if path.is_file()]
    if shut := [path.name for path in inside if not os.access(path, os.R_OK | os.W_OK)]:
        return Finding("permissions", "failure", f"cannot be written by this user: {shut[0]}")
    open_ones = [path.name for path in inside if path.stat().st_mode & 0o077]
    if directory.stat().st_mode & 0o077 and open_ones:
        return Finding("permissions", "warning", f"others can read {', '.join(sorted(open_ones))}")
    return Finding("permissions", "ok", "nobody else can read the files")


def _integrity(path: Path) -> tuple[State, str]:
    with closing(files.read_only(path)) as connection:
        connection.execute("PRAGMA cell_size_check = 1")
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise LogDamaged("; ".join(" ".join(line.split()) for line in found))
    return "ok", f"{path.stat().st_size} bytes, every page as it should be"


def _keys(directory: Path) -> tuple[State, str]:
    with (
        closing(files.read_only(directory / "log.db")) as log,
        closing(files.read_only(directory / "keys.db")) as keys,
    ):
        log_id = str(log.execute(schema.META, ("log_id",)).fetchone()[0])
        (check,) = log.execute(schema.META, ("key_check",)).fetchone()
        (secret,) = keys.execute("SELECT secret FROM key WHERE name = 'digest'").fetchone()
    if Digests(secret).check(log_id) != check:
        raise LogDamaged("keys.db belongs to another log")
    return "ok", f"log {log_id}"


def _log(directory: Path) -> tuple[State, str]:
    """What the tables beside the events say of them."""
    with closing(files.read_only(directory / "log.db")) as log:
        log.execute("BEGIN")  # so that all of it is about one moment
        first, newest = reading.first(log), log.execute(schema.NEWEST).fetchone()
        head, time_us = newest[:2] if newest else (0, 0)
        (count,) = log.execute("SELECT count(*) FROM event WHERE seq >= ?", (first,)).fetchone()
        if count != max(0, head + 1 - first):
            raise LogDamaged(f"{head + 1 - first - count} positions are missing")
        wrong = [row[0] for row in log.execute(_STREAMS + " LIMIT 3", (first,))]
        if wrong:
            raise LogDamaged(f"stream {wrong[0]} does not end where its events do")
        (strange,) = log.execute(_IDENTITIES, (head,)).fetchone()
        if strange:
            raise LogDamaged(f"{strange} idempotency keys stand for what is not in the log")
    if time_us > time.time_ns() // 1000 + _AHEAD_US:
        return "warning", "the newest event is of the future: the clock was set back since"
    return "ok", f"positions {first} to {head}"


def _archive(directory: Path) -> tuple[State, str]:
    with closing(files.read_only(directory / "log.db")) as log:
        log_id = str(log.execute(schema.META, ("log_id",)).fetchone()[0])
    found = Archive(directory / "archive", log_id).segments()
    for each in found:
        with (directory / "archive" / each.name).open("rb") as file:
            if segment.file_digest(file) != each.digest:
                raise LogDamaged(f"{each.name} is not the file that its manifest names")
    return "ok", f"{len(found)} files"


def _marks(directory: Path) -> tuple[State, str]:
    with closing(files.read_only(directory / "log.db")) as log:
        if restored := reading.restored(log):
            return "warning", f"restored to {restored}: start once with --accept-repeats"
        if erasing.unfinished(log):
            return "warning", "an erasure is not finished: a start of the service does that"
    return "ok", "nothing unfinished"

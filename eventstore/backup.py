"""Back-ups of a data directory, made beside the running service, and what is in them.

A back-up is a directory: log.db, keys.db, audit.db and archive/ as they are in a data directory,
and manifest.json with size and SHA-256 of every file. It gets its name when all of it was written,
read again and checked; what an interrupted one leaves has another name and no manifest. view.db
and state.db are made again from the log, and are not in it.

Whoever holds a back-up holds the bodies and the keys as they were: an erasure does not reach it.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from eventstore import evidence, files, reading, schema, tiles
from eventstore.errors import LogDamaged
from eventstore.keys import Digests
from eventstore.segment import file_digest

FORMAT: Final = "hooktape-backup/1"
MANIFEST: Final = "manifest.json"
ARCHIVE: Final = "archive"

_DATABASES: Final = ("audit.db", "log.db", "keys.db")
_TRIES: Final = 5


class File(msgspec.Struct, frozen=True):
    """A file by its path inside the back-up."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`first` and `head` are the first and the last position; `leaf` is the hash at the last."""

    format: str
    log: str
    first: int
    head: int
    leaf: str
    made: str
    files: list[File]


def backup(directory: Path, target: Path) -> Manifest:
    """Copy the log in `directory`, with all that cannot be made again, into the new `target`.

    A running service goes on meanwhile. Raises FileExistsError, LogDamaged for a log or a copy that
    is not what it should be, OSError and sqlite3.Error; then there is no back-up.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already: every back-up has a name of its own")
    if not (directory / "log.db").exists():
        raise LogDamaged(f"there is no log in {directory}")
    with files.new_directory(target) as draft:
        _copy_together(directory, draft)
        # After the log, so that whatever it lacks is here; and the keys of these files last.
        _copy_archive(directory / ARCHIVE, draft / ARCHIVE)
        _copy_database(directory / "keys.db", draft / "keys.db")
        manifest = _examined(draft)
        files.write(draft / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def load(backup: Path) -> Manifest:
    """What a back-up holds by its own account. Raises LogDamaged."""
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise LogDamaged(f"{backup} is no complete back-up: {error}") from error
    if manifest.format != FORMAT:
        raise LogDamaged(f"{backup} is a back-up of another format: {manifest.format}")
    return manifest


def copy_out(backup: Path, manifest: Manifest, target: Path) -> None:
    """Copy all files into an empty directory. Raises LogDamaged if one is not the one named."""
    for file in manifest.files:
        path = target / file.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy_file(backup / file.name, path)
        except FileNotFoundError as error:
            raise LogDamaged(f"{backup} lacks {file.name}") from error
        if _described(target, path) != file:
            raise LogDamaged(f"{backup / file.name} is not the file that the manifest names")
        files.sync(path.parent)


def checked(directory: Path, name: str) -> sqlite3.Connection:
    """A database that nobody has open, for reading. Raises LogDamaged if it is damaged."""
    path = directory / name
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
    if problems != ["ok"]:
        connection.close()
        raise LogDamaged(f"{path}: {problems[0]}")
    return connection


def _copy_together(directory: Path, draft: Path) -> None:
    """log.db and an audit.db that ends within it: it is copied first, and the log may move on.

    Only a compaction between the two can keep them from fitting.
    """
    for _ in range(_TRIES):
        if (directory / "audit.db").exists():
            _copy_database(directory / "audit.db", draft / "audit.db")
        _copy_database(directory / "log.db", draft / "log.db")
        if _fit(draft):
            return
    raise LogDamaged(f"audit.db in {directory} does not fit the log: see `hooktape audit verify`")


def _fit(draft: Path) -> bool:
    if not (draft / "audit.db").exists():
        return True
    with closing(checked(draft, "log.db")) as log, closing(checked(draft, "audit.db")) as audit:
        newest = log.execute(schema.NEWEST).fetchone()
        return reading.first(log) - 1 <= tiles.size(audit) <= (newest[0] if newest else 0)


def _copy_database(source: Path, target: Path) -> None:
    """In one read transaction: whatever is committed meanwhile is not in the copy."""
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(files.read_only(source)) as connection, closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)


def _copy_archive(source: Path, target: Path) -> None:
    """Segments are never changed; a manifest is there when its segment is complete."""
    if not source.exists():
        return
    target.mkdir(mode=0o700)
    for manifest in sorted(source.glob("*.json")):
        segment = source / manifest.with_suffix(".jsonl.gz").name
        _copy_file(segment, target / segment.name)
        _copy_file(manifest, target / manifest.name)
    files.sync(target)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as taken, target.open("xb") as written:
        os.fchmod(written.fileno(), 0o600)
        shutil.copyfileobj(taken, written, 1024 * 1024)
        written.flush()
        os.fsync(written.fileno())


def _examined(draft: Path) -> Manifest:
    """Read everything again. Raises LogDamaged."""
    for name in _DATABASES:
        if (draft / name).exists():
            checked(draft, name).close()
    with closing(checked(draft, "log.db")) as log, closing(checked(draft, "keys.db")) as keys:
        log_id = str(log.execute(schema.META, ("log_id",)).fetchone()[0])
        (check,) = log.execute(schema.META, ("key_check",)).fetchone()
        (secret,) = keys.execute("SELECT secret FROM key WHERE name = 'digest'").fetchone()
        if Digests(secret).check(log_id) != check:
            raise LogDamaged("keys.db belongs to another log than log.db")
        first, newest = reading.first(log), log.execute(schema.NEWEST).fetchone()
        head = newest[0] if newest else 0
        if newest:
            evidence.page(log, head - 1, head)
        return Manifest(
            format=FORMAT,
            log=log_id,
            first=first,
            head=head,
            leaf=newest[2].hex() if newest else "",
            made=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            files=[_described(draft, path) for path in _files(draft)],
        )


def _files(draft: Path) -> Iterator[Path]:
    yield from (draft / name for name in _DATABASES if (draft / name).exists())
    yield from sorted((draft / ARCHIVE).glob("*"))


def _described(root: Path, path: Path) -> File:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return File(path.relative_to(root).as_posix(), size, file_digest(file))

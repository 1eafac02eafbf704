"""What was compacted away, in files: `archive/<first position>.jsonl.gz` with a manifest each.

A segment counts from the moment its manifest is there, which is written last, after the file was
fsynced, read again and compared with the log. What a crash leaves behind before that is written
anew. Reading checks size, SHA-256 and every body digest; an archive that was tampered with is
refused with LogDamaged.

Bodies are sealed with keys of keys.db, which lies beside the archive (see subject_keys.py): forget
the key, and a body that was erased is unreadable in the archive, without touching the file.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from eventstore import evidence, files, segment
from eventstore.errors import KeyForgotten, LogDamaged, Truncated
from eventstore.events import Segment
from eventstore.evidence import Evidence
from eventstore.records import Kind, RecordedEvent
from eventstore.segment import Line
from eventstore.subject_keys import Owner, SubjectKeys

Progress = Callable[[int], None]
"""`progress(done)`: so many events more."""

EVENTS: Final = 100_000
"""Events in a segment."""

_SALT: Final = 32
_SUFFIX: Final = ".jsonl.gz"
_FORMAT: Final = "hooktape-archive/1"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`leaves` is the SHA-256 over the leaf hashes of all events, one after another."""

    format: str
    log: str
    segment: Segment
    leaves: str


class Archive:
    """The segments in a directory of their own. Its functions block: call them in a thread."""

    def __init__(
        self,
        directory: Path,
        log_id: str,
    ) -> None:
        self._directory = directory
        self._log_id = log_id
        self._keys = directory.with_name("keys.db")

    def segments(self) -> list[Segment]:
        """All that count, by position. Raises LogDamaged for those of another log."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            manifest = self._manifest(path)
            if manifest.log != self._log_id:
                raise LogDamaged(f"{path} is of log {manifest.log}, not {self._log_id}")
            found.append(manifest.segment)
        return found

    def write(
        self, log: Path, after: int, upto: int, progress: Progress = lambda _: None
    ) -> Segment:
        """Put (after, upto] of the log into one segment: there already, or written and checked.

        Raises LogDamaged where the log or the written file is not what it should be, and OSError.
        """
        path = self._path(after + 1)
        manifest = path.with_name(f"{after + 1:012}.json")
        with (
            closing(files.read_only(log)) as connection,
            SubjectKeys.open(self._keys) as keys,  # on disk before the manifest counts
        ):
            if manifest.exists() and (
                known := self._known(manifest, connection, keys, after, upto)
            ):
                progress(upto - after)
                return known
            self._prepare(path, manifest)
            with segment.writing(path) as writer:
                for page in _pages(connection, after, upto):
                    writer.add([_encode(each, keys) for each in page])
                    progress(len(page))
            files.sync(self._directory)
            written = Segment(path.name, after + 1, upto, writer.size, writer.digest)
            leaves = self._compare(written, connection, keys)
        made = Manifest(_FORMAT, self._log_id, written, leaves)
        files.replace(manifest, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
        return written

    def discard(self, first: int) -> None:
        """Take back the segments from position `first` on: those events stay in the log."""
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            if path.name >= f"{first:012}":
                path.with_name(path.name.removesuffix(_SUFFIX) + ".json").unlink(missing_ok=True)
                path.unlink()

    def read(self, after: int, limit: int = 1000) -> list[RecordedEvent]:
        """Archived events after a position, in order; an empty page where the archive ends.

        Raises Truncated when the archive does not go back so far, and LogDamaged.
        """
        page: list[RecordedEvent] = []
        for event in self.events(after):
            page.append(event)
            if len(page) == limit:
                break
        return page

    def events(
        self, after: int = 0, *, kinds: Collection[Kind] | None = None
    ) -> Iterator[RecordedEvent]:
        """All archived events (of some kinds) after a position, as they would come from the log.

        A body that cannot be read any more is None, as in the log. Raises like `read`.
        """
        with SubjectKeys.open(self._keys) as keys:
            for line in self.lines(after):
                if kinds is not None and line.columns[6] not in kinds:
                    continue
                yield RecordedEvent(*line.columns, _body(line, keys))

    def lines(self, after: int = 0) -> Iterator[Line]:
        """The lines themselves, checked."""
        expected = after + 1
        for each in self.segments():
            if each.last < expected:
                continue
            if each.first > expected:
                raise Truncated(each.first)
            for line in self._lines(each):
                if line.seq == expected:
                    yield line
                    expected += 1

    def check(self, leaf: Callable[[int], bytes | None]) -> Iterator[str]:
        """What is wrong with the files, one line each, with positions; nothing if they are intact.

        `leaf` is the audit's hash of an event by its position, None where it has none.
        """
        try:
            segments = self.segments()
        except LogDamaged as error:
            yield str(error)
            return
        for each in segments:
            try:
                for line in self._lines(each):
                    if leaf(line.seq) not in (line.leaf, None):
                        yield f"position {line.seq}: the archive holds another event"
            except LogDamaged as error:
                yield f"{error} (positions {each.first} to {each.last})"

    def _lines(self, each: Segment) -> Iterator[Line]:
        path, expected = self._directory / each.name, each.first
        if not path.exists():
            raise LogDamaged(f"{path} is missing: restore it from a backup")
        for text in segment.read_lines(path, size=each.size, digest=each.digest):
            line = _decoded(path, text)
            if line.seq != expected or not line.intact:
                raise LogDamaged(f"{path}: position {expected} is not what was archived")
            expected += 1
            yield line
        if expected != each.last + 1:
            raise LogDamaged(f"{path} ends before position {each.last}")

    def _compare(self, written: Segment, connection: sqlite3.Connection, keys: SubjectKeys) -> str:
        """Read the file again beside the log: the same events, byte for byte of their leaves."""
        lines = self._lines(written)
        leaves = sha256()
        for page in _pages(connection, written.first - 1, written.last):
            for each in page:
                line = next(lines, None)
                if line is None or line.leaf != each.leaf or _body(line, keys) != each.line.body:
                    raise LogDamaged(f"{written.name} does not hold position {each.line.seq}")
                leaves.update(each.leaf)
        if next(lines, None) is not None:
            raise LogDamaged(f"{written.name} holds more than the log")
        return leaves.hexdigest()

    def _known(
        self,
        manifest: Path,
        connection: sqlite3.Connection,
        keys: SubjectKeys,
        after: int,
        upto: int,
    ) -> Segment | None:
        """The segment an interrupted compaction finished, if it holds what the log does by now."""
        try:
            known = self._manifest(manifest)
            if (known.segment.first, known.segment.last) == (after + 1, upto):
                self._compare(known.segment, connection, keys)
                return known.segment
        except LogDamaged:
            pass  # an event was erased since, or a file is broken: it is written anew
        return None

    def _prepare(self, path: Path, manifest: Path) -> None:
        if not self._directory.exists():
            self._directory.mkdir(mode=0o700)
            files.sync(self._directory.parent)
        manifest.unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def _path(self, first: int) -> Path:
        return self._directory / f"{first:012}{_SUFFIX}"

    def _manifest(self, path: Path) -> Manifest:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Manifest)
        except msgspec.DecodeError as error:
            raise LogDamaged(f"{path} is no manifest of an archived segment: {error}") from error


def ranges(first: int, floor: int) -> Iterator[tuple[int, int]]:
    """`(after, upto)` of the segments that hold [first, floor)."""
    for start in range(first, floor, EVENTS):
        yield start - 1, min(floor, start + EVENTS) - 1


def _pages(connection: sqlite3.Connection, after: int, upto: int) -> Iterator[list[Evidence]]:
    while after < upto:
        page = evidence.page(connection, after, upto)
        after += len(page)
        yield page


def _decoded(path: Path, text: bytes) -> Line:
    try:
        return segment.decode_line(text)
    except ValueError as error:
        raise LogDamaged(f"{path}: {error}") from error


def _encode(each: Evidence, keys: SubjectKeys) -> bytes:
    line = each.line
    if line.salt is None or line.body is None:
        return segment.encode_parts(each.envelope, line)
    sealed = None
    with suppress(KeyForgotten):  # it was erased since it was read
        sealed = keys.encrypt(_owner(line), line.salt + line.body)
    hidden = Line(columns=line.columns, body_digest=line.body_digest, sealed=sealed)
    return segment.encode_parts(each.envelope, hidden)


def _body(line: Line, keys: SubjectKeys) -> bytes | None:
    """The body, None when it was erased before or after it was archived."""
    if line.sealed is None:
        return line.body
    try:
        revealed = keys.decrypt(_owner(line), line.sealed)
    except KeyForgotten:
        return None
    salt, body = revealed[:_SALT], revealed[_SALT:]
    opened = Line(columns=line.columns, body_digest=line.body_digest, salt=salt, body=body)
    if not opened.intact:
        raise LogDamaged(f"position {line.seq}: the archived body is not the one of its digest")
    return body


def _owner(line: Line) -> Owner:
    return Owner(line.seq, line.columns[9], line.columns[12])

"""Events outside the log: one JSON line each, in gzip files. For archives and for audit exports.

A line is an object with these members, in this order; those without a value are left out:

    envelope      the 13 columns that `envelope.py` documents, as they went into the leaf
    body_digest   64 hex digits
    salt          64 hex digits   } together, or neither: then nothing here tells what the
    body          the exact text  } body was
    sealed        base64 of salt and body, encrypted by whoever wrote the file
    shown         what may be shown of a body that was withheld; JSON; no proof covers it
    erased        the position of the event that says why salt and body are gone

A body that is no UTF-8 is `body_base64`. Equal events make equal lines. No newline is in a line.
A verifier hashes `json.dumps(envelope, separators=(",", ":"), ensure_ascii=False)`.
"""

import gzip
import os
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from eventstore.envelope import Columns, body_digest, envelope, leaf_hash
from eventstore.errors import LogDamaged

_LEVEL = 1
"""Of compression: twice as fast as the usual 6, and a tenth larger."""

_LONGEST_LINE = 256 * 1024 * 1024
_BUFFER = 1024 * 1024

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as it is written down. `salt` and `body` are there together or not at all."""

    columns: Columns
    body_digest: bytes
    salt: bytes | None = None
    body: bytes | None = None
    sealed: bytes | None = None
    shown: msgspec.Raw | None = None
    erased: int | None = None

    @property
    def seq(self) -> int:
        return self.columns[0]

    @property
    def leaf(self) -> bytes:
        """The leaf hash that this line claims."""
        return leaf_hash(envelope(self.columns), self.body_digest)

    @property
    def intact(self) -> bool:
        """Whether salt and body, where they are there, are those of the digest."""
        if self.salt is None or self.body is None:
            return self.salt is None and self.body is None
        return body_digest(self.salt, self.body) == self.body_digest


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    envelope: tuple[
        int,
        str,
        int,
        str,
        str,
        int,
        int,
        int,
        int,
        str,
        str | None,
        str | None,
        str | None,
    ]
    body_digest: str
    salt: str | None = None
    body: str | None = None
    body_base64: bytes | None = None
    sealed: bytes | None = None
    shown: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    erased: int | None = None


_decode = msgspec.json.Decoder(_Wire).decode


def encode_line(line: Line) -> bytes:
    """The line with its newline."""
    return encode_parts(envelope(line.columns), line)


def encode_parts(envelope: bytes, line: Line) -> bytes:
    """`encode_line` for those who have made the envelope already."""
    parts = [b'{"envelope":', envelope, b',"body_digest":"', line.body_digest.hex().encode(), b'"']
    if line.salt is not None and line.body is not None:
        parts += (b',"salt":"', line.salt.hex().encode(), b'",', _body(line.body))
    if line.sealed is not None:
        parts += (b',"sealed":"', b64encode(line.sealed), b'"')
    if line.shown is not None:
        parts += (b',"shown":', bytes(line.shown))
    if line.erased is not None:
        parts.append(b',"erased":%d' % line.erased)
    parts.append(b"}\n")
    return b"".join(parts)


def decode_line(text: bytes) -> Line:
    """The event of one line. Raises ValueError for anything `encode_line` would not have written.

    Whether it belongs to a log is another question: see `Line.intact` and `Line.leaf`.
    """
    try:
        wire = _decode(text)
        seq, stream, version, event_id, *others, subject = wire.envelope
        body = wire.body_base64 if wire.body is None else wire.body.encode()
        columns: Any = (seq, stream, version, bytes.fromhex(event_id), *others, _bytes(subject))
        line = Line(
            columns=columns,
            body_digest=bytes.fromhex(wire.body_digest),
            salt=_bytes(wire.salt),
            body=body,
            sealed=wire.sealed,
            shown=None if wire.shown is msgspec.UNSET else wire.shown,
            erased=wire.erased,
        )
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a line of a segment: {error}") from error
    if encode_line(line) != text.rstrip(b"\n") + b"\n":
        raise ValueError("not a line of a segment: written in another way than ours")
    return line


def _body(body: bytes) -> bytes:
    try:
        return b'"body":' + _encode(body.decode())
    except UnicodeDecodeError:
        return b'"body_base64":"' + b64encode(body) + b'"'


def _bytes(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)


class Writer:
    """Lines into a gzip file, and the file's size and SHA-256. Build it with `writing`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.size = 0
        self._file = file
        self._sha256 = sha256()
        self._gzip = gzip.GzipFile("", "wb", _LEVEL, self, mtime=0)

    def add(self, lines: Iterable[bytes]) -> None:
        self._gzip.write(b"".join(lines))

    def write(self, data: bytes) -> int:
        """For the compressor: what it gives out."""
        self._sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        """For the compressor."""

    @property
    def digest(self) -> str:
        """64 hex digits. Complete once `writing` has ended."""
        return self._sha256.hexdigest()

    def close(self) -> Self:
        self._gzip.close()
        return self


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """A new file of lines, on disk when this ends. Equal lines make equal files.

    Raises FileExistsError. What an interrupted writer leaves behind has no end and does not pass
    `read_lines`.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        writer = Writer(file)
        yield writer
        writer.close()
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, *, size: int, digest: str) -> Iterator[bytes]:
    """The lines of a file that was written with `writing`, each with its newline.

    Memory does not grow with the file. The lines come before the whole file has been seen: what
    was read counts only once this ends. Raises LogDamaged if the file is not the one of this size
    and digest, byte for byte.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size or file_digest(file) != digest:
            raise LogDamaged(f"{path} is not the file its manifest names: size or digest differ")
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as lines:
                while line := lines.readline(_LONGEST_LINE):
                    if not line.endswith(b"\n"):
                        raise LogDamaged(f"{path} ends in the middle of a line")
                    yield line
        except (OSError, EOFError, zlib.error) as error:
            raise LogDamaged(f"{path} cannot be read: {error}") from error


def file_digest(file: IO[bytes]) -> str:
    """SHA-256 of what is left of a file, as hex digits."""
    state = sha256()
    while piece := file.read(_BUFFER):
        state.update(piece)
    return state.hexdigest()

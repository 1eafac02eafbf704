"""Events as lines of gzip files."""

import base64
import gzip
import hashlib
import hmac
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from eventstore.envelope import Columns, body_digest, envelope, leaf_hash
from eventstore.errors import LogDamaged
from eventstore.segment import Line, decode_line, encode_line, read_lines, writing

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, 2**63 - 1)
ids = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)

columns = st.tuples(
    numbers,
    text,
    numbers,
    ids,
    text,
    numbers,
    st.integers(0, 3),
    numbers,
    numbers,
    text,
    st.none() | text,
    st.none() | text,
    st.none() | ids,
)
bodies = st.binary(max_size=200) | text.map(str.encode)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    salt = draw(st.none() | digests)
    return Line(
        columns=draw(columns),
        body_digest=draw(digests),
        salt=salt,
        body=None if salt is None else draw(bodies),
        sealed=draw(st.none() | st.binary(max_size=50)),
        shown=draw(st.none() | st.just(msgspec.Raw(b'{"a":[1, null]}'))),
        erased=draw(st.none() | numbers),
    )


EVENT: Columns = (1, "s", 0, bytes(16), "t", 1, 1, 5, 5, "w", None, None, None)
PLAIN = Line(columns=EVENT, body_digest=body_digest(bytes(32), b"{}"), salt=bytes(32), body=b"{}")


@given(lines())
def test_what_is_written_can_be_read(line: Line) -> None:
    """Any event comes back as it was, and its line is one line."""
    encoded = encode_line(line)

    assert decode_line(encoded) == line
    assert encoded.count(b"\n") == 1


@given(lines())
def test_a_line_is_enough_to_check_the_event(line: Line) -> None:
    """With the standard library alone: envelope, digest and leaf as documented."""
    wire = json.loads(encode_line(line))
    head = json.dumps(wire["envelope"], separators=(",", ":"), ensure_ascii=False).encode()
    digest = bytes.fromhex(wire["body_digest"])

    assert head == envelope(line.columns)
    assert line.leaf == leaf_hash(head, digest) == hashlib.sha256(b"\0" + head + digest).digest()
    if "salt" in wire:
        body = wire["body"].encode() if "body" in wire else base64.b64decode(wire["body_base64"])
        assert line.intact == (
            hmac.digest(bytes.fromhex(wire["salt"]), body, "sha256") == line.body_digest
        )
    else:
        assert line.intact


def test_only_the_right_body_is_intact() -> None:
    """A body of another digest, and a salt without body, are not."""
    assert PLAIN.intact
    assert not msgspec.structs.replace(PLAIN, body=b"{ }").intact
    assert not msgspec.structs.replace(PLAIN, body=None).intact


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"envelope":[],"body_digest":""}',
        encode_line(PLAIN).replace(b'"body_digest":"', b'"body_digest":"x'),
        encode_line(PLAIN).replace(b",", b", ", 1),
        encode_line(PLAIN).replace(b'"salt"', b'"pepper"'),
        b"[" * 100_000,
        b'{"envelope":"\xff"}',
    ],
)
def test_what_we_would_not_write_is_no_line(line: bytes) -> None:
    """Malformed, misspelled, or only written in another way."""
    with pytest.raises(ValueError, match="not a line of a segment"):
        decode_line(line)


@given(st.data())
def test_no_changed_line_is_the_same_event(data: st.DataObject) -> None:
    """Any flipped bit is refused, or makes another event."""
    encoded = bytearray(encode_line(PLAIN))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    try:
        line = decode_line(bytes(encoded))
    except ValueError:
        return

    assert line != PLAIN


def write(path: Path, *written: bytes) -> tuple[int, str]:
    with writing(path) as writer:
        for line in written:
            writer.add([line])
    return writer.size, writer.digest


def test_a_file_gives_its_lines_back(tmp_path: Path) -> None:
    """Size and digest are those of the file, which any gzip can read."""
    path = tmp_path / "a.gz"
    size, digest = write(path, b"1\n", b"22\n")

    assert list(read_lines(path, size=size, digest=digest)) == [b"1\n", b"22\n"]
    assert gzip.decompress(path.read_bytes()) == b"1\n22\n"
    assert (len(path.read_bytes()), hashlib.sha256(path.read_bytes()).hexdigest()) == (size, digest)


def test_equal_lines_make_equal_files(tmp_path: Path) -> None:
    """Neither name nor time is in the file."""
    assert write(tmp_path / "a.gz", b"1\n") == write(tmp_path / "b.gz", b"1\n")


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """A name is written once."""
    (tmp_path / "a.gz").write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        write(tmp_path / "a.gz", b"1\n")
    assert (tmp_path / "a.gz").read_bytes() == b"mine"


@given(data=st.data())
def test_no_changed_file_is_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A flipped bit anywhere is found before the first line comes out."""
    path = tmp_path_factory.mktemp("segment") / "a.gz"
    size, digest = write(path, encode_line(PLAIN))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, size * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)

    with pytest.raises(LogDamaged, match=r"a\.gz is not the file"):
        next(read_lines(path, size=size, digest=digest))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no gzip at all", "cannot be read"),
        (gzip.compress(b"1\n")[:-9], "cannot be read"),
        (gzip.compress(b"1\n2"), "in the middle of a line"),
    ],
)
def test_a_file_that_was_never_whole_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """Even if somebody made a manifest for it."""
    path = tmp_path / "a.gz"
    path.write_bytes(content)

    with pytest.raises(LogDamaged, match=reason):
        list(read_lines(path, size=len(content), digest=hashlib.sha256(content).hexdigest()))

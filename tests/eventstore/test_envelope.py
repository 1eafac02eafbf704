"""The bytes that proofs are made of, checked with nothing but the standard library."""

import hashlib
import hmac
import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from hypothesis import given, strategies as st

from eventstore import Append, EventLog, LogOptions, RecordedEvent, schema
from eventstore.envelope import body_digest, envelope, leaf_hash, uuid7
from tests.eventstore.samples import created, emitted, of

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(0, 2**63 - 1)


def verify(row: sqlite3.Row) -> None:
    """What an outside verifier does with one exported event."""
    head = json.dumps(
        [
            row["seq"],
            row["stream"],
            row["version"],
            row["event_id"].hex(),
            row["type"],
            row["schema_version"],
            row["kind"],
            row["time_us"],
            row["wall_us"],
            row["workspace"],
            row["actor"],
            row["request_id"],
            row["subject"] and row["subject"].hex(),
        ],
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()

    assert row["leaf"] == hashlib.sha256(b"\0" + head + row["body_digest"]).digest()
    if row["body"] is not None:
        assert row["body_digest"] == hmac.digest(row["salt"], row["body"], "sha256")


@given(
    st.tuples(
        numbers,
        text,
        numbers,
        st.binary(min_size=16, max_size=16),
        text,
        numbers,
        st.integers(0, 3),
        numbers,
        numbers,
        text,
        st.none() | text,
        st.none() | text,
        st.none() | st.binary(min_size=16, max_size=16),
    )
)
def test_the_standard_library_reproduces_the_envelope(
    columns: tuple[
        int, str, int, bytes, str, int, int, int, int, str, str | None, str | None, bytes | None
    ],
) -> None:
    """json.dumps of the columns is the envelope, byte for byte, whatever the names contain."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in columns]
    dumped = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()

    assert envelope(columns) == dumped


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=5000))
def test_the_body_digest_is_an_hmac(salt: bytes, body: bytes) -> None:
    """Spelled out or from the library, HMAC-SHA256 is the same."""
    assert body_digest(salt, body) == hmac.digest(salt, body, "sha256")


def test_the_leaf_is_that_of_rfc_6962() -> None:
    """SHA-256 over a zero byte and the entry, the reference vector of the empty entry included."""
    assert leaf_hash(b"", b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert leaf_hash(b"L1", b"23456").hex() == hashlib.sha256(b"\0L123456").hexdigest()


@given(st.integers(0, 2**57), st.integers(0, 2**64 - 1))
def test_ids_are_uuids_of_version_7(time_us: int, random: int) -> None:
    """Version, variant, and the time in milliseconds are where RFC 9562 wants them."""
    id_ = uuid.UUID(bytes=uuid7(time_us, random))

    assert id_.variant == uuid.RFC_4122
    assert id_.version == 7
    assert id_.int >> 80 == time_us // 1000


@given(st.integers(0, 2**57), st.integers(1, 5000), numbers, numbers)
def test_ids_sort_like_their_times(time_us: int, later: int, low: int, high: int) -> None:
    """A microsecond later is a greater id, whatever the random part."""
    assert uuid7(time_us, low) < uuid7(time_us + later, high)


async def test_every_stored_leaf_can_be_verified(directory: Path) -> None:
    """What is on disk is what the rules say, with and without the optional columns."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(subject="ada"), created('a/"é\u2028\n')))
        await log.append(
            Append(events=(created(),), workspace="w", actor="admin/1", request_id="r\x00")
        )
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM event").fetchall()

    assert len(rows) == 3
    for row in rows:
        verify(row)


async def test_erasing_a_body_leaves_its_leaf_valid(directory: Path) -> None:
    """Body and salt can go, the proof stays, and a reader sees None."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(b'{"data":{"name":"Ada"}}')))
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute("UPDATE event SET salt = NULL, body = NULL WHERE seq = 1")
        verify(connection.execute("SELECT * FROM event").fetchone())
    async with EventLog.open(directory) as log:
        (event,) = await log.read(0)

    assert event.body is None


async def test_ids_increase_with_positions_when_the_clock_goes_back(directory: Path) -> None:
    """The log's time and ids go on growing; the wall clock is recorded as it was read."""
    walls = iter([5_000_000, 4_000_000, 4_000_000, 9_000_000, 1_000_000])
    options = LogOptions(clock=lambda: next(walls))
    async with EventLog.open(directory, options=options) as log:
        for _ in range(4):
            await log.append(of(emitted(), emitted()))
    async with EventLog.open(directory, options=options) as log:
        await log.append(of(emitted()))
        events = await log.read(0)

    assert [event.wall_us // 1_000_000 for event in events] == [5, 5, 4, 4, 4, 4, 9, 9, 1]
    times = [event.time_us for event in events]
    assert times == [5_000_000 + n for n in range(6)] + [9_000_000, 9_000_001, 9_000_002]
    ids = [event.event_id for event in events]
    assert ids == sorted(ids)
    assert len(set(ids)) == 9


def test_the_schema_names_every_column_of_a_record() -> None:
    """The SELECT list and the record have the same names in the same order."""
    assert schema.RECORD.split(", ") == list(RecordedEvent.__struct_fields__)

"""The bytes of an event that proofs are made of. Pure functions; nothing here may ever change.

A verifier needs only the standard library:

    envelope = json.dumps(columns, separators=(",", ":"), ensure_ascii=False).encode()
    leaf = sha256(b"\\0" + envelope + body_digest)
    body_digest = hmac.digest(salt, body, "sha256")

where `columns` are seq, stream, version, event_id (32 hex digits), type, schema_version, kind,
time_us, wall_us, workspace, actor, request_id, subject (hex digits or null).
"""

import struct
from hashlib import sha256

import msgspec

Columns = tuple[
    int, str, int, bytes, str, int, int, int, int, str, str | None, str | None, bytes | None
]
"""An event's columns up to `subject`, as they are stored."""

_encode = msgspec.json.Encoder().encode

_KEY_PADDING = bytes(32)
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))

_UUID = struct.Struct(">QQ")
_MASK_62 = (1 << 62) - 1
_VARIANT = 0b10 << 62


def envelope(columns: Columns) -> bytes:
    """The canonical form of everything but the body."""
    seq, stream, version, event_id, *others, subject = columns
    return _encode(
        (seq, stream, version, event_id.hex(), *others, None if subject is None else subject.hex())
    )


def body_digest(salt: bytes, body: bytes) -> bytes:
    """HMAC-SHA256(salt, body): commits to the body, and tells nothing once the salt is erased.

    `salt` is 32 bytes. Spelled out after RFC 2104, because OpenSSL's HMAC takes half as long again.
    """
    key = salt + _KEY_PADDING
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + body).digest()).digest()


def leaf_hash(envelope: bytes, body_digest: bytes) -> bytes:
    """The event's leaf in a Merkle tree as of RFC 6962, section 2.1."""
    return sha256(b"\0" + envelope + body_digest).digest()


def uuid7(time_us: int, random: int) -> bytes:
    """A UUIDv7 (RFC 9562, 5.7) of a time in microseconds and 62 random bits.

    rand_a holds the fraction of the millisecond (6.2, method 3), so ids of different microseconds
    sort like their times.
    """
    milliseconds, microseconds = divmod(time_us, 1000)
    return _UUID.pack(
        milliseconds << 16 | 0x7000 | (microseconds << 12) // 1000, random & _MASK_62 | _VARIANT
    )

"""The keys that sign checkpoints and exports, in keys.db. The only module that knows Ed25519.

The newest key signs. A new one is endorsed by the one before it, which signs the note

    <log id>/key
    <the new verifier key>

and then forgets its private half. So whoever trusts any key of the log can follow the chain to the
newest one: public keys and endorsements stay, and travel with every export. Nobody but a holder of
the old private key can extend the chain; a stolen key is a reason to hand out the new one again.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eventstore import lock, notes
from eventstore.errors import LogDamaged
from eventstore.notes import Note, Signature, Tip

_SCHEMA = """
CREATE TABLE IF NOT EXISTS signing_key(
  number      INTEGER PRIMARY KEY,
  public      BLOB    NOT NULL,
  private     BLOB,                 -- of the newest only
  endorsement TEXT,                 -- a note signed by the key before; of the first: none
  created_us  INTEGER NOT NULL
) STRICT;
"""


class PublicKey(msgspec.Struct, frozen=True):
    """As it travels: the verifier key, and the note by which the one before vouches for it."""

    vkey: str
    endorsement: str | None = None


class Signer(msgspec.Struct, frozen=True):
    """The log's keys, oldest first, and the private half of the last."""

    log_id: str
    keys: tuple[PublicKey, ...]
    publics: tuple[bytes, ...]
    private: bytes

    def checkpoint(self, size: int, root: bytes) -> str:
        return self.sign(Tip(self.log_id, size, root).text)

    def statement(self, digest: str) -> str:
        """Vouches for a file by its SHA-256 in hex digits."""
        return self.sign(f"{self.log_id}/export\n{digest}\n")

    def sign(self, text: str) -> str:
        """The note. `text` ends with a newline."""
        return str(_signed(self.log_id, text, self.private))

    def verify(self, note: str) -> Note:
        """The note, if one of the log's keys signed it. Raises ValueError."""
        parsed = notes.parse(note)
        for public in self.publics:
            if parsed.signature.key_id == notes.key_id(self.log_id, public):
                _verify(parsed, self.log_id, public)
                return parsed
        raise ValueError("signed with a key that is not this log's")


def load(path: Path, log_id: str) -> Signer:
    """The keys in keys.db, the first one made if need be. Raises LogDamaged and sqlite3.Error."""
    with closing(_connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM signing_key").fetchone():
            _add(connection, log_id, None)
        return _signer(connection, log_id)


def rotate(directory: Path, log_id: str) -> Signer:
    """Make a new key, endorsed by the last one, whose private half is erased.

    Raises LogLocked while a service runs on the directory: it would go on with the old key.
    """
    held = lock.acquire(directory)
    try:
        before = load(directory / "keys.db", log_id)
        with closing(_connect(directory / "keys.db")) as connection:
            _add(connection, log_id, before)
            return _signer(connection, log_id)
    finally:
        lock.release(held)


def _add(connection: sqlite3.Connection, log_id: str, before: Signer | None) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    vkey = notes.verifier_key(log_id, public)
    endorsement = before and before.sign(f"{log_id}/key\n{vkey}\n")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE signing_key SET private = NULL")
    connection.execute(
        "INSERT INTO signing_key(public, private, endorsement, created_us) VALUES (?, ?, ?, ?)",
        (public, private.private_bytes_raw(), endorsement, time.time_ns() // 1000),
    )
    connection.execute("COMMIT")


def _signer(connection: sqlite3.Connection, log_id: str) -> Signer:
    rows = connection.execute(
        "SELECT public, private, endorsement FROM signing_key ORDER BY number"
    ).fetchall()
    private = rows[-1][1]
    if private is None or _public(private) != rows[-1][0]:
        raise LogDamaged("keys.db holds no usable signing key: restore it from a backup")
    keys = tuple(
        PublicKey(notes.verifier_key(log_id, public), endorsement)
        for public, _, endorsement in rows
    )
    return Signer(log_id, keys, tuple(public for public, _, _ in rows), private)


def _public(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _signed(name: str, text: str, private: bytes) -> Note:
    key = Ed25519PrivateKey.from_private_bytes(private)
    key_id = notes.key_id(name, key.public_key().public_bytes_raw())
    return Note(text, Signature(name, key_id, key.sign(text.encode())))


def _verify(note: Note, name: str, public: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(
            note.signature.signature, note.text.encode()
        )
    except InvalidSignature as error:
        raise ValueError("the signature does not hold") from error
    if note.signature.name != name:
        raise ValueError("signed under another name")


def _connect(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise LogDamaged(f"there is no {path.name} in {path.parent}")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None
    )
    connection.executescript("PRAGMA synchronous = EXTRA; PRAGMA secure_delete = 1;" + _SCHEMA)
    return connection

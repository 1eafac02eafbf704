"""The secret behind all keyed digests, in keys.db, apart from the log it belongs to.

Without it, digests in the log cannot be matched with guesses (mail addresses, event ids); with it
lost, nobody could recognise a repeated idempotency key. So the log refuses to start without it.
"""

import hashlib
import os
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path

from eventstore import schema
from eventstore.errors import LogDamaged

_SIZE = 32


def unlock(log: sqlite3.Connection, keys: Path) -> tuple[str, "Digests"]:
    """The log's id and its digests. The first start makes both, the secret first.

    Raises LogDamaged if the log was written with another secret, or its keys are gone.
    """
    secret = _load(keys)
    row = log.execute(schema.META, ("log_id",)).fetchone()
    if row is None:
        return _first_start(log, secret or _create(keys))
    if secret is None:
        raise LogDamaged(f"{keys} is missing: restore it from the backup it was saved to")
    log_id, digests = str(row[0]), Digests(secret)
    (check,) = log.execute(schema.META, ("key_check",)).fetchone()
    if check != digests.check(log_id):
        raise LogDamaged(f"{keys} belongs to another log: restore both from the same backup")
    return log_id, digests


def _first_start(log: sqlite3.Connection, secret: bytes) -> tuple[str, "Digests"]:
    log_id, digests = str(uuid.uuid4()), Digests(secret)
    log.execute("BEGIN IMMEDIATE")
    log.execute(schema.SET_META, ("log_id", log_id))
    log.execute(schema.SET_META, ("created_us", time.time_ns() // 1000))
    log.execute(schema.SET_META, ("key_check", digests.check(log_id)))
    log.execute("COMMIT")
    return log_id, digests


def _load(path: Path) -> bytes | None:
    if not path.exists():
        return None
    try:
        with closing(_connect(path)) as connection:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables:
                return None  # the first start crashed before it stored one
            row = connection.execute("SELECT secret FROM key WHERE name = 'digest'").fetchone()
    except sqlite3.Error as error:
        raise LogDamaged(f"{path} is damaged ({error}): restore it from a backup") from error
    if row is None or len(row[0]) != _SIZE:
        raise LogDamaged(f"{path} holds no usable key: restore it from a backup")
    return bytes(row[0])


def _create(path: Path) -> bytes:
    secret = os.urandom(_SIZE)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(_connect(path)) as connection:
        connection.executescript(
            "PRAGMA synchronous = EXTRA; BEGIN IMMEDIATE;"
            "CREATE TABLE key(name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT, WITHOUT ROWID;"
        )
        connection.execute("INSERT INTO key VALUES ('digest', ?)", (secret,))
        connection.execute("COMMIT")
    return secret


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)


class Digests:
    """Keyed 16-byte digests. Each method is a space of its own: equal texts do not show across."""

    def __init__(self, secret: bytes) -> None:
        self._request_key = _keyed(secret, b"request-key")
        self._event_id = _keyed(secret, b"event-id")
        self._content = _keyed(secret, b"content")
        self._subject = _keyed(secret, b"subject")
        self._text = _keyed(secret, b"text")
        self._check = _keyed(secret, b"check")

    def request_key(self, key: str) -> bytes:
        return _digest(self._request_key, key)

    def event_id(self, identity: str) -> bytes:
        return _digest(self._event_id, identity)

    def subject(self, subject: str) -> bytes:
        return _digest(self._subject, subject)

    def text(self, text: str) -> bytes:
        return _digest(self._text, text)

    def content(self, *parts: bytes) -> bytes:
        """Of the parts and where one ends and the next begins."""
        state = self._content.copy()
        for part in parts:
            state.update(len(part).to_bytes(8))
            state.update(part)
        return state.digest()

    def check(self, log_id: str) -> bytes:
        """Proof that the log `log_id` was written with this secret."""
        return _digest(self._check, log_id)


def _keyed(secret: bytes, purpose: bytes) -> "hashlib.blake2b":
    return hashlib.blake2b(key=secret, person=purpose, digest_size=16)


def _digest(keyed: "hashlib.blake2b", text: str) -> bytes:
    state = keyed.copy()
    # Half of a surrogate pair is no reason to fail here: equal texts get equal digests.
    state.update(text.encode(errors="surrogatepass"))
    return state.digest()

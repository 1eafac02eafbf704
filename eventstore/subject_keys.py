"""Keys for bodies outside the log. Forget one, and what it sealed is unreadable in every copy.

The key of an archived body is made of up to three secrets in keys.db, and needs all of them:

    of its position     so that one event can be forgotten, whether or not it has a subject
    of its workspace    so that a workspace can be forgotten without knowing its positions
    of its subject      likewise for a person

The secrets of workspaces and subjects are random rows. Those of positions hang on one random
secret, as in the tree of Goldreich, Goldwasser and Micali: a node's secret gives the secrets of its
two halves, and nothing leads back. A position is forgotten by putting in the place of its node the
halves beside the path to it, so keys.db grows with what was forgotten, not with the log.

A key seals one text only: AES-256-GCM with a nonce that is a keyed digest of the text, so equal
texts make equal files, and positions used twice (a back-up was restored) do no harm.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.errors import KeyForgotten, LogDamaged
from eventstore.runs import Run

_SIZE = 32
_NONCE = 12
_BITS = 62
"""The root covers the positions below 2**62."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owner_key(
  kind   TEXT NOT NULL,      -- workspace, or subject
  name   BLOB NOT NULL,      -- its id, or its keyed digest
  secret BLOB NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS position_key(
  first  INTEGER PRIMARY KEY,
  bits   INTEGER NOT NULL,   -- it covers 2**bits positions
  secret BLOB    NOT NULL
) STRICT;
"""
_OWNER = "SELECT secret FROM owner_key WHERE kind = ? AND name = ?"
_NEW_OWNER = "INSERT INTO owner_key VALUES (?, ?, ?)"
_FORGET_OWNER = "DELETE FROM owner_key WHERE kind = ? AND name = ?"
_COVERING = "SELECT first, bits, secret FROM position_key WHERE first <= ? ORDER BY first DESC"
_FORGET_NODE = "DELETE FROM position_key WHERE first = ?"
_NEW_NODE = "INSERT INTO position_key VALUES (?, ?, ?)"
_PATIENCE = 60_000  # ms; a segment is being sealed meanwhile


class Owner(NamedTuple):
    """Whose a body is: columns of its event."""

    seq: int
    workspace: str
    subject: bytes | None


class _Node(NamedTuple):
    first: int
    bits: int
    secret: bytes

    def covers(self, seq: int) -> bool:
        return self.first <= seq < self.first + (1 << self.bits)

    def halves(self) -> tuple["_Node", "_Node"]:
        bits = self.bits - 1
        return (
            _Node(self.first, bits, _derived(self.secret, b"left")),
            _Node(self.first + (1 << bits), bits, _derived(self.secret, b"right")),
        )


class SubjectKeys:
    """The keys, for one thread. Nothing it makes is in keys.db before `open` or `save` ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._owners: dict[tuple[str, bytes], bytes] = {}
        self._path: list[_Node] = []

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """The keys in `path`, which exists. What was made or forgotten is on disk when this ends.

        If it ends with an exception nothing is: then throw away what was sealed meanwhile.
        """
        with closing(_connect(path)) as connection:
            keys = cls(connection)
            yield keys
            keys.save()

    def save(self) -> None:
        """Put on disk what was made and forgotten."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def encrypt(self, owner: Owner, text: bytes) -> bytes:
        """`text` sealed. Raises KeyForgotten if its position was: then it is to be gone."""
        key = self._key(owner, make=True)
        nonce = blake2b(text, key=key, person=b"nonce", digest_size=_NONCE).digest()
        return nonce + AESGCM(key).encrypt(nonce, text, None)

    def decrypt(self, owner: Owner, sealed: bytes) -> bytes:
        """What was sealed for this owner.

        Raises KeyForgotten if any of its keys was forgotten, or another has taken its place, and
        LogDamaged for what was never sealed here.
        """
        if len(sealed) < _NONCE:
            raise LogDamaged(f"position {owner.seq}: too short to be a sealed body")
        try:
            return AESGCM(self._key(owner)).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except InvalidTag as error:
            raise KeyForgotten(owner.seq) from error

    def remembers(self, *, workspace: str | None = None, subject: bytes | None = None) -> bool:
        """Whether there is anything to forget."""
        names = _names(workspace, subject)
        return any(self._connection.execute(_OWNER, name).fetchone() for name in names)

    def remembers_position(self, seq: int) -> bool:
        return self._covering(seq) is not None

    def forget(
        self,
        *,
        workspace: str | None = None,
        subject: bytes | None = None,
        positions: Iterable[Run] = (),
    ) -> None:
        """Let nobody read again what was sealed for these, by anyone who has this file only."""
        self._begin()
        self._owners.clear()
        self._path.clear()
        for name in _names(workspace, subject):
            self._connection.execute(_FORGET_OWNER, name)
        for first, last in positions:
            self._puncture(first, last)

    def _key(self, owner: Owner, *, make: bool = False) -> bytes:
        state = blake2b(key=self._position(owner.seq, make=make), digest_size=_SIZE)
        for name in _names(owner.workspace, owner.subject):
            state.update(self._owner(*name, make=make, seq=owner.seq))
        return state.digest()

    def _owner(self, kind: str, name: bytes, *, make: bool, seq: int) -> bytes:
        secret = self._owners.get((kind, name))
        if secret is None:
            row = self._connection.execute(_OWNER, (kind, name)).fetchone()
            if row is None and not make:
                raise KeyForgotten(seq)
            secret = row[0] if row else os.urandom(_SIZE)
            if row is None:
                self._begin()
                self._connection.execute(_NEW_OWNER, (kind, name, secret))
            self._owners[kind, name] = secret
        return secret

    def _position(self, seq: int, *, make: bool) -> bytes:
        """The secret of a position. The way to the last one is kept: neighbours share it."""
        path = self._path
        while path and not path[-1].covers(seq):
            path.pop()
        if not path:
            node = self._covering(seq) or (self._root() if make else None)
            if node is None:
                raise KeyForgotten(seq)
            path.append(node)
        while path[-1].bits:
            low, high = path[-1].halves()
            path.append(high if high.covers(seq) else low)
        return path[-1].secret

    def _covering(self, seq: int) -> _Node | None:
        row = self._connection.execute(_COVERING, (seq,)).fetchone()
        node = row and _Node(*row)
        return node if node and node.covers(seq) else None

    def _root(self) -> _Node | None:
        """The first secret of all, made once; None when it was made and cut up since."""
        if self._connection.execute("SELECT 1 FROM position_key").fetchone():
            return None
        self._begin()
        root = _Node(0, _BITS, os.urandom(_SIZE))
        self._connection.execute(_NEW_NODE, root)
        return root

    def _puncture(self, first: int, last: int) -> None:
        """Replace the nodes that cover a run by what is left of them."""
        position = last
        while position >= first:
            row = self._connection.execute(_COVERING, (position,)).fetchone()
            node = row and _Node(*row)
            if not node or node.first + (1 << node.bits) <= first:
                return
            self._connection.execute(_FORGET_NODE, (node.first,))
            self._connection.executemany(_NEW_NODE, _without(node, first, last))
            position = node.first - 1

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")


def _without(node: _Node, first: int, last: int) -> Iterator[_Node]:
    """What is left of a node without a run: the largest nodes beside it."""
    end = node.first + (1 << node.bits) - 1
    if end < first or last < node.first:
        yield node
    elif node.first < first or last < end:
        for half in node.halves():
            yield from _without(half, first, last)


def _names(workspace: str | None, subject: bytes | None) -> Iterator[tuple[str, bytes]]:
    if workspace is not None:
        yield "workspace", workspace.encode()
    if subject is not None:
        yield "subject", subject


def _derived(secret: bytes, side: bytes) -> bytes:
    return blake2b(key=secret, person=side, digest_size=_SIZE).digest()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None
    )
    connection.executescript(
        f"PRAGMA busy_timeout = {_PATIENCE}; PRAGMA synchronous = EXTRA;"
        " PRAGMA secure_delete = 1;" + _SCHEMA
    )
    return connection

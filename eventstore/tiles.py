"""The Merkle tree over the log's leaves, in tiles of 256 hashes as in C2SP's tlog-tiles.

Tile (level, number) holds the hashes over 256**level leaves each, 256 of them from number * 256 on,
fewer in the last tile of a level. A tile above holds the roots of full tiles only.
"""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache

from eventstore.errors import LogDamaged
from eventstore.merkle import Nodes, complete_root

HASH = 32
_BITS = 8
WIDTH = 1 << _BITS

SCHEMA = """
CREATE TABLE tile(
  level  INTEGER NOT NULL,
  number INTEGER NOT NULL,
  hashes BLOB    NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
  PRIMARY KEY(level, number)
) STRICT;
"""

_TILE = "SELECT hashes FROM tile WHERE level = ? AND number = ?"
_LAST = "SELECT number, hashes FROM tile WHERE level = 0 ORDER BY number DESC LIMIT 1"
_PUT = (
    "INSERT INTO tile VALUES (?, ?, ?) "
    "ON CONFLICT(level, number) DO UPDATE SET hashes = excluded.hashes"
)

_REMEMBERED = 256
"""Tiles, for one walk: 2 MiB."""


def size(connection: sqlite3.Connection) -> int:
    """How many leaves there are."""
    row = connection.execute(_LAST).fetchone()
    return 0 if row is None else row[0] * WIDTH + len(row[1]) // HASH


def extend(connection: sqlite3.Connection, leaves: Sequence[bytes]) -> None:
    """Add leaves at the end. Call it in a transaction."""
    level, count = 0, size(connection)
    while leaves:
        number, partial = divmod(count, WIDTH)
        held = _load(connection, level, number, partial) if partial else b""
        hashes = held + b"".join(leaves)
        leaves = []
        for start in range(0, len(hashes), WIDTH * HASH):
            tile = hashes[start : start + WIDTH * HASH]
            connection.execute(_PUT, (level, number, tile))
            if len(tile) == WIDTH * HASH:
                leaves.append(complete_root(split(tile)))
            number += 1
        level, count = level + 1, count >> _BITS


def nodes(connection: sqlite3.Connection) -> Nodes:
    """The tree's hashes, for one walk along it: nothing may be added meanwhile.

    Raises LogDamaged, with the tile named, for what is not there.
    """

    @lru_cache(_REMEMBERED)
    def tile(level: int, number: int) -> bytes:
        return _load(connection, level, number, 1)

    def node(level: int, number: int) -> bytes:
        level, within = divmod(level, _BITS)
        first = number << within
        start = first % WIDTH * HASH
        hashes = tile(level, first // WIDTH)[start : start + (HASH << within)]
        if len(hashes) != HASH << within:
            raise LogDamaged(f"tile {level}/{first // WIDTH} ends too early")
        return complete_root(split(hashes))

    return node


def hashes(connection: sqlite3.Connection, level: int, number: int) -> list[bytes]:
    """The hashes of one tile. Raises LogDamaged if it is missing."""
    return split(_load(connection, level, number, 1))


def split(hashes: bytes) -> list[bytes]:
    return [hashes[start : start + HASH] for start in range(0, len(hashes), HASH)]


def _load(connection: sqlite3.Connection, level: int, number: int, least: int) -> bytes:
    try:
        row = connection.execute(_TILE, (level, number)).fetchone()
    except sqlite3.Error as error:
        raise LogDamaged(f"tile {level}/{number} cannot be read: {error}") from error
    if row is None:
        raise LogDamaged(f"tile {level}/{number} is missing from audit.db")
    if not isinstance(row[0], bytes) or len(row[0]) < least * HASH or len(row[0]) % HASH:
        raise LogDamaged(f"tile {level}/{number} is too short")
    return row[0]

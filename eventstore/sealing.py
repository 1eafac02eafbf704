"""Placed events become rows: with their times, ids, salts and hashes."""

import os
import struct
from collections.abc import Sequence

import msgspec

from eventstore.batch import Row
from eventstore.envelope import body_digest, envelope, leaf_hash, uuid7
from eventstore.keys import Digests

_RANDOM = struct.Struct("Q32s")
"""What an event needs of chance: for its id, and to salt its body digest."""


class Sealed(msgspec.Struct, frozen=True):
    """All columns of all rows one after another, and the newest row's time and leaf."""

    values: list[object]
    time_us: int
    leaf: bytes


def seal(rows: Sequence[Row], time_us: int, leaf: bytes, wall_us: int, digests: Digests) -> Sealed:
    """Seal `rows`, which follow an event with this time and leaf, read at `wall_us`.

    The log's own time never goes back and never stands still, whatever the wall clock does.
    """
    values: list[object] = []
    random = _RANDOM.iter_unpack(os.urandom(_RANDOM.size * len(rows)))
    for row, (id_bits, salt) in zip(rows, random, strict=True):
        event, append = row.event, row.append
        time_us = max(time_us + 1, wall_us)
        columns = (
            row.seq,
            event.stream,
            row.version,
            uuid7(time_us, id_bits),
            event.type,
            event.schema_version,
            int(event.kind),
            time_us,
            wall_us,
            append.workspace,
            append.actor,
            append.request_id,
            digests.subject(event.subject) if isinstance(event.subject, str) else event.subject,
        )
        digest = body_digest(salt, event.body)
        leaf = leaf_hash(envelope(columns), digest)
        values += columns
        values += (salt, digest, leaf, event.body)
    return Sealed(values, time_us, leaf)

"""view.db as SQL: the items of all read models, and the position up to which they were folded."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from eventstore.errors import LogError
from eventstore.records import Checkpoint
from eventstore.snapshots import State

from .model import ReadModel

SCHEMA: Final = (
    """
    CREATE TABLE item (
      model TEXT NOT NULL,
      key   TEXT NOT NULL,
      value BLOB NOT NULL,
      PRIMARY KEY (model, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoint (
      id     INTEGER PRIMARY KEY CHECK (id = 0),
      log_id TEXT NOT NULL,
      seq    INTEGER NOT NULL,
      leaf   BLOB NOT NULL,
      models TEXT NOT NULL  -- names and versions the items were made by
    ) STRICT;
    """,
)

READ_ITEMS = "SELECT key, value FROM item WHERE model = ? ORDER BY key"
_READ_ITEM = "SELECT value FROM item WHERE model = ? AND key = ?"
_READ_CHECKPOINT = "SELECT log_id, seq, leaf, models FROM checkpoint"
_PUT_ITEM = "INSERT OR REPLACE INTO item (model, key, value) VALUES (?, ?, ?)"
_DELETE_ITEM = "DELETE FROM item WHERE model = ? AND key = ?"
_PUT_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (0, ?, ?, ?, ?)"
_CHUNK_END = "SELECT key FROM item WHERE model = ? AND key > ? ORDER BY key LIMIT 1 OFFSET 5000"
_DELETE_BELOW = (
    "DELETE FROM item WHERE model = ? AND key > ? AND key <= ?"
    " AND json_extract(CAST(value AS TEXT), '$.position') < ?"
)
LAST_KEY: Final = "\U0010ffff"
RANGE = "SELECT value FROM item WHERE model = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
RANGE_BACK = (
    "SELECT value FROM item WHERE model = ? AND key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
)


def signature(models: Sequence[ReadModel]) -> str:
    """Names and versions of the models that items were made by."""
    return " ".join(f"{model.name}:{model.version}" for model in models)


def restored(model: ReadModel, state: State) -> dict[str, Any]:
    """A model's items from a snapshot. Raises LogError if they have another shape by now."""
    found = state.versions.get(model.name)
    if found != model.version:
        raise LogError(
            f"the log's snapshot holds {model.name} in version {found}, this program has version"
            f" {model.version}: make view.db anew with `hooktape rebuild --from zero`"
        )
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(model.item)
    return {key: decoder.decode(value) for key, value in state.sections[model.name].items()}


def discard(directory: Path) -> None:
    """Delete the file with all that belongs to it."""
    for leftover in directory.glob("view.db*"):
        leftover.unlink()


def read_checkpoint(connection: sqlite3.Connection) -> tuple[str, int, bytes, str] | None:
    """Log id, position, leaf and signature; None for a new file."""
    row: tuple[str, int, bytes, str] | None = connection.execute(_READ_CHECKPOINT).fetchone()
    return row


def select(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> list[Any]:
    """All rows of a query."""
    return connection.execute(query, values).fetchall()


def select_one(connection: sqlite3.Connection, model: str, key: str) -> bytes | None:
    """One item; None when it is not there."""
    row: tuple[bytes] | None = connection.execute(_READ_ITEM, (model, key)).fetchone()
    return row and row[0]


def clear(connection: sqlite3.Connection) -> None:
    """Forget everything."""
    connection.execute("DELETE FROM item")
    connection.execute("DELETE FROM checkpoint")


def delete_below(connection: sqlite3.Connection, model: str, after: str, floor: int) -> str:
    """Delete old facts in a chunk of keys after one; the last key of the chunk."""
    row = connection.execute(_CHUNK_END, (model, after)).fetchone()
    end: str = LAST_KEY if row is None else row[0]
    connection.execute(_DELETE_BELOW, (model, after, end, floor))
    return end


def write(
    connection: sqlite3.Connection,
    puts: Sequence[tuple[str, str, bytes]],
    deletes: Sequence[tuple[str, str]],
) -> None:
    """Write changed items by (model, key)."""
    connection.executemany(_PUT_ITEM, puts)
    connection.executemany(_DELETE_ITEM, deletes)


def store(
    connection: sqlite3.Connection,
    puts: Sequence[tuple[str, str, bytes]],
    deletes: Sequence[tuple[str, str]],
    checkpoint: Checkpoint,
    signature: str,
) -> None:
    """The same, with the position that the file then belongs to."""
    write(connection, puts, deletes)
    values = (checkpoint.log_id, checkpoint.seq, checkpoint.leaf, signature)
    connection.execute(_PUT_CHECKPOINT, values)

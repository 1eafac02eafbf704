"""Many rows in few steps.

sqlite3 lets go of the interpreter lock at every step, and taking it back from a busy event loop
costs up to the switch interval. So rows are written and looked up by statements of many rows each,
in a few fixed sizes that the statement cache keeps.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

_MOST = 256  # rows a statement; times 17 columns stays well under SQLite's 32766 parameters


def insert(
    connection: sqlite3.Connection, head: str, width: int, values: Sequence[object], tail: str = ""
) -> None:
    """Run `head VALUES (...), (...) tail` for all rows; `values` are theirs, row after row."""
    start = 0
    while left := (len(values) - start) // width:
        size = min(_MOST, 1 << (left.bit_length() - 1))
        end = start + size * width
        connection.execute(_values(head, width, size, tail), values[start:end])
        start = end


def select_in(
    connection: sqlite3.Connection, head: str, keys: Iterable[object]
) -> list[tuple[Any, ...]]:
    """The rows of `head IN (keys)`, in no order."""
    wanted = list(keys)
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), _MOST):
        part = wanted[start : start + _MOST]
        size = 1 << (len(part) - 1).bit_length()
        part += part[-1:] * (size - len(part))  # repeated keys change nothing
        found += connection.execute(f"{head} IN ({_marks(size)})", part).fetchall()
    return found


@lru_cache
def _values(head: str, width: int, size: int, tail: str) -> str:
    return f"{head} VALUES {','.join([f'({_marks(width)})'] * size)}{tail}"


def _marks(count: int) -> str:
    return ",".join("?" * count)

"""Many rows in few steps.

sqlite3 lets go of the interpreter lock at every step, and taking it back from a busy event loop
costs up to the switch interval. So rows are written and looked up by statements of many rows each,
in a few fixed sizes that the statement cache keeps.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_MOST = 256  # rows a statement; times 17 columns stays well under SQLite's 32766 parameters


def insert(
    connection: sqlite3.Connection, head: str, rows: Sequence[Sequence[object]], tail: str = ""
) -> None:
    """Run `head VALUES (...), (...) tail` for all rows, which are equally wide."""
    done = 0
    while left := len(rows) - done:
        size = min(_MOST, 1 << (left.bit_length() - 1))
        part = rows[done : done + size]
        connection.execute(_values(head, len(part[0]), size, tail), list(chain.from_iterable(part)))
        done += size


def select_in(
    connection: sqlite3.Connection, head: str, keys: Iterable[bytes | str]
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

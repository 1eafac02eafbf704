"""Looks at every event, in the log and archived, every tile and checkpoint, and says what is wrong.

What it reads are the rows; the pages of the files between them are `doctor`'s.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from eventstore import evidence, files, reading, schema, signing, tiles
from eventstore.archive import Archive
from eventstore.errors import LogDamaged, Truncated
from eventstore.merkle import Tree, complete_root
from eventstore.signing import Signer

Progress = Callable[[int, int], None]

_MOST: Final = 100
_CHECKPOINTS = "SELECT size, CAST(note AS BLOB) FROM checkpoint ORDER BY size"


class Inspected(msgspec.Struct, frozen=True):
    """`problems` is empty for a log that is as it was stored, and is cut at a hundred."""

    first: int
    head: int
    size: int  #: of the tree; positions after it have no proof yet
    checkpoints: int
    problems: list[str]


def inspect(directory: Path, progress: Progress = lambda done, total: None) -> Inspected:
    """Check a data directory, while the service runs or not. Changes nothing.

    Raises LogDamaged when a file is missing or no database, and sqlite3.Error.
    """
    with ExitStack() as stack:
        log, audit = (stack.enter_context(closing(_open(directory, name))) for name in _FILES)
        (log_id,) = log.execute(schema.META, ("log_id",)).fetchone()
        first, size = reading.first(log), tiles.size(audit)
        signer = signing.load(directory / "keys.db", log_id)
        problems: list[str] = []
        head = _head(log, problems)
        for problem in chain(
            _problems(log, audit, signer, first, max(head, size), size, progress),
            Archive(directory / "archive", log_id).check(_held(audit)),
        ):
            problems.append(problem)
            if len(problems) == _MOST:
                break
        (count,) = audit.execute("SELECT count(*) FROM checkpoint").fetchone()
        return Inspected(first, head, size, count, problems)


_FILES = ("log.db", "audit.db")


def _open(directory: Path, name: str) -> sqlite3.Connection:
    if not (directory / name).exists():
        raise LogDamaged(f"there is no {name} in {directory}")
    return files.read_only(directory / name)


def _head(log: sqlite3.Connection, problems: list[str]) -> int:
    """The last position; if it cannot be read, the tree knows how far to look."""
    try:
        (head,) = log.execute("SELECT max(seq) FROM event").fetchone()
    except sqlite3.DatabaseError as error:
        problems.append(f"position of the newest event cannot be read: {error}")
        return 0
    return head or 0


def _problems(
    log: sqlite3.Connection,
    audit: sqlite3.Connection,
    signer: Signer,
    first: int,
    head: int,
    size: int,
    progress: Progress,
) -> Iterator[str]:
    after = first - 1
    while after < head:
        try:
            leaves, upto = _leaves(log, after, head)
        except Truncated as gone:  # while this was going on
            after = gone.first - 1
            continue
        yield from (leaf for leaf in leaves if isinstance(leaf, str))
        yield from _differences(audit, leaves, after, size)
        after = upto
        progress(after - first + 1, head - first + 1)
    yield from _levels(audit, size)
    yield from _checkpoints(audit, signer)


def _leaves(log: sqlite3.Connection, after: int, head: int) -> tuple[list[bytes | str], int]:
    """Leaf or problem of each position after `after`, a page of them, and where the page ends."""
    try:
        page = evidence.page(log, after, head)
    except LogDamaged:
        upto = min(head, after + evidence.PAGE)
        return [_leaf(log, seq) for seq in range(after + 1, upto + 1)], upto
    return [each.leaf for each in page], page[-1].line.seq


def _leaf(log: sqlite3.Connection, seq: int) -> bytes | str:
    try:
        return evidence.page(log, seq - 1, seq)[0].leaf
    except LogDamaged as error:
        return str(error)


def _held(audit: sqlite3.Connection) -> Callable[[int], bytes | None]:
    """Finds the leaf of a position in the tree; None where there is none."""
    tile = lru_cache(maxsize=1)(partial(_hashes, audit, 0))

    def leaf(seq: int) -> bytes | None:
        number, place = divmod(seq - 1, tiles.WIDTH)
        held = tile(number) or []
        return held[place] if place < len(held) else None

    return leaf


def _differences(
    audit: sqlite3.Connection, leaves: Sequence[bytes | str], after: int, size: int
) -> Iterator[str]:
    """Where the tree holds another leaf than the log."""
    number, held = -1, list[bytes]()
    for seq, leaf in enumerate(leaves, after + 1):
        if seq > size:
            return
        wanted, place = divmod(seq - 1, tiles.WIDTH)
        if wanted != number:
            number, held = wanted, _hashes(audit, 0, wanted) or []
        if isinstance(leaf, bytes) and held and held[place : place + 1] != [leaf]:
            yield f"position {seq}: tile 0/{number} holds another leaf than the log"


def _levels(audit: sqlite3.Connection, size: int) -> Iterator[str]:
    """Tiles that are missing, or whose root is not what the tile above holds."""
    level, count = 0, size
    while count:
        for number in range(-(-count // tiles.WIDTH)):
            try:
                yield from _above(audit, level, number, tiles.hashes(audit, level, number))
            except LogDamaged as error:
                yield f"{error} ({_positions(level, number)})"
        level, count = level + 1, count // tiles.WIDTH


def _above(
    audit: sqlite3.Connection, level: int, number: int, hashes: list[bytes]
) -> Iterator[str]:
    if len(hashes) < tiles.WIDTH:
        return
    above = _hashes(audit, level + 1, number // tiles.WIDTH) or []
    place = number % tiles.WIDTH
    if above and above[place : place + 1] != [complete_root(hashes)]:
        yield (
            f"tile {level}/{number} and tile {level + 1}/{number // tiles.WIDTH} above it differ "
            f"({_positions(level, number)})"
        )


def _positions(level: int, number: int) -> str:
    covered = tiles.WIDTH ** (level + 1)
    return f"positions {number * covered + 1} to {(number + 1) * covered}"


def _hashes(audit: sqlite3.Connection, level: int, number: int) -> list[bytes] | None:
    """None for what `_levels` reports."""
    try:
        return tiles.hashes(audit, level, number)
    except LogDamaged:
        return None


def _checkpoints(audit: sqlite3.Connection, signer: Signer) -> Iterator[str]:
    notes = audit.execute(_CHECKPOINTS).fetchall()
    size, tree = tiles.size(audit), Tree(tiles.nodes(audit))  # it may have grown meanwhile
    for at, note in notes:
        try:
            tip = signer.verify(note.decode()).tip
            if tip.size != at or at > size:
                yield f"the checkpoint of {at} events: it says {tip.size}, the tree has {size}"
            elif tree.root(at) != tip.root:
                yield f"the checkpoint of {at} events: the tree has another root"
        except (ValueError, TypeError, AttributeError) as error:
            yield f"the checkpoint of {at} events: {error}"
        except LogDamaged:
            return  # reported with the tiles

"""A data directory as audits read it: brought up to date, and opened beside the service."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from eventstore import files, notes, schema, signing, tiles
from eventstore.auditor import Auditor, newest_checkpoint
from eventstore.errors import LogDamaged, LogLocked, LogUnavailable
from eventstore.log import EventLog
from eventstore.merkle import Nodes, Tree
from eventstore.signing import Signer

_PATIENCE: Final = 10.0
_LOOK_AGAIN: Final = 0.05


class Source(msgspec.Struct, frozen=True):
    """A data directory at its newest checkpoint, as exports read it. See `reading_from`."""

    log: sqlite3.Connection
    audit: sqlite3.Connection
    signer: Signer
    size: int
    root: bytes
    checkpoint: str
    nodes: Nodes

    @property
    def tree(self) -> Tree:
        return Tree(self.nodes)


def log_id(directory: Path) -> str:
    """Of the log in a data directory. Raises LogDamaged when there is none."""
    with closing(open_database(directory, "log.db")) as log:
        (found,) = log.execute(schema.META, ("log_id",)).fetchone()
        return str(found)


def open_database(directory: Path, name: str) -> sqlite3.Connection:
    if not (directory / name).exists():
        raise LogDamaged(f"there is no {name} in {directory}")
    return files.read_only(directory / name)


@contextmanager
def reading_from(directory: Path) -> Iterator[Source]:
    """Open the log, the tree and the keys for reading; the service may run.

    Raises LogDamaged when there is no log or no checkpoint, and sqlite3.Error.
    """
    with ExitStack() as stack:
        log, audit = (
            stack.enter_context(closing(open_database(directory, name)))
            for name in ("log.db", "audit.db")
        )
        size, note = newest_checkpoint(audit)
        if size < 0:
            raise LogDamaged(f"there is no checkpoint in {directory / 'audit.db'} yet")
        signer = signing.load(directory / "keys.db", log_id(directory))
        tip = _verified(signer, note)
        # Signed again, because the newest key may be newer than the checkpoint.
        again = signer.checkpoint(tip.size, tip.root)
        yield Source(log, audit, signer, size, tip.root, again, tiles.nodes(audit))


async def bring_up_to_date(directory: Path) -> None:
    """Have everything stored until now in the tree and signed: by the service, if it runs.

    Raises LogUnavailable if the service does not do so in time, and what `catch_up` raises.
    """
    if not await anyio.Path(directory / "log.db").exists():
        raise LogDamaged(f"there is no log.db in {directory}")
    try:
        async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
            await auditor.catch_up()
    except LogLocked:
        await _caught_up(directory)


async def _caught_up(directory: Path) -> None:
    """Return once another process has stored and signed. Only the files tell, so it polls."""
    head = await anyio.to_thread.run_sync(_head, directory / "log.db")
    with anyio.move_on_after(_PATIENCE):
        while await anyio.to_thread.run_sync(_signed, directory / "audit.db") < head:  # noqa: ASYNC110
            await anyio.sleep(_LOOK_AGAIN)
        return
    raise LogUnavailable("the service's audit does not keep up with its log: /status says why")


def _head(path: Path) -> int:
    with closing(files.read_only(path)) as log:
        (head, *_) = log.execute(schema.NEWEST).fetchone() or (0,)
        return int(head)


def _signed(path: Path) -> int:
    if not path.exists():
        return -1
    with closing(files.read_only(path)) as audit:
        return newest_checkpoint(audit)[0]


def _verified(signer: Signer, note: str) -> notes.Tip:
    try:
        return signer.verify(note).tip
    except ValueError as error:
        raise LogDamaged(f"the newest checkpoint in audit.db: {error}") from error

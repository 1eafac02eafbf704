"""The event log: one file, one writer, readers at any position."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Self
from uuid import UUID

import anyio
import anyio.to_thread

from eventstore import lock, reading, schema
from eventstore.appender import Appender
from eventstore.batch import mark_request
from eventstore.database import Database
from eventstore.errors import IdentityReused, LogDiverged, Truncated
from eventstore.keys import Digests, unlock
from eventstore.options import DEFAULTS, LogOptions
from eventstore.records import Append, Appended, Checkpoint, Idempotency, Kind, RecordedEvent

_READERS = 2


class EventLog:
    """An append-only log in a directory of its own, open in this process only.

    Promised: what `append` answered is on disk, in order, once; positions have no holes and are
    never used twice; nobody who reads on from a position misses anything. Not promised: a wake-up
    for every single event (one may stand for many).
    """

    def __init__(
        self,
        log_id: str,
        first: int,
        digests: Digests,
        appender: Appender,
        readers: Iterable[Database],
    ) -> None:
        self.log_id = log_id
        self.first = first  #: the lowest position that can be read
        self._digests = digests
        self._appender = appender
        self._readers = cycle(readers)

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, *, options: LogOptions = DEFAULTS) -> AsyncIterator[Self]:
        """Open the log in `directory`, made if need be.

        At the end: no new appends, the queue is finished, files are closed, and the lock is let go.
        Raises LogLocked, LogTooNew and LogDamaged.
        """
        async with AsyncExitStack() as stack:
            with anyio.CancelScope(shield=True):
                held = await anyio.to_thread.run_sync(lock.acquire, directory)
                stack.callback(lock.release, held)
            path = directory / "log.db"
            database = await stack.enter_async_context(
                Database.open(
                    path, application_id=schema.APPLICATION_ID, migrations=schema.MIGRATIONS
                )
            )
            log_id, digests = await database.run(unlock, directory / "keys.db")
            first = await database.run(reading.first)
            appender = await Appender.start(database, digests, options)
            readers = [
                await stack.enter_async_context(Database.open(path, readonly=True))
                for _ in range(_READERS)
            ]
            writing = asyncio.create_task(appender.run(), name="event log writer")
            try:
                yield cls(log_id, first, digests, appender, readers)
            finally:
                appender.close()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([writing])
                writing.result()

    @property
    def head(self) -> int:
        """The last stored position, 0 when empty."""
        return self._appender.head.value

    @property
    def config_head(self) -> int:
        """The last stored CONFIG position, 0 when there is none."""
        return self._appender.config_head.value

    @property
    def failure(self) -> str | None:
        """Why nothing can be appended until a restart, in one line. Reading goes on."""
        return self._appender.failure

    async def append(self, append: Append) -> Appended:
        """Store the events of one request, all or none. Returns once they are on disk.

        A repetition of a stored request or event is answered with the positions it has.
        Raises WrongVersion, ConfigMoved, IdentityReused, LogUnavailable: nothing was stored.
        Raises OutcomeUnknown: send it again, with the same idempotency key or event ids.
        Cancelling the caller does not take the events back: then too the outcome is unknown.
        """
        return await self._appender.append(append)

    async def recall(self, idempotency: Idempotency) -> Appended | None:
        """What a request was answered, if it is stored. For callers who decide before they append:
        a decision made again may be a refusal of what was done.

        None proves nothing while the request may still be on its way.
        Raises IdentityReused if the key came with another request.
        """
        mark = mark_request(idempotency, self._digests)
        stored = await self._reader.run(reading.identity, mark.digest)
        if stored is None:
            return None
        if stored.content != mark.content:
            raise IdentityReused(None)
        return Appended(tuple(stored.positions), repeated=True)

    async def read(
        self, after: int, *, limit: int = 1000, kinds: Collection[Kind] | None = None
    ) -> list[RecordedEvent]:
        """A page of events after a position, in order. An empty page means there are no more yet.

        A page may be shorter than `limit` though more events are there, if bodies are large.
        Raises Truncated if positions after `after` are gone.
        """
        self._refuse_truncated(after)
        if after >= self.head:
            return []
        return await self._reader.run(reading.page, after, self.head, limit, kinds)

    async def read_stream(
        self, stream: str, *, after: int = -1, limit: int = 1000
    ) -> list[RecordedEvent]:
        """A page of one stream's events of any kind but EMITTED, after a version, in order."""
        return await self._reader.run(reading.stream_page, stream, after, limit)

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        """The event with this id, if it is in the log."""
        return await self._reader.run(reading.find, event_id.bytes, self.first, self.head)

    async def find_identity(self, identity: str) -> int | None:
        """The position stored under a caller's event id (with its scope)."""
        stored = await self._reader.run(reading.identity, self._digests.event_id(identity))
        return None if stored is None else stored.first

    async def wait(self, after: int) -> None:
        """Return once there is an event after this position."""
        await self._appender.head.beyond(after)

    async def wait_config(self, after: int) -> None:
        """Return once there is a CONFIG event after this position."""
        await self._appender.config_head.beyond(after)

    async def checkpoint(self, seq: int) -> Checkpoint:
        """Proof of having read the log up to `seq`. Raises ValueError if nothing is there."""
        leaf = await self._leaf(seq)
        if leaf is None:
            raise ValueError(f"there is no event at position {seq}")
        return Checkpoint(self.log_id, seq, leaf)

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Return if one can read on from the checkpoint.

        Raises LogDiverged if it was taken from another log, or from a later or other state of this
        one (a backup was restored), and Truncated if positions after it are gone.
        """
        if checkpoint.log_id != self.log_id:
            raise LogDiverged(f"the checkpoint is of log {checkpoint.log_id}, not {self.log_id}")
        self._refuse_truncated(checkpoint.seq)
        if checkpoint.seq == self.first - 1:
            return  # either nothing was read, or what was read last is gone: nothing to compare
        leaf = await self._leaf(checkpoint.seq)
        if leaf is None:
            raise LogDiverged(f"the log ends at {self.head}, before position {checkpoint.seq}")
        if leaf != checkpoint.leaf:
            raise LogDiverged(f"another event is at position {checkpoint.seq} than was read there")

    async def limit(self, max_page_count: int) -> None:
        """Let log.db grow to so many pages of 4096 bytes from now on, but never below its size.

        What finds no room is refused with LogUnavailable(full=True); raising the limit mends that.
        """
        await self._appender.limit(max_page_count)

    def digest(self, text: str) -> bytes:
        """A keyed 16-byte digest, the same for the life of the log, useless to others."""
        return self._digests.text(text)

    @property
    def _reader(self) -> Database:
        return next(self._readers)

    async def _leaf(self, seq: int) -> bytes | None:
        return await self._reader.run(reading.leaf, seq) if seq else b""

    def _refuse_truncated(self, after: int) -> None:
        if after < self.first - 1:
            raise Truncated(self.first)

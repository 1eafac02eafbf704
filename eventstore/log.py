"""The event log: one file, one writer, readers at any position."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Self
from uuid import UUID

import anyio
import anyio.to_thread

from eventstore import lock, reading, schema
from eventstore.append_queue import AppendQueue, Pending
from eventstore.database import Database
from eventstore.errors import LogDiverged, LogError, LogUnavailable, OutcomeUnknown, Truncated
from eventstore.keys import Digests, unlock
from eventstore.options import DEFAULTS, LogOptions
from eventstore.records import Append, Appended, Checkpoint, Kind, RecordedEvent
from eventstore.writer import Writer

_READERS = 2

_log = logging.getLogger("hooktape.eventstore")


class EventLog:
    """An append-only log in a directory of its own, open in this process only.

    Promised: what `append` answered is on disk, in order, once; positions have no holes and are
    never used twice; nobody who reads on from a position misses anything. Not promised: a wake-up
    for every single event (one may stand for many).
    """

    def __init__(
        self,
        log_id: str,
        digests: Digests,
        writer: Writer,
        database: Database,
        readers: Sequence[Database],
        options: LogOptions,
    ) -> None:
        self.log_id = log_id
        self.first = 1  #: the lowest position that can be read
        self.failure: str | None = None  #: why nothing can be appended, in one line
        self._digests = digests
        self._writer = writer
        self._database = database
        self._readers = cycle(readers)
        self._options = options
        self._queue = AppendQueue(options)
        self._in_doubt = False  # an I/O failure came after the last commit that went well
        self.head = writer.seq  #: the last stored position, 0 when empty
        self.config_head = writer.config  #: the last stored CONFIG position
        self._moved = anyio.Event()
        self._config_moved = anyio.Event()

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
            writer = await database.run(Writer, digests, options.max_page_count)
            readers = [
                await stack.enter_async_context(Database.open(path, readonly=True))
                for _ in range(_READERS)
            ]
            log = cls(log_id, digests, writer, database, readers, options)
            writing = asyncio.create_task(log._write(), name="event log writer")
            try:
                yield log
            finally:
                log._queue.close()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([writing])
                writing.result()

    async def append(self, append: Append) -> Appended:
        """Store the events of one request, all or none. Returns once they are on disk.

        A repetition of a stored request or event is answered with the positions it has.
        Raises WrongVersion, ConfigMoved, IdentityReused, LogUnavailable: nothing was stored.
        Raises OutcomeUnknown: send it again, with the same idempotency key or event ids.
        Cancelling the caller does not take the events back: then too the outcome is unknown.
        """
        if self.failure is not None:
            raise LogUnavailable(self.failure)
        return await self._queue.put(append)

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
        digest = self._digests.event_id(identity)
        return await self._reader.run(reading.identity, digest)

    async def wait(self, after: int) -> None:
        """Return once there is an event after this position."""
        while self.head <= after:
            await self._moved.wait()

    async def wait_config(self, after: int) -> None:
        """Return once there is a CONFIG event after this position."""
        while self.config_head <= after:
            await self._config_moved.wait()

    async def checkpoint(self, seq: int) -> Checkpoint:
        """Proof of having read this log up to `seq`."""
        leaf = await self._reader.run(reading.leaf, seq) if seq else b""
        return Checkpoint(self.log_id, seq, leaf or b"")

    async def verify(self, checkpoint: Checkpoint) -> None:
        """Raise LogDiverged unless the checkpoint was taken from this log, as it is now."""
        if checkpoint.log_id != self.log_id:
            raise LogDiverged(
                f"the checkpoint is of log {checkpoint.log_id}, this is log {self.log_id}"
            )
        if await self.checkpoint(checkpoint.seq) != checkpoint:
            raise LogDiverged(f"position {checkpoint.seq} is not the one the checkpoint saw")

    def digest(self, text: str) -> bytes:
        """A keyed 16-byte digest, the same for the life of the log, useless to others."""
        return self._digests.text(text)

    @property
    def _reader(self) -> Database:
        return next(self._readers)

    def _refuse_truncated(self, after: int) -> None:
        if after < self.first - 1:
            raise Truncated(self.first)

    async def _write(self) -> None:
        while batch := await self._queue.batch():
            if self.failure is not None:
                _answer_all(batch, LogUnavailable(self.failure))
            elif await self._commit(batch) and self._writer.wants_checkpoint(
                idle=self._queue.empty
            ):
                await self._checkpoint()

    async def _commit(self, batch: list[Pending]) -> bool:
        appends = [pending.append for pending in batch]
        wall_us = self._options.clock()
        try:
            answers = await self._database.run(self._writer.commit, appends, wall_us)
        except Exception as error:  # whatever it was, nobody may be left waiting
            _answer_all(batch, OutcomeUnknown(f"the commit failed ({error}): send it again"))
            await self._recover(error)
            return False
        self._in_doubt = False
        self._publish()
        for pending, answer in zip(batch, answers, strict=True):
            _give(pending.answer, answer)
        return True

    async def _checkpoint(self) -> None:
        try:
            await self._database.run(self._writer.checkpoint)
        except sqlite3.Error as error:
            await self._recover(error)

    async def _recover(self, error: Exception) -> None:
        """Reopen the file and see what it holds. The second failure in a row stops the log."""
        _log.error("the log could not be written", exc_info=error)
        if self._in_doubt:
            self.failure = f"the log failed twice in a row: {error}"
            return
        self._in_doubt = True
        seq, leaf = self._writer.seq, self._writer.leaf
        try:
            await self._database.reopen()
            self._writer = await self._database.run(
                Writer, self._digests, self._options.max_page_count
            )
            found = await self._database.run(reading.leaf, seq) if seq else b""
        except sqlite3.Error as again:
            self.failure = f"the log cannot be reopened: {again}"
            return
        if found != leaf:
            self.failure = f"after an I/O failure, position {seq} is not what it was"
            return
        self._publish()

    def _publish(self) -> None:
        """Let everybody see what was committed, and wake those who wait for it."""
        if self._writer.seq > self.head:
            self.head = self._writer.seq
            self._moved, moved = anyio.Event(), self._moved
            moved.set()
        if self._writer.config > self.config_head:
            self.config_head = self._writer.config
            self._config_moved, moved = anyio.Event(), self._config_moved
            moved.set()


def _answer_all(batch: Sequence[Pending], error: LogError) -> None:
    for pending in batch:
        _give(pending.answer, error)


def _give(waiting: asyncio.Future[Appended], answer: Appended | LogError) -> None:
    if waiting.done():  # its caller went away
        return
    if isinstance(answer, LogError):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)

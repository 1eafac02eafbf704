"""The event log: one file, one writer, readers at any position."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Self
from uuid import UUID

import anyio
import anyio.to_thread

from eventstore import lock, reading, schema, truncation, wal
from eventstore.appender import Appender
from eventstore.batch import mark_request
from eventstore.codec import new_event
from eventstore.database import Database
from eventstore.eraser import Eraser
from eventstore.errors import IdentityReused, LogDiverged, Truncated
from eventstore.events import RESTORE_STREAM, RepeatsAccepted
from eventstore.keys import Digests, unlock
from eventstore.options import DEFAULTS, LogOptions
from eventstore.records import Append, Appended, Checkpoint, Idempotency, Kind, RecordedEvent

_READERS = 2
_SETTLE_TRIES = 3


class EventLog:
    """An append-only log in a directory of its own, open in this process only.

    Promised: what `append` answered is on disk, in order, once; positions have no holes and are
    never used twice; nobody who reads on from a position misses anything. Not promised: a wake-up
    for every single event (one may stand for many).
    """

    def __init__(
        self,
        log_id: str,
        path: Path,
        first: int,
        snapshot: int | None,
        digests: Digests,
        appender: Appender,
        readers: Iterable[Database],
        eraser: Eraser,
    ) -> None:
        self.log_id = log_id
        self.path = path  #: of log.db, for readers with a connection of their own
        self.first = first  #: the lowest position that can be read
        self.snapshot = snapshot  #: where the state of what was truncated is, see snapshots.py
        self.restored: str | None = None  #: what of, while nobody accepted repeated deliveries
        self.eraser = eraser  #: takes bodies away
        self._digests = digests
        self._appender = appender
        self._readers = cycle(readers)

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, *, options: LogOptions = DEFAULTS) -> AsyncIterator[Self]:
        """Open the log in `directory`, made if need be.

        At the end: no new appends, the queue is finished, files are closed, and the lock is let go.
        What an interrupted erasure left is finished first. Raises LogLocked, LogTooNew,
        LogDamaged, and LogUnavailable when somebody reads a WAL that is to be emptied.
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
            snapshot = await database.run(reading.snapshot)
            appender = await Appender.start(database, digests, options)
            readers = [
                await stack.enter_async_context(Database.open(path, readonly=True))
                for _ in range(_READERS)
            ]
            writing = asyncio.create_task(appender.run(), name="event log writer")
            eraser = Eraser(appender, path, log_id, digests)
            try:
                await eraser.complete()
                log = cls(log_id, path, first, snapshot, digests, appender, readers, eraser)
                log.restored = await database.run(reading.restored)
                yield log
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
        page = await self._reader.run(reading.page, after, self.head, limit, kinds)
        self._refuse_truncated(after)  # perhaps while it was read
        return page

    async def read_stream(
        self, stream: str, *, after: int = -1, limit: int = 1000
    ) -> list[RecordedEvent]:
        """A page of one stream's events of any kind but EMITTED, after a version, in order.

        What was truncated is not there: a first version above `after` + 1 tells.
        """
        return await self._reader.run(reading.stream_page, stream, after, self.first, limit)

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
        leaf = await self._leaf(seq) if seq != self.first - 1 else b""
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
        self._refuse_truncated(checkpoint.seq)
        if leaf is None:
            raise LogDiverged(f"the log ends at {self.head}, before position {checkpoint.seq}")
        if leaf != checkpoint.leaf:
            raise LogDiverged(f"another event is at position {checkpoint.seq} than was read there")

    async def truncate_before(
        self,
        floor: int,
        *,
        snapshot: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Forget everything below `floor`, and give its room back. `progress(n)`: n rows more.

        Whoever reads below it gets Truncated from the first moment on. The events go in chunks,
        between appends. Interrupted, it is finished by calling it again with the same or a higher
        floor. What is above, streams' versions and known identities stay as they are.
        `snapshot` is where a rebuild finds the state of what is gone. Nothing here checks who still
        needs it: see compaction.py. Raises ValueError if not even one event would be left, and
        what `append` raises.
        """
        await self._appender.maintain(truncation.decide, floor, snapshot)
        self.first = max(self.first, floor)
        self.snapshot = self.snapshot if snapshot is None else snapshot
        while gone := await self._appender.maintain(truncation.delete):
            progress(gone)
        while await self._appender.maintain(truncation.reclaim):
            pass
        await self._settle()

    async def replace_snapshot(self, position: int) -> None:
        """From now on a rebuild starts from another snapshot of the same floor."""
        await self._appender.maintain(truncation.decide, self.first, position)
        self.snapshot = position

    async def _settle(self) -> None:
        """Readers leave the WAL after each page; only a foreign one could be in it for longer."""
        for _ in range(_SETTLE_TRIES):
            if await self._appender.maintain(wal.empty):
                return

    async def accept_repeats(self) -> None:
        """Take the mark of a restored log away, and say so in it. Nothing happens without one."""
        if self.restored is None:
            return
        body = RepeatsAccepted(restored=self.restored)
        name = f"accepted\0{self.restored}"
        event = new_event(body, stream=RESTORE_STREAM, kind=Kind.SYSTEM, identity=name)
        await self.append(Append(events=(event,)))
        await self._appender.maintain(reading.accept_restored)
        self.restored = None

    async def limit(self, max_page_count: int) -> None:
        """Let log.db grow to so many pages of 4096 bytes from now on, but never below its size.

        What finds no room is refused with LogUnavailable(full=True); raising the limit mends that.
        """
        await self._appender.limit(max_page_count)

    def digest(self, text: str) -> bytes:
        """A keyed 16-byte digest, the same for the life of the log, useless to others."""
        return self._digests.text(text)

    def subject(self, text: str) -> bytes:
        """The digest under which events about this person are stored."""
        return self._digests.subject(text)

    @property
    def _reader(self) -> Database:
        return next(self._readers)

    async def _leaf(self, seq: int) -> bytes | None:
        return await self._reader.run(reading.leaf, seq) if seq else b""

    def _refuse_truncated(self, after: int) -> None:
        if after < self.first - 1:
            raise Truncated(self.first)

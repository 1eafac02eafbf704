"""Erasing bodies so that nothing on this disk holds them, in steps that can be done again.

    the record, salt and body of every position     one transaction in log.db
    whoever folded a body puts that right           when it comes to the record (`obeyed`)
    copies that were stored meanwhile               erased the same way, until there are none
    the keys of archived bodies                     keys.db
    saved states of the read models                 deleted
    the snapshot, if the log begins with one        taken again, and former ones erased (`renew`)
    the WAL, emptied                                its old frames held the bodies

Only then is an erasure answered. A mark in log.db says that the last three are still to be done:
the next start does them before anything is served.

What the file system keeps of overwritten blocks, what was logged and what receivers were sent is
out of reach; so are back-ups, until they are restored. Events stored later are not concerned.
"""

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
import msgspec

from eventstore import erasing, reading, wal
from eventstore.appender import Appender
from eventstore.batch import mark_request
from eventstore.codec import new_event
from eventstore.database import Database
from eventstore.erasing import Found, Wanted
from eventstore.errors import IdentityReused, LogDamaged, LogUnavailable, Truncated
from eventstore.events import ERASURE_STREAM, EventsErased
from eventstore.forgetting import archived_parts, forget, remembered
from eventstore.keys import Digests
from eventstore.records import Append, Kind
from eventstore.runs import Run, Runs, runs

_logger = logging.getLogger("hooktape.eventstore")

P = ParamSpec("P")
T = TypeVar("T")

Obeyed = Callable[[int, EventsErased], Awaitable[None]]
"""Returns once all who fold the log have acted on the record at a position."""

_PASSES: Final = 10
_WAL_TRIES: Final = 100
_WAL_PAUSE: Final = 0.05
"""Seconds. Readers of ours leave the WAL after each page, a back-up when it is done."""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """So many bodies were erased now, as said at these positions."""

    count: int
    records: tuple[int, ...]


class NotRenewed(LogUnavailable):
    """The erasure is stored, and the log's snapshot still holds what it took."""


class Eraser:
    """Erases from one log, one erasure after another."""

    def __init__(self, appender: Appender, path: Path, log_id: str, digests: Digests) -> None:
        #: takes the log's snapshot again; the positions of parts that nobody needs any more
        self.renew: Callable[[], Awaitable[list[int]]] | None = None
        self._log_id = log_id
        self._appender = appender
        self._digests = digests
        self._path = path
        self._keys = path.with_name("keys.db")
        self._turn = anyio.Lock()

    async def count(self, wanted: Wanted) -> int:
        """How many bodies `erase` would take."""
        return len(await self._read(erasing.choose, wanted, Runs(), self._head))

    async def records(self, after: int = 0) -> list[tuple[int, EventsErased]]:
        """All erasures after a position that the log tells of, each with its own position."""
        return await self._read(erasing.records, after)

    async def erase(self, wanted: Wanted, reason: str, origin: Append, obeyed: Obeyed) -> Erased:
        """Erase what is stored by now. Returns once it is gone; doing it again does nothing more.

        `origin` says who asks; it has no events of its own. Raises what appending raises, and
        LogUnavailable when some reader does not let go of the WAL: the next call goes on.
        """
        async with self._turn:
            first = await self._recall(origin)
            if first is not None:
                origin = msgspec.structs.replace(origin, idempotency=None)
            chosen, count, records = Runs(), 0, list[int]()
            for _ in range(_PASSES):
                found = await self._read(erasing.choose, wanted, chosen, self._head)
                if not found and (records or not await self._archived(wanted)):
                    break
                for piece in list(erasing.pieces(found)) or [[]]:
                    body = _record(wanted, reason, piece)
                    records.append(await self._store(body, origin))
                    origin = msgspec.structs.replace(origin, idempotency=None)
                    await obeyed(records[-1], body)
                count += len(found)
            await self._finish()
            return Erased(count=count, records=tuple(records)) if records or not first else first

    async def again(self, records: Sequence[EventsErased], origin: Append) -> Erased:
        """Erase what a later state of this log had erased, after an earlier one was restored."""
        async with self._turn:
            count, stored = 0, list[int]()
            for record in records:
                # What came after the restored end is other events by now.
                known = [(a, min(b, self._head)) for a, b in record.runs if a <= self._head]
                chosen = Runs(known)
                found = {
                    *await self._read(erasing.bodies, known, self._head),
                    *await self._read(erasing.copies, chosen, self._head),
                }
                body = msgspec.structs.replace(
                    record, runs=list(chosen), count=len(found), streams=_streams(found)
                )
                places = runs(sorted(each.seq for each in found))
                stored.append(await self._store(body, origin, places))
                count += len(found)
            await self._finish()
            return Erased(count=count, records=tuple(stored))

    async def complete(self) -> None:
        """At the start: finish what was stored and not finished.

        Where the log begins with a snapshot that takes two calls, the second one with `renew` set;
        when that fails, it is reported, and left for the next time.
        """
        async with self._turn:
            unfinished = await self._appender.maintain(erasing.unfinished)
            if not unfinished:
                return
            chosen = Runs(run for record in unfinished for run in record.runs)
            found = await self._read(erasing.copies, chosen, self._head)
            for piece in erasing.pieces(found):
                reason = "copies of erased events"
                body = _record(Wanted(unfinished[-1].what, unfinished[-1].key), reason, piece)
                await self._store(body, Append(events=()))
            try:
                await self._finish()
            except NotRenewed as error:
                _logger.critical("%s", error)

    @property
    def _head(self) -> int:
        return self._appender.head.value

    async def _read(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """On a connection of its own: a search through the whole log keeps no reader waiting."""
        async with Database.open(self._path, readonly=True) as reader:
            return await reader.run(function, *args, **kwargs)

    async def _store(
        self, body: EventsErased, origin: Append, some: Sequence[Run] | None = None
    ) -> int:
        """Put the record into the log, and take the bodies of its runs, or of `some`, away."""
        event = new_event(body, stream=ERASURE_STREAM, kind=Kind.SYSTEM)
        append = msgspec.structs.replace(
            origin,
            events=(event,),
            erase=tuple(body.runs if some is None else some),
            workspace="",
        )
        return (await self._appender.append(append)).positions[0]

    async def _recall(self, origin: Append) -> Erased | None:
        """What the same request did the first time. Raises IdentityReused."""
        if origin.idempotency is None:
            return None
        mark = mark_request(origin.idempotency, self._digests)
        stored = await self._read(reading.identity, mark.digest)
        if stored is None:
            return None
        if stored.content != mark.content:
            raise IdentityReused(None)
        found = dict(await self._read(erasing.records, stored.first - 1))
        return Erased(count=found[stored.first].count, records=(stored.first,))

    async def _archived(self, wanted: Wanted) -> bool:
        """Whether something may be readable in an archive that the log does not have."""
        if wanted.what == "event" and await self._read(reading.leaf, wanted.seq) is not None:
            return False
        return await anyio.to_thread.run_sync(remembered, self._keys, wanted)

    async def _finish(self) -> None:
        unfinished = await self._appender.maintain(erasing.unfinished)
        if not unfinished:
            return
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(forget, self._keys, unfinished)
        whole = await self._appender.maintain(reading.snapshot) is None
        if not whole and self.renew is not None:
            try:
                await self._tidy(unfinished[-1], await self.renew())
            except (LogDamaged, Truncated, OSError) as error:
                raise NotRenewed(
                    "the erasure is stored, but the snapshot in the log cannot be taken again"
                    f" without the whole archive: {error}"
                ) from error
            whole = True
        for _ in range(_WAL_TRIES):
            if await self._appender.maintain(wal.empty):
                if whole:
                    await self._appender.maintain(erasing.finished)
                return
            await anyio.sleep(_WAL_PAUSE)
        raise LogUnavailable(
            "the erasure is stored, and waits for a reader of log.db (a back-up?) to finish:"
            " ask for it again later"
        )

    async def _tidy(self, last: EventsErased, stale: Sequence[int]) -> None:
        """Former snapshots hold what was erased from the state; so do those in the archive."""
        archived = await anyio.to_thread.run_sync(archived_parts, self._keys, self._log_id)
        if not stale and not archived:
            return
        body = msgspec.structs.replace(
            last,
            reason="parts of former snapshots",
            runs=runs(sorted({*stale, *archived})),
            count=len(stale),
            streams=[],
        )
        await self._store(body, Append(events=()), runs(stale))
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(forget, self._keys, [body])


def _record(wanted: Wanted, reason: str, piece: Sequence[Found]) -> EventsErased:
    positions: list[Run] = runs(each.seq for each in piece)
    if wanted.what == "event" and not positions:
        positions = [(wanted.seq, wanted.seq)]
    return EventsErased(
        what=wanted.what,
        key=wanted.key,
        reason=reason,
        runs=positions,
        count=len(piece),
        streams=_streams(piece),
    )


def _streams(some: Iterable[Found]) -> list[str]:
    return sorted({each.stream for each in some} - {""})

"""Group commit: one task takes what is waiting, has it committed, and answers.

It owns the writer's connection and is the only one to recover it. A caller waits for its own answer
and can go away at any time; the batch never notices.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import anyio

from eventstore import reading, wal
from eventstore.append_queue import AppendQueue, Pending
from eventstore.batch import Answer
from eventstore.database import Database
from eventstore.errors import LogError, LogUnavailable, OutcomeUnknown
from eventstore.following import Position
from eventstore.keys import Digests
from eventstore.options import LogOptions
from eventstore.records import Append, Appended
from eventstore.writer import Writer, limit_pages

_log = logging.getLogger("hooktape.eventstore")

P = ParamSpec("P")
T = TypeVar("T")


class Appender:
    """The writing half of the log. `run` it in one task; build it with `start`."""

    def __init__(
        self, database: Database, digests: Digests, options: LogOptions, writer: Writer
    ) -> None:
        self.failure: str | None = None
        self.head = Position(writer.seq)
        self.config_head = Position(writer.config)
        self._database = database
        self._digests = digests
        self._options = options
        self._max_page_count = options.max_page_count
        self._writer = writer
        self._in_doubt = False  # nothing was committed yet since the last failure
        self._queue = AppendQueue(options)
        self._turn = asyncio.Lock()  # whoever has it uses the connection, and recovers it

    @classmethod
    async def start(cls, database: Database, digests: Digests, options: LogOptions) -> "Appender":
        writer = await database.run(Writer, digests, options.max_page_count)
        return cls(database, digests, options, writer)

    async def append(self, append: Append) -> Appended:
        """Wait for the append's turn and its answer, which comes after COMMIT."""
        if self.failure is not None:
            raise LogUnavailable(self.failure)
        return await self._queue.put(append)

    def close(self) -> None:
        """Take no more appends; `run` ends when those waiting are answered."""
        self._queue.close()

    async def limit(self, max_page_count: int) -> None:
        self._max_page_count = max_page_count
        await self._database.run(limit_pages, max_page_count)

    async def maintain(
        self,
        function: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `function(connection, ...)` on the writer's connection, between two batches.

        Keep it short: appends wait meanwhile. Raises LogUnavailable when the log has stopped, and
        OutcomeUnknown after an I/O error: then look at what the file holds. Cancelling the caller
        does not stop a function that has begun.
        """
        async with self._turn:
            if self.failure is not None:
                raise LogUnavailable(self.failure)
            try:
                return await self._database.run(function, *args, **kwargs)
            except sqlite3.Error as error:
                with anyio.CancelScope(shield=True):
                    await self._recover(error)
                raise OutcomeUnknown(f"the log could not be written ({error})") from error

    async def run(self) -> None:
        """Commit batch after batch until closed. The WAL is moved into the file between them."""
        while batch := await self._queue.batch():
            async with self._turn:
                if self.failure is not None:
                    _refuse(batch, LogUnavailable, self.failure)
                elif await self._commit(batch):
                    await self._checkpoint()

    async def _commit(self, batch: list[Pending]) -> bool:
        appends = [pending.append for pending in batch]
        try:
            answers = await self._database.run(self._writer.commit, appends, self._options.clock())
        except Exception as error:  # whatever it is, nobody may be left without an answer
            _refuse(batch, OutcomeUnknown, f"the commit failed ({error}): send the request again")
            await self._recover(error)
            return False
        self._publish()
        for pending, answer in zip(batch, answers, strict=True):
            _answer(pending, answer)
        return True

    async def _checkpoint(self) -> None:
        if not self._writer.wants_checkpoint(idle=True):
            return
        await asyncio.sleep(0)  # callers who were just answered may be back at once
        if not self._writer.wants_checkpoint(idle=self._queue.empty):
            return
        try:
            await self._database.run(wal.checkpoint)
        except sqlite3.Error as error:
            await self._recover(error)
        else:
            self._writer.checkpointed()

    async def _recover(self, error: Exception) -> None:
        """Reopen the file and see what it holds. The second failure in a row stops the log."""
        _log.error("the log could not be written", exc_info=error)
        if self._in_doubt:
            self.failure = f"writing failed twice in a row, the log takes no more: {error}"
            return
        self._in_doubt = True
        try:
            await self._reopen()
        except Exception as again:  # without a file there is nothing left but to say so
            _log.error("the log could not be reopened", exc_info=again)
            self.failure = f"the log could not be reopened after a failure: {again}"

    async def _reopen(self) -> None:
        last = self._writer
        await self._database.reopen()
        self._writer = await self._database.run(Writer, self._digests, self._max_page_count)
        if last.seq and await self._database.run(reading.leaf, last.seq) != last.leaf:
            raise LogError(f"position {last.seq} is not what it was")
        self._publish()

    def _publish(self) -> None:
        if self._writer.committed:
            self._in_doubt = False
        self.head.advance(self._writer.seq)
        self.config_head.advance(self._writer.config)


def _refuse(
    batch: Iterable[Pending], error: type[LogUnavailable | OutcomeUnknown], reason: str
) -> None:
    for pending in batch:
        _answer(pending, error(reason))


def _answer(pending: Pending, answer: Answer | OutcomeUnknown) -> None:
    if pending.answer.done():  # its caller went away
        return
    if isinstance(answer, Appended):
        pending.answer.set_result(answer)
    else:
        pending.answer.set_exception(answer)

"""Appends that wait for the writer, within bounds, and who waits for them."""

import asyncio
from collections import deque

import msgspec

from eventstore.errors import LogUnavailable
from eventstore.options import LogOptions
from eventstore.records import Append, Appended


class Pending(msgspec.Struct, frozen=True):
    """An append, its size in bytes of bodies, and where its caller waits for the answer."""

    append: Append
    size: int
    answer: asyncio.Future[Appended]


class AppendQueue:
    """First in, first out. Bounded: what does not fit is refused at once, nobody waits for room."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Pending] = deque()
        self._events = 0
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, append: Append) -> asyncio.Future[Appended]:
        """Raises LogUnavailable when the queue is full or closed, ValueError for what no log holds:
        nothing at all, or names that are no Unicode text. In a batch these would harm others.
        """
        if self._closed:
            raise LogUnavailable("the log is closing")
        events, size = len(append.events), _size(append)
        if self._events and (
            self._events + events > self._options.queue_events
            or self._bytes + size > self._options.queue_bytes
        ):
            raise LogUnavailable("the append queue is full")
        answer: asyncio.Future[Appended] = self._loop.create_future()
        self._waiting.append(Pending(append, size, answer))
        self._events += events
        self._bytes += size
        self._arrived.set()
        return answer

    @property
    def empty(self) -> bool:
        return not self._waiting

    def close(self) -> None:
        """Take nothing more. What is waiting can still be had."""
        self._closed = True
        self._arrived.set()

    async def batch(self) -> list[Pending]:
        """The next batch, as soon as there is anything; empty once all is done after `close`.

        No artificial delay: whatever came while the last batch was committed is the next one.
        Appends whose caller went away before their turn are dropped.
        """
        while not (batch := self._take()) and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        return batch

    def _take(self) -> list[Pending]:
        batch: list[Pending] = []
        events = size = 0
        while self._waiting:
            pending = self._waiting[0]
            events += len(pending.append.events)
            size += pending.size
            if batch and (events > self._options.batch_events or size > self._options.batch_bytes):
                break
            self._waiting.popleft()
            self._events -= len(pending.append.events)
            self._bytes -= pending.size
            if not pending.answer.cancelled():
                batch.append(pending)
        return batch


def _size(append: Append) -> int:
    """Bytes of all bodies. Raises ValueError."""
    if not append.events:
        raise ValueError("an append needs at least one event")
    size = 0
    _refuse_surrogates(append.workspace + (append.actor or "") + (append.request_id or ""))
    for event in append.events:
        _refuse_surrogates(event.stream + event.type)
        size += len(event.body)
    return size


def _refuse_surrogates(names: str) -> None:
    if not names.isascii():
        names.encode()

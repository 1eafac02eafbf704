"""Shared pages of the log."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Self

import anyio
import pytest

from delivery.pages import Pages
from eventstore import Append, EventLog, Kind, RecordedEvent
from tests.delivery.world import emitted

LARGE = "x" * 300_000


class CountingLog(EventLog):
    """A real log that counts how often it is read."""

    reads = 0

    async def read(
        self, after: int, *, limit: int = 1000, kinds: Collection[Kind] | None = None
    ) -> list[RecordedEvent]:
        self.reads += 1
        return await super().read(after, limit=limit, kinds=kinds)

    async def fill(self, count: int, data: object = None) -> Self:
        await self.append(Append(events=tuple(emitted({"x": data}) for _ in range(count))))
        return self


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[CountingLog]:
    async with CountingLog.open(tmp_path) as log:
        yield log


async def read_on(pages: Pages, position: int = 0) -> list[int]:
    """All positions after this one, page by page."""
    seqs: list[int] = []
    while page := await pages.after(position):
        seqs += [event.seq for event in page]
        position = page[-1].seq
    return seqs


@pytest.mark.parametrize("start", [0, 1, 255, 256, 300, 599, 600])
async def test_nothing_is_missed_from_any_position(log: CountingLog, start: int) -> None:
    """Pages are aligned; where a reader starts is not."""
    await log.fill(600)

    assert await read_on(Pages(log), start) == list(range(start + 1, 601))


async def test_a_page_is_read_once_for_all(log: CountingLog) -> None:
    """A thousand lagging hooks cost no more reads than one."""
    await log.fill(512)
    pages = Pages(log)
    async with anyio.create_task_group() as tasks:
        for number in range(1000):
            tasks.start_soon(pages.after, number % 512)

    assert log.reads == 2


async def test_the_last_page_grows(log: CountingLog) -> None:
    """What is appended later is found, and what was read is not read again."""
    await log.fill(10)
    pages = Pages(log)
    before = await read_on(pages)
    await log.fill(10)

    assert before == list(range(1, 11))
    assert await read_on(pages, 5) == list(range(6, 21))


async def test_large_bodies_are_read_piece_by_piece(log: CountingLog) -> None:
    """A page that the log gives in several reads is whole in the end."""
    for _ in range(10):
        await log.fill(8, LARGE)

    assert await read_on(Pages(log), 3) == list(range(4, 81))


async def test_memory_is_bounded(log: CountingLog) -> None:
    """Of more than fits only the pages used last are kept."""
    await log.fill(256, "x" * 100_000)
    await log.fill(256, "x" * 100_000)
    await log.fill(256)
    pages = Pages(log)
    await read_on(pages)
    read = log.reads
    await pages.after(512)

    assert log.reads == read, "the newest is kept"
    await pages.after(0)
    assert log.reads > read, "the oldest is not"

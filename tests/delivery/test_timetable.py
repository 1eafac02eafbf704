"""Retries fall due in time, in order, and leave nothing behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from delivery.state import Item
from delivery.timetable import Timetable
from tests.delivery.world import until


class Due:
    """What fell due; `wanted` are the items that still mean anything, all of them if None."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.wanted: set[int] | None = None
        self.timetable = Timetable(self.wants, self.take)

    def wants(self, _: str, item: Item) -> bool:
        return self.wanted is None or item[0] in self.wanted

    def take(self, _: str, item: Item) -> None:
        self.items.append(item[0])


@asynccontextmanager
async def running(timetable: Timetable) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timetable.run)
        yield
        tasks.cancel_scope.cancel()


async def test_entries_fall_due_in_order_of_time() -> None:
    """Not in the order in which they were made."""
    due = Due()
    async with running(due.timetable):
        for number, delay in enumerate([0.03, 0.01, -5, 0.02, 0]):
            due.timetable.add("h", (number, ""), delay)
        await until(lambda: len(due.items) == 5)

    assert due.items == [2, 4, 1, 3, 0]


async def test_an_earlier_entry_does_not_wait_for_a_later_one() -> None:
    """The one who sleeps until the next entry is woken by one that comes before."""
    due = Due()
    async with running(due.timetable):
        due.timetable.add("h", (1, ""), 3600)
        await anyio.wait_all_tasks_blocked()
        due.timetable.add("h", (2, ""), 0.001)
        await until(lambda: due.items == [2])

    assert len(due.timetable) == 1


async def test_what_is_not_wanted_any_more_is_passed_over() -> None:
    """Its delivery was cancelled meanwhile."""
    due = Due()
    due.wanted = {2}
    async with running(due.timetable):
        for number in (1, 2, 3):
            due.timetable.add("h", (number, ""), 0)
        await until(lambda: len(due.timetable) == 0)

    assert due.items == [2]


@pytest.mark.parametrize("kept", [0, 10])
async def test_cancelled_entries_do_not_pile_up(kept: int) -> None:
    """However many are cancelled long before their time, memory follows what is open."""
    due = Due()
    due.wanted = set(range(kept))
    for number in range(20_000):
        due.timetable.add("h", (number, ""), 3600)

    assert len(due.timetable) <= 1024 + kept


async def test_pruning_keeps_what_is_wanted() -> None:
    """More open entries than it starts to prune from are all kept."""
    due = Due()
    for number in range(5000):
        due.timetable.add("h", (number, ""), 0)
    async with running(due.timetable):
        await until(lambda: len(due.items) == 5000)

    assert due.items == list(range(5000))

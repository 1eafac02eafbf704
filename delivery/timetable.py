"""When retries fall due: by the monotonic clock, so that setting the wall clock hastens or delays
none of them.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

import anyio

from .state import Item

_PRUNE_FROM: Final = 1024


class Timetable:
    """Hands over what falls due. `wanted` says whether an entry still means anything."""

    def __init__(
        self, wanted: Callable[[str, Item], bool], fall_due: Callable[[str, Item], None]
    ) -> None:
        self._wanted = wanted
        self._fall_due = fall_due
        self._entries: list[tuple[float, str, Item]] = []
        self._prune_at = _PRUNE_FROM
        self._earlier = anyio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, hook_id: str, item: Item, delay: float) -> None:
        """Hand `item` over in `delay` seconds, at once if that is negative."""
        if len(self._entries) >= self._prune_at:
            self._prune()
        entry = (anyio.current_time() + delay, hook_id, item)
        heappush(self._entries, entry)
        if self._entries[0] is entry:
            self._earlier.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._earlier = anyio.Event()
            now = anyio.current_time()
            while self._entries and self._entries[0][0] <= now:
                _, hook_id, item = heappop(self._entries)
                if self._wanted(hook_id, item):
                    self._fall_due(hook_id, item)
            wait = self._entries[0][0] - now if self._entries else None
            with anyio.move_on_after(wait):
                await self._earlier.wait()

    def _prune(self) -> None:
        """Cancelled deliveries leave entries behind: drop them before they pile up."""
        self._entries = [entry for entry in self._entries if self._wanted(entry[1], entry[2])]
        heapify(self._entries)
        self._prune_at = max(_PRUNE_FROM, 2 * len(self._entries))

"""Pages of the log, shared by all lanes.

A thousand lagging hooks at about the same place read a page once. Full pages never change, so they
are kept, up to a bound in bytes; at most a few reads run at once, in turn.
"""

from collections import OrderedDict
from typing import Final

import anyio

from eventstore.log import EventLog
from eventstore.records import RecordedEvent

_EVENTS: Final = 256
_READS: Final = 2
_BYTES: Final = 32 * 1024 * 1024


class Pages:
    """Reads the log in aligned pages of 256 positions."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._reads = anyio.CapacityLimiter(_READS)
        self._kept: OrderedDict[int, list[RecordedEvent]] = OrderedDict()
        self._bytes = 0

    async def after(self, position: int) -> list[RecordedEvent]:
        """The events after `position` up to the end of its page; at the head perhaps none."""
        number = position // _EVENTS
        page = self._kept.get(number)
        if page is None:
            async with self._reads:
                page = self._kept.get(number)
                if page is None:
                    page = await self._read(number)
        else:
            self._kept.move_to_end(number)
        rest = page[position - number * _EVENTS :]
        # Large bodies make a page shorter than its 256 events; what follows is read as it comes.
        return rest or await self._log.read(position, limit=_EVENTS)

    async def _read(self, number: int) -> list[RecordedEvent]:
        page = await self._log.read(number * _EVENTS, limit=_EVENTS)
        if len(page) == _EVENTS:
            self._kept[number] = page
            self._bytes += _size(page)
            while self._bytes > _BYTES and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return page


def _size(page: list[RecordedEvent]) -> int:
    return sum(len(event.body or b"") + 512 for event in page)

"""Pages of the log, shared by all lanes.

A thousand lagging hooks at about the same place read a page once. Events never change, so pages are
kept, up to a bound in bytes. Lanes come one at a time, in turn: none of them can keep the others,
or the live lane, from their work for longer than a page.
"""

from collections import OrderedDict
from typing import Final

import anyio

from eventstore.errors import Truncated
from eventstore.log import EventLog
from eventstore.records import RecordedEvent

_EVENTS: Final = 256
_BYTES: Final = 32 * 1024 * 1024


class Pages:
    """Reads the log in aligned pages of 256 positions."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._turn = anyio.Lock()
        self._kept: OrderedDict[int, list[RecordedEvent]] = OrderedDict()
        self._bytes = 0

    async def after(self, position: int) -> list[RecordedEvent]:
        """The events after `position` up to the end of its page; at the head perhaps none.

        Raises Truncated when the next one was compacted away.
        """
        number = position // _EVENTS
        end = (number + 1) * _EVENTS
        async with self._turn:
            page = self._kept.setdefault(number, [])
            self._kept.move_to_end(number)
            # The last page of the log grows, and large bodies take more than one read.
            while not page or page[-1].seq <= position:
                start = page[-1].seq if page else max(number * _EVENTS, self._log.first - 1)
                more = await self._log.read(start, limit=end - start)
                if not more:
                    break
                page += more
                self._bytes += _size(more)
            while self._bytes > _BYTES and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        if page and position + 1 < page[0].seq:
            raise Truncated(page[0].seq)
        return page[position + 1 - page[0].seq :] if page else []


def _size(page: list[RecordedEvent]) -> int:
    return sum(len(event.body or b"") + 512 for event in page)

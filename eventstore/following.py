"""A position that only grows, and those who wait for it to grow."""

import anyio


class Position:
    """The wake-up is a hint: whoever waited reads, and what is read decides."""

    def __init__(self, value: int) -> None:
        self.value = value
        self._moved = anyio.Event()

    def advance(self, value: int) -> None:
        """Move on to `value`, if that is further, and wake everybody who waits for it."""
        if value > self.value:
            self.value = value
            self._moved, moved = anyio.Event(), self._moved
            moved.set()

    async def beyond(self, after: int) -> None:
        """Return once the position is greater than `after`."""
        while self.value <= after:
            await self._moved.wait()

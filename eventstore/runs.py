"""Sets of positions as runs: few numbers for many neighbours."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator

Run = tuple[int, int]
"""The first and the last position of an unbroken run."""


def runs(positions: Iterable[int]) -> list[Run]:
    """Positions in ascending order as the fewest runs."""
    found: list[Run] = []
    for position in positions:
        if found and found[-1][1] + 1 == position:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return found


class Runs:
    """A set of positions that grows by runs, which may overlap. A lookup is a binary search."""

    def __init__(self, some: Iterable[Run] = ()) -> None:
        self._runs: list[Run] = []
        self.add(some)

    def add(self, some: Iterable[Run]) -> None:
        for first, last in some:
            touching = list(self._near(first, last))
            for run in touching:
                self._runs.remove(run)
                first, last = min(first, run[0]), max(last, run[1])
            insort(self._runs, (first, last))

    def __contains__(self, position: int) -> bool:
        place = bisect_right(self._runs, position, key=_first) - 1
        return place >= 0 and position <= self._runs[place][1]

    def __iter__(self) -> Iterator[Run]:
        """The runs in order; none touches another."""
        return iter(self._runs)

    def __bool__(self) -> bool:
        return bool(self._runs)

    def _near(self, first: int, last: int) -> Iterator[Run]:
        """The runs that overlap (first, last) or lie right beside it."""
        place = max(bisect_right(self._runs, first, key=_first) - 1, 0)
        for run in self._runs[place:]:
            if run[0] > last + 1:
                return
            if run[1] >= first - 1:
                yield run


def _first(run: Run) -> int:
    return run[0]

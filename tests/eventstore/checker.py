"""Compares what a log holds with what its callers tried and were answered."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import msgspec

from eventstore import RecordedEvent


class Story(msgspec.Struct):
    """What callers saw: requests they made, the positions of those that were acknowledged, and
    those that were refused and not tried again.
    """

    tried: set[str]
    acknowledged: dict[str, list[int]]
    refused: set[str] = set()


def request_of(event: RecordedEvent) -> str:
    body = msgspec.json.decode(event.body or b"")
    return str((body.get("data") or body["entity"])["request"])


def faults(story: Story, events: Sequence[RecordedEvent]) -> list[str]:
    """Every broken promise, in words. The log must be whole, from position 1."""
    found = Counter(map(request_of, events))
    return [
        *_lost(story.acknowledged, events),
        *(f"{name} was never tried" for name in found if name not in story.tried),
        *(f"{name} was refused and is there" for name in found if name in story.refused),
        *(f"{name} is stored {n // 2} times" for name, n in found.items() if n > 2),
        *(f"{name} is stored in part" for name, n in found.items() if n < 2),
        *_holes([event.seq for event in events], "position"),
        *_versions(events),
        *_disorder(events),
    ]


def _lost(
    acknowledged: Mapping[str, Collection[int]], events: Sequence[RecordedEvent]
) -> list[str]:
    at = {event.seq: request_of(event) for event in events}
    return [
        f"{name} was acknowledged at {position} and is not there"
        for name, positions in acknowledged.items()
        for position in positions
        if at.get(position) != name
    ]


def _holes(numbers: Sequence[int], what: str, start: int = 1) -> list[str]:
    return [
        f"{what} {number} where {expected} was expected"
        for expected, number in enumerate(numbers, start=start)
        if number != expected
    ][:1]


def _versions(events: Sequence[RecordedEvent]) -> list[str]:
    return [
        fault
        for stream in {event.stream for event in events}
        for fault in _holes(
            [event.version for event in events if event.stream == stream],
            f"{stream}: version",
            start=0,
        )
    ]


def _disorder(events: Sequence[RecordedEvent]) -> list[str]:
    return [
        f"time or id goes back at {later.seq}"
        for earlier, later in pairwise(events)
        if earlier.time_us >= later.time_us or earlier.event_id >= later.event_id
    ]

"""What must be true after any number of crashes: pure functions over what was recorded outside.

Producers write down every attempt before they make it, and every answer; the receiver writes down
every request before it answers. Each check returns its violations, one line each; none is good.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

UNFLUSHED = 256
"""Completed deliveries that a crash may repeat, as promised; beside them those in flight."""


class Stored(msgspec.Struct, frozen=True):
    """An event as it is in the log. `name` is its producer's; None for events of the service."""

    seq: int
    stream: str
    version: int
    name: str | None


class Arrival(msgspec.Struct, frozen=True):
    """A delivery that reached its receiver. `run` counts the service's lives, from 0."""

    hook: str
    name: str
    delivery: str
    run: int


def acknowledged_are_stored_once(
    acknowledged: Mapping[str, int], stored: Sequence[Stored]
) -> Iterator[str]:
    """What was answered with a position is there, and nowhere else."""
    places = _places(stored)
    for name, position in acknowledged.items():
        if places[name] != [position]:
            yield f"{name} was acknowledged at {position} and is stored at {places[name]}"


def stored_were_attempted(attempted: Collection[str], stored: Sequence[Stored]) -> Iterator[str]:
    """Nothing is there that nobody sent, and nothing twice, acknowledged or not."""
    for name, places in _places(stored).items():
        if name not in attempted:
            yield f"{name} is stored at {places} and was never sent"
        elif len(places) > 1:
            yield f"{name} is stored at {places}"


def batches_are_whole(batches: Iterable[Sequence[str]], stored: Sequence[Stored]) -> Iterator[str]:
    """Events of one request are all there, in order and side by side, or none is."""
    places = _places(stored)
    for batch in batches:
        found = [place for name in batch for place in places[name]]
        if found and found != list(range(found[0], found[0] + len(batch))):
            yield f"the batch {list(batch)} is stored at {found}"


def positions_have_no_holes(stored: Sequence[Stored]) -> Iterator[str]:
    """Positions are 1, 2, 3, ..."""
    for expected, event in enumerate(stored, start=1):
        if event.seq != expected:
            yield f"position {expected} is missing: {event.seq} is in its place"
            return


def versions_have_no_holes(stored: Sequence[Stored]) -> Iterator[str]:
    """The versions of each stream are 0, 1, 2, ... in the order of positions."""
    following: Counter[str] = Counter()
    for event in stored:
        if event.version != following[event.stream]:
            yield f"{event.stream} goes from {following[event.stream] - 1} to {event.version}"
        following[event.stream] = event.version + 1


def matches_are_delivered(
    expected: Mapping[str, Collection[str]], arrivals: Iterable[Arrival]
) -> Iterator[str]:
    """Every stored event that a hook wants has arrived there; nothing else has."""
    arrived: defaultdict[str, set[str]] = defaultdict(set)
    for arrival in arrivals:
        arrived[arrival.hook].add(arrival.name)
    for hook, names in expected.items():
        if lost := set(names) - arrived[hook]:
            yield f"{hook} never got {sorted(lost)}"
        if strange := arrived[hook] - set(names):
            yield f"{hook} got {sorted(strange)}, which are not stored or not for it"


def failures_are_tried_again(arrivals: Iterable[Arrival]) -> Iterator[str]:
    """For a receiver that takes nothing at the first attempt: there was another one."""
    for (hook, name), count in Counter((each.hook, each.name) for each in arrivals).items():
        if count < 2:
            yield f"{name} failed to reach {hook} and was not tried again"


def deliveries_have_one_id(arrivals: Iterable[Arrival]) -> Iterator[str]:
    """A repeated delivery has its old id, and no two deliveries share one."""
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    owners: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for arrival in arrivals:
        ids[arrival.hook, arrival.name].add(arrival.delivery)
        owners[arrival.delivery].add((arrival.hook, arrival.name))
    for (hook, name), found in ids.items():
        if len(found) > 1:
            yield f"{name} came to {hook} under {len(found)} ids"
    for delivery, what in owners.items():
        if len(what) > 1:
            yield f"{delivery} stands for {sorted(what)}"


def repeats_are_bounded(arrivals: Sequence[Arrival], in_flight: int) -> Iterator[str]:
    """Only a crash repeats a delivery, and each crash at most `UNFLUSHED` and those in flight."""
    for arrival, count in Counter(arrivals).items():
        if count > 1:
            yield f"{arrival.name} came to {arrival.hook} {count} times in run {arrival.run}"
    for run, count in lost_completions(arrivals).items():
        if count > UNFLUSHED + in_flight:
            yield f"the end of run {run} repeated {count} deliveries"


def rebuilding_calls_nobody(arrivals: Iterable[Arrival], run: int) -> Iterator[str]:
    """A service that stopped properly owes nothing, also when its state is made from the log."""
    for arrival in arrivals:
        if arrival.run >= run:
            yield f"{arrival.name} came to {arrival.hook} again when the state was rebuilt"


def lost_completions(arrivals: Iterable[Arrival]) -> Counter[int]:
    """By run: how many of its deliveries came again in a later one."""
    last: dict[str, int] = {}
    lost: Counter[int] = Counter()
    for arrival in arrivals:
        before = last.get(arrival.delivery, arrival.run)
        lost[before] += before != arrival.run
        last[arrival.delivery] = arrival.run
    return lost


def states_are_equal(live: Mapping[str, object], rebuilt: Mapping[str, object]) -> Iterator[str]:
    """What is folded from the log again is what was folded while it grew."""
    for name in live.keys() | rebuilt.keys():
        if live.get(name) != rebuilt.get(name):
            yield f"{name} differs after the rebuild"


def _places(stored: Sequence[Stored]) -> defaultdict[str, list[int]]:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for event in stored:
        if event.name is not None:
            places[event.name].append(event.seq)
    return places

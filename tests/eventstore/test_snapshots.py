"""A state as events of the log: split, put together again, and refused unless it is whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis.strategies import dictionaries, fixed_dictionaries, integers, recursive, text

from eventstore import Append, EventLog, Kind, LogDamaged, RecordedEvent
from eventstore.snapshots import Snapshot, State, assemble, events, latest, load
from tests.eventstore.samples import created, of

LARGE = b'"' + b"x" * 100_000 + b'"'
STATE = State({"hooks": 1, "empty": 3}, {"hooks": {f"h{n}": LARGE for n in range(10)}, "empty": {}})

values = recursive(integers(), lambda inner: dictionaries(text(), inner), max_leaves=5)
sections = dictionaries(text(), values, max_size=5)
states = fixed_dictionaries({"a": sections, "b": sections})


def state_of(found: dict[str, Any]) -> State:
    encoded = {
        name: {key: msgspec.json.encode(item) for key, item in items.items()}
        for name, items in found.items()
    }
    return State(dict.fromkeys(found, 1), encoded)


def recorded(state: State) -> list[RecordedEvent]:
    return [
        RecordedEvent(
            seq=seq,
            stream=event.stream,
            version=seq - 1,
            event_id=bytes(16),
            type=event.type,
            schema_version=event.schema_version,
            kind=event.kind,
            time_us=seq,
            wall_us=seq,
            workspace="",
            actor=None,
            request_id=None,
            subject=None,
            body=event.body,
        )
        for seq, event in enumerate(events("c", 5, state), start=1)
    ]


@given(states)
def test_what_is_taken_is_put_together_again(found: dict[str, Any]) -> None:
    """Any keys, any items, empty sections too."""
    state = state_of(found)
    *parts, taken = recorded(state)

    assert assemble(taken, parts) == Snapshot(5, state)


@given(states, states)
def test_equal_digests_are_equal_states(one: dict[str, Any], other: dict[str, Any]) -> None:
    """However the items are spread over sections and keys."""
    mine, theirs = state_of(one), state_of(other)

    assert (mine.digest == theirs.digest) == (mine == theirs)


async def test_a_large_state_goes_into_several_events(log: EventLog) -> None:
    """Of about 256 KiB each, appended together."""
    await log.append(of(created()))
    parts = events("c", 2, STATE)
    taken = (await log.append(Append(events=parts))).positions[-1]

    assert len(parts) > 4
    assert all(len(part.body) < 300_000 for part in parts)
    assert {part.kind for part in parts} == {Kind.SYSTEM}
    assert await load(log, taken) == Snapshot(2, STATE)
    assert await latest(log) is None, "nothing was truncated"


@pytest.mark.parametrize("missing", [0, 1, -1])
def test_half_a_snapshot_is_refused(missing: int) -> None:
    """A state without some of its items is none."""
    *parts, taken = recorded(STATE)
    del parts[missing]

    with pytest.raises(LogDamaged, match="not what was taken"):
        assemble(taken, parts)


def test_other_events_are_no_snapshot() -> None:
    """Neither at its end nor among its parts."""
    *parts, taken = recorded(STATE)
    with pytest.raises(LogDamaged, match="no snapshot at position"):
        assemble(parts[0], parts)
    with pytest.raises(LogDamaged, match="is not a part"):
        assemble(taken, [taken])

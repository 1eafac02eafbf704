"""Every check can fail: a story that is right, and one small thing wrong with it each time."""

from tests.faults.checks import (
    UNFLUSHED,
    Arrival,
    Stored,
    acknowledged_are_stored_once,
    batches_are_whole,
    deliveries_have_one_id,
    failures_are_tried_again,
    matches_are_delivered,
    positions_have_no_holes,
    rebuilding_calls_nobody,
    repeats_are_bounded,
    states_are_equal,
    stored_were_attempted,
    versions_have_no_holes,
)

STORED = [
    Stored(1, "hooks/h", 0, None),
    Stored(2, "emitted/a", 0, "x"),
    Stored(3, "emitted/b", 0, "y"),
    Stored(4, "emitted/a", 1, "z"),
]
ATTEMPTED = {"x", "y", "z", "never stored"}
ARRIVALS = [
    Arrival("h", "x", "id-x", run=0),
    Arrival("h", "y", "id-y", run=0),
    Arrival("h", "y", "id-y", run=1),
    Arrival("h", "z", "id-z", run=1),
]


def test_acknowledged_are_stored_once() -> None:
    """It notices an acknowledged event that is missing, elsewhere, or there twice."""
    right = {"x": 2, "z": 4}

    assert list(acknowledged_are_stored_once(right, STORED)) == []
    assert list(acknowledged_are_stored_once({"never stored": 5}, STORED)) != []
    assert list(acknowledged_are_stored_once({"x": 3}, STORED)) != []
    assert list(acknowledged_are_stored_once(right, [*STORED, Stored(5, "a", 2, "x")])) != []


def test_stored_were_attempted() -> None:
    """It notices an event that nobody sent, and one that is there twice."""
    assert list(stored_were_attempted(ATTEMPTED, STORED)) == []
    assert list(stored_were_attempted(ATTEMPTED - {"y"}, STORED)) != []
    assert list(stored_were_attempted(ATTEMPTED, [*STORED, Stored(5, "a", 2, "x")])) != []


def test_batches_are_whole() -> None:
    """It notices half a batch, a batch in another order, and one with a stranger in it."""
    assert list(batches_are_whole([["y", "z"], ["never stored"]], STORED)) == []
    assert list(batches_are_whole([["z", "never stored"]], STORED)) != []
    assert list(batches_are_whole([["z", "y"]], STORED)) != []
    assert list(batches_are_whole([["x", "z"]], STORED)) != []


def test_positions_have_no_holes() -> None:
    """It notices a position left out, used twice, or out of order."""
    assert list(positions_have_no_holes(STORED)) == []
    assert list(positions_have_no_holes(STORED[1:])) != []
    assert list(positions_have_no_holes([*STORED, STORED[-1]])) != []
    assert list(positions_have_no_holes(STORED[::-1])) != []


def test_versions_have_no_holes() -> None:
    """It notices a version left out, used twice, or before its predecessor."""
    assert list(versions_have_no_holes(STORED)) == []
    assert list(versions_have_no_holes(STORED[2:])) != []
    assert list(versions_have_no_holes([*STORED, STORED[-1]])) != []


def test_matches_are_delivered() -> None:
    """It notices a delivery that never came, and one that should not have come."""
    assert list(matches_are_delivered({"h": {"x", "y", "z"}}, ARRIVALS)) == []
    assert list(matches_are_delivered({"h": {"x", "y", "z"}}, ARRIVALS[:-1])) != []
    assert list(matches_are_delivered({"h": {"x", "y"}}, ARRIVALS)) != []
    assert list(matches_are_delivered({"other": {"x"}}, ARRIVALS)) != []


def test_failures_are_tried_again() -> None:
    """It notices a delivery of which there was one attempt only."""
    assert list(failures_are_tried_again(ARRIVALS[1:3])) == []
    assert list(failures_are_tried_again(ARRIVALS[1:4])) != []


def test_deliveries_have_one_id() -> None:
    """It notices a repetition under a new id, and an id used for two deliveries."""
    assert list(deliveries_have_one_id(ARRIVALS)) == []
    assert list(deliveries_have_one_id([*ARRIVALS, Arrival("h", "x", "new", run=2)])) != []
    assert list(deliveries_have_one_id([*ARRIVALS, Arrival("i", "x", "id-x", run=2)])) != []


def test_repeats_are_bounded() -> None:
    """It notices a repetition without a crash, and one too many after it."""
    first = [Arrival("h", str(n), str(n), run=0) for n in range(UNFLUSHED + 3)]
    again = [Arrival("h", str(n), str(n), run=1) for n in range(UNFLUSHED + 3)]

    assert list(repeats_are_bounded(ARRIVALS, 0)) == []
    assert list(repeats_are_bounded([*ARRIVALS, ARRIVALS[-1]], 0)) != []
    assert list(repeats_are_bounded([*first, *again], 3)) == []
    assert list(repeats_are_bounded([*first, *again], 2)) != []


def test_rebuilding_calls_nobody() -> None:
    """It notices a delivery after the last one of the living service."""
    assert list(rebuilding_calls_nobody(ARRIVALS, run=2)) == []
    assert list(rebuilding_calls_nobody([*ARRIVALS, Arrival("h", "x", "id-x", run=2)], 2)) != []


def test_states_are_equal() -> None:
    """It notices a difference in any part, and a part that only one side has."""
    assert list(states_are_equal({"a": [1]}, {"a": [1]})) == []
    assert list(states_are_equal({"a": [1]}, {"a": [2]})) != []
    assert list(states_are_equal({"a": [1]}, {"a": [1], "b": []})) != []

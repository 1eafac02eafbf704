"""on_change and snooze, as folds over the events of one hook."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, none, sampled_from, tuples

from delivery.suppression import LAST, Fired, Memory, Reason, Rule, decide, remember, subject

SECOND = 1_000_000
DAY = 24 * 3600 * SECOND
SNOOZE = 10 * SECOND


def rule(at: int, *, changed: bytes | None = None, snoozed: bytes | None = None) -> Rule:
    return Rule(changed=changed, snoozed=snoozed, snooze_us=SNOOZE, wall_us=at)


def fold(rules: list[Rule]) -> tuple[list[Reason | None], Memory]:
    memory: Memory = {}
    reasons = []
    for each in rules:
        reasons.append(decide(memory, each))
        if reasons[-1] is None:
            remember(memory, each)
    return reasons, memory


@pytest.mark.parametrize(
    ("digests", "reasons"),
    [
        ("A", [None]),
        ("AA", [None, "on_change"]),
        ("AAA", [None, "on_change", "on_change"]),
        ("AB", [None, None]),
        ("ABA", [None, None, None]),
        ("AABBA", [None, "on_change", None, "on_change", None]),
    ],
)
def test_on_change_compares_with_the_last_fired(digests: str, reasons: list[Reason | None]) -> None:
    """The same as the last one that fired is not sent; what was sent before that is forgotten."""
    found, _ = fold([rule(at, changed=digest.encode()) for at, digest in enumerate(digests)])

    assert found == reasons


@pytest.mark.parametrize(
    ("times", "reasons"),
    [
        ([0], [None]),
        ([0, 0], [None, "snooze"]),
        ([0, SNOOZE - 1], [None, "snooze"]),
        ([0, SNOOZE], [None, None]),
        # It counts from the firing, not from what it silenced.
        ([0, SNOOZE - 1, SNOOZE + 1], [None, "snooze", None]),
        # A clock that was set back can only deliver more.
        ([SNOOZE, 0], [None, None]),
    ],
)
def test_snooze_counts_from_the_firing(times: list[int], reasons: list[Reason | None]) -> None:
    """After a firing the same is silent for the time, by the recorded clock."""
    found, _ = fold([rule(at, snoozed=b"A") for at in times])

    assert found == reasons


def test_snooze_counts_by_digest() -> None:
    """What happens to one of them does not silence another."""
    found, _ = fold([rule(at, snoozed=digest) for at, digest in enumerate([b"A", b"B", b"A"])])

    assert found == [None, None, "snooze"]


def test_a_snoozed_event_is_not_the_last_fired() -> None:
    """on_change compares with what was sent, so a change that was snoozed is still a change."""
    found, _ = fold(
        [
            rule(0, changed=b"A", snoozed=b"S"),
            rule(1, changed=b"B", snoozed=b"S"),
            rule(SNOOZE, changed=b"B", snoozed=b"S"),
            rule(SNOOZE + 1, changed=b"B", snoozed=b"S"),
        ]
    )

    assert found == [None, "snooze", None, "on_change"]


def test_a_rule_that_is_off_remembers_nothing() -> None:
    """Events that fired while on_change was off are not compared with."""
    found, memory = fold([rule(0, snoozed=b"A"), rule(1, changed=b"A")])

    assert found == [None, None]
    assert memory == {b"A": Fired(b"", 0), LAST: Fired(b"A", 1)}


@given(
    lists(
        tuples(
            integers(0, 4 * SNOOZE),
            none() | sampled_from([b"A", b"B"]),
            none() | sampled_from([b"C", b"D"]),
            integers(1, 2),
        )
    )
)
def test_deciding_again_changes_nothing(
    history: list[tuple[int, bytes | None, bytes | None, int]],
) -> None:
    """An event that was decided already can be folded once more, as a recovery may do."""
    memories: list[Memory] = [{}, {}]
    for at, changed, snoozed, times in history:
        each = rule(at, changed=changed, snoozed=snoozed)
        for memory, repeated in zip(memories, (1, times), strict=True):
            for _ in range(repeated):
                if decide(memory, each) is None:
                    remember(memory, each)

    assert memories[0] == memories[1]


def test_what_is_long_over_is_forgotten() -> None:
    """Memory follows the traffic of a day: it does not grow with the log."""
    memory: Memory = {}
    forgotten: set[bytes] = set()
    for number in range(20_000):
        each = rule(number * 600 * SECOND, changed=b"x", snoozed=b"%d" % number)
        forgotten.update(key for key in remember(memory, each) if key not in memory)

    assert len(memory) <= 1024
    assert LAST in memory
    assert memory.keys().isdisjoint(forgotten)
    newest = 19_999 * 600 * SECOND
    kept = [number for number in range(20_000) if number * 600 * SECOND > newest - DAY]
    assert all(b"%d" % number in memory for number in kept)


@pytest.mark.parametrize(
    ("unique", "whole", "one", "other", "same"),
    [
        (["a"], True, {"a": 1, "b": 1}, {"b": 2, "a": 1}, True),
        (["a"], True, {"a": 1}, {"a": 2}, False),
        (["a"], True, {"a": None}, {}, True),
        (["a"], False, {"a": 1}, {"a": 2}, False),
        # Numbers and booleans count, and are not the same (Kong 3.10).
        (["a"], True, {"a": 1}, {"a": True}, False),
        (["a"], True, {"a": False}, {"a": 0}, False),
        (["a"], True, {"a": "1"}, {"a": 1}, False),
        (["a", "b"], True, {"a": "x", "b": "y"}, {"a": "xy", "b": ""}, False),
        ([], True, {"a": 1}, {"a": 2}, True),
        (None, True, {"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}, True),
        (None, True, {"a": 1}, {"a": 1, "b": None}, False),
        (None, False, {"a": 1}, {"a": 2}, True),
    ],
)
def test_what_makes_two_events_the_same(
    unique: list[str] | None,
    one: dict[str, Any],
    other: dict[str, Any],
    *,
    whole: bool,
    same: bool,
) -> None:
    """The unique fields; without them the whole payload, or for snooze nothing at all."""
    found = subject(one, unique, whole=whole) == subject(other, unique, whole=whole)

    assert found is same

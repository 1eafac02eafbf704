"""What follows an attempt, as a table."""

import pytest
from hypothesis import given
from hypothesis.strategies import (
    booleans,
    builds,
    floats,
    integers,
    none,
    sampled_from,
    text,
    tuples,
)

from delivery.outcome import Outcome
from delivery.retry import (
    Again,
    Decision,
    Done,
    Park,
    RetryPolicy,
    Suspend,
    decide,
    parse_retry_after,
    retryable,
)

NOW = 1000.0
POLICY = RetryPolicy(schedule=(10, 100), jitter=0.2, retry_after_cap=500)


def failed(**fields: object) -> Outcome:
    return Outcome(ok=False, reason="it broke", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "attempt", "jitter", "decision"),
    [
        (Outcome(ok=True), 1, 0.5, Done()),
        (Outcome(ok=True), 99, 0.5, Done()),
        # The schedule: delay * (1 - 0.2 + 2 * 0.2 * jitter)
        (failed(), 1, 0.5, Again(NOW + 10)),
        (failed(), 1, 0.0, Again(NOW + 8)),
        (failed(), 1, 0.75, Again(NOW + 11)),
        (failed(), 2, 0.5, Again(NOW + 100)),
        (failed(), 3, 0.5, Park("gave up after 3 attempts: it broke")),
        (failed(), 4, 0.5, Park("gave up after 4 attempts: it broke")),
        # Retry-After: never sooner than scheduled, never later than the cap of 500
        (failed(retry_after=60), 1, 0.5, Again(NOW + 60)),
        (failed(retry_after=1), 1, 0.5, Again(NOW + 10)),
        (failed(retry_after=0), 2, 0.0, Again(NOW + 80)),
        (failed(retry_after=315_360_000), 1, 0.5, Again(NOW + 500)),
        (failed(retry_after=60), 3, 0.5, Park("gave up after 3 attempts: it broke")),
        # What another attempt cannot cure
        (failed(retryable=False), 1, 0.5, Park("it broke")),
        (failed(blocked=True), 1, 0.5, Park("it broke")),
        (failed(gone=True, retryable=False), 1, 0.5, Suspend("it broke")),
        (failed(gone=True), 99, 0.5, Suspend("it broke")),
        (Outcome(ok=False, retryable=False), 1, 0.5, Park("failed without a reason")),
    ],
)
def test_decision(outcome: Outcome, attempt: int, jitter: float, decision: Decision) -> None:
    """Each kind of outcome, at each place in the schedule, has one consequence."""
    assert decide(outcome, attempt, POLICY, now_s=NOW, jitter=jitter) == decision


def test_a_schedule_longer_than_the_cap_wins() -> None:
    """The cap limits what a receiver asks for, not what the operator configured."""
    policy = RetryPolicy(schedule=(1000,), retry_after_cap=500)

    assert decide(failed(retry_after=700), 1, policy, now_s=0, jitter=0.5) == Again(1000)


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (301, True),
        (304, True),
        (400, False),
        (401, False),
        (404, False),
        (408, True),
        (409, True),
        (410, False),
        (422, False),
        (425, True),
        (429, True),
        (499, False),
        (500, True),
        (503, True),
        (599, True),
        (101, True),
        (999, True),
    ],
)
def test_which_statuses_are_worth_another_attempt(status: int, again: bool) -> None:
    """The receiver's own mistakes and overload pass; what it holds against the request stays."""
    assert retryable(status) is again


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 37),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 37),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 37),
        ("Sun, 06 Nov 1994 08:48:00 GMT", 0),
        ("Sun, 06 Nov 1994 10:49:37 +0200", 37),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Sun, 99 Nov 99999999999999 08:49:37 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str | None, seconds: float | None) -> None:
    """Seconds or an HTTP date; rubbish counts as absent and the past as now."""
    at_8_49_00 = 784_111_740.0

    assert parse_retry_after(value, at_8_49_00) == seconds


@given(text())
def test_no_retry_after_breaks_the_parser(value: str) -> None:
    """Whatever a receiver writes there, the answer is a wait or none."""
    wait = parse_retry_after(value, 0.0)

    assert wait is None or wait >= 0


@given(
    outcome=builds(
        failed,
        retryable=booleans(),
        gone=booleans(),
        blocked=booleans(),
        retry_after=none() | floats(min_value=0),
    ),
    attempt=integers(min_value=1, max_value=50),
    policy=builds(
        RetryPolicy,
        schedule=tuples(*[floats(min_value=0, max_value=1e6)] * 3) | sampled_from([(), (5.0,)]),
        jitter=floats(min_value=0, max_value=1),
        retry_after_cap=floats(min_value=0, max_value=1e6),
    ),
    jitter=floats(min_value=0, max_value=1, exclude_max=True),
)
def test_delays_are_bounded_and_attempts_finite(
    outcome: Outcome, attempt: int, policy: RetryPolicy, jitter: float
) -> None:
    """No receiver can delay a retry beyond the policy, nor be tried more often than it says."""
    decision = decide(outcome, attempt, policy, now_s=NOW, jitter=jitter)

    assert not isinstance(decision, Done)
    if isinstance(decision, Again):
        scheduled = policy.schedule[attempt - 1]
        assert attempt <= len(policy.schedule)
        assert decision.at >= NOW + scheduled * (1 - policy.jitter) - 1e-6
        assert decision.at <= NOW + max(scheduled * (1 + policy.jitter), policy.retry_after_cap)

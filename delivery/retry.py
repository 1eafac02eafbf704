"""What follows an attempt: a total function of its outcome, without a clock or dice of its own."""

from email.utils import mktime_tz, parsedate_tz

import msgspec

from delivery.outcome import Outcome

_RETRYABLE_4XX = {408, 409, 425, 429}


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """All times in seconds. A delivery gets one attempt and one more per entry of `schedule`."""

    schedule: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
    jitter: float = 0.2  #: each delay is scaled by a factor in [1 - jitter, 1 + jitter)
    retry_after_cap: float = 86_400


class Done(msgspec.Struct, frozen=True):
    """Delivered."""


class Again(msgspec.Struct, frozen=True):
    """Try again, not before `at` (seconds since the Unix epoch)."""

    at: float


class Park(msgspec.Struct, frozen=True):
    """Give up until somebody sends it again by hand."""

    reason: str


class Suspend(msgspec.Struct, frozen=True):
    """The receiver wants no more deliveries of this hook; this one stays open."""

    reason: str


Decision = Done | Again | Park | Suspend


def decide(
    outcome: Outcome, attempt: int, policy: RetryPolicy, *, now_s: float, jitter: float
) -> Decision:
    """What to do after attempt number `attempt` (from 1) ended in `outcome`.

    `jitter` is a random number in [0, 1). A receiver's Retry-After can neither hasten an attempt
    nor delay it beyond the policy's cap (or the scheduled delay, where that is longer).
    """
    if outcome.ok:
        return Done()
    reason = outcome.reason or "failed without a reason"
    if outcome.gone:
        return Suspend(reason)
    if outcome.blocked or not outcome.retryable:
        return Park(reason)
    if attempt > len(policy.schedule):
        return Park(f"gave up after {attempt} attempts: {reason}")
    delay = policy.schedule[attempt - 1] * (1 + policy.jitter * (2 * jitter - 1))
    if outcome.retry_after is not None:
        delay = max(delay, min(outcome.retry_after, policy.retry_after_cap))
    return Again(now_s + delay)


def retryable(status: int) -> bool:
    """Whether another attempt may fare better than an answer with this status did."""
    return not 400 <= status < 500 or status in _RETRYABLE_4XX


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds to wait, from a Retry-After header in either of its forms; None for rubbish.

    A date in the past means no wait.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    parsed = parsedate_tz(value)
    if parsed is None:
        return None
    try:
        # A date without a zone is Greenwich time, as HTTP dates are; mktime_tz would call it local.
        return max(0.0, mktime_tz((*parsed[:9], parsed[9] or 0)) - now_s)
    except (ValueError, OverflowError):
        return None

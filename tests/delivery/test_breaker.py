"""Hooks whose code is killed too often."""

import msgspec

from delivery.breaker import KILLS, Breaker
from delivery.jail.ran import Fault, Ran
from projections.hooks import Hook, hook_from
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.world import entity

HOOK: Hook = hook_from(entity("h"), {}, DEFAULT_WORKSPACE, 0)
KILLED = Ran(faults=(Fault(0, None, "no answer"),), killed=True)
FAILED = Ran(faults=(Fault(0, None, "wrong"),))


def test_only_kills_in_a_row_suspend() -> None:
    """A success, or a failure that the code itself came to, starts the count anew."""
    for better in (Ran(), FAILED):
        breaker = Breaker()
        for ran in [KILLED] * (KILLS - 1) + [better]:
            breaker.failure(HOOK, ran)
        outcome = breaker.failure(HOOK, KILLED)

        assert outcome is not None
        assert (outcome.reason, outcome.gone, outcome.retryable) == ("no answer", False, True)


def test_hooks_are_counted_apart() -> None:
    """What one hook does never suspends another one."""
    breaker = Breaker()
    for _ in range(KILLS - 1):
        breaker.failure(HOOK, KILLED)
    other = breaker.failure(msgspec.structs.replace(HOOK, id="other"), KILLED)
    last = breaker.failure(HOOK, KILLED)

    assert other is not None
    assert not other.gone
    assert last is not None
    assert last.gone


def test_a_resumed_hook_gets_as_many_again() -> None:
    """Suspension starts the count anew."""
    breaker = Breaker()
    gone = [outcome.gone for _ in range(2 * KILLS) if (outcome := breaker.failure(HOOK, KILLED))]

    assert gone == ([False] * (KILLS - 1) + [True]) * 2


def test_success_is_no_failure() -> None:
    """Nothing is said about a call that went well."""
    assert Breaker().failure(HOOK, Ran()) is None

"""The lambda handler: from a delivery to an outcome and the log."""

import logging
import os
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from delivery.breaker import Breaker
from delivery.effects import EffectsRefused
from delivery.jail.frames import Effect, Limits, Profile
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.lambda_handler import LUA_OFF, MAX_SOURCE, LambdaHandler, LambdaSuccess
from delivery.outcome import Delivery, Outcome
from eventstore import LogUnavailable
from projections.hooks import Hook

DOCUMENTED = (
    "return function (data, event, source, pid)\n"
    "  local user = data.entity.username\n"
    '  error("Event hook on consumer " .. user .. "")\n'
    "end\n"
)


class Stored:
    """Takes effects as the log does."""

    def __init__(self) -> None:
        self.effects: list[tuple[str, Effect]] = []
        self.problem: Exception | None = None

    async def store(self, delivery: Delivery, effects: Sequence[Effect]) -> None:
        if self.problem is not None:
            raise self.problem
        self.effects += [(delivery.id, effect) for effect in effects]


def handler(
    pool: WorkerPool | None, stored: Stored | None = None, success: LambdaSuccess = "true"
) -> LambdaHandler:
    return LambdaHandler(pool, stored or Stored(), Breaker(), success=success)


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    options = JailOptions(
        workers=1, spares=0, wall_seconds=30, start_seconds=30, limits=Limits(cpu_seconds=0.1)
    )
    options = msgspec.structs.replace(options, profile=Profile(untrusted_lua="lax"))
    async with WorkerPool.open(options) as pool:
        yield pool


def delivery(*functions: str) -> Delivery:
    hook = Hook(
        id="c57340ab-9fed-40fd-bb7e-1cef8d37c2df",
        workspace="default",
        version=0,
        source="crud",
        event="consumers",
        handler="lambda",
        on_change=False,
        snooze=None,
        created_at=0,
        updated_at=0,
        config={"functions": list(functions)},
    )
    return Delivery(
        id="d",
        hook=hook,
        seq=1,
        event_id="e",
        source="crud",
        event="consumers",
        data={"entity": {"username": "Lois Lane"}, "operation": "create", "schema": "consumers"},
        time_us=0,
    )


async def test_success_is_an_outcome_with_the_result_true(pool: WorkerPool) -> None:
    """The functions see the payload, the names and the service's process id."""
    function = f"""return function (data, event, source, pid)
      return data.operation == "create" and event == "consumers" and source == "crud"
        and pid == {os.getpid()}
    end"""

    assert await handler(pool)(delivery(function)) == Outcome(ok=True, result=True)


async def test_the_documented_function_is_logged_as_kong_does(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is at level error, in the form people know, and the delivery will be retried."""
    chunk = '[string "return function (data, event, source, pid)..."]'
    text = f"{chunk}:3: Event hook on consumer Lois Lane"

    assert await handler(pool)(delivery(DOCUMENTED)) == Outcome(ok=False, reason=text)
    assert caplog.record_tuples == [
        ("hooktape.delivery.lambda", logging.ERROR, f"[kong] event_hooks.lua:190 {text}")
    ]


async def test_what_a_function_logs_is_logged_with_its_hook(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines keep their level; those beyond the limit are counted."""
    caplog.set_level(logging.DEBUG, "hooktape.delivery.lambda")
    function = """return function ()
      kong.log.debug("one") print("two")
      for i = 1, 100 do kong.log.err("more") end
      return true
    end"""
    await handler(pool)(delivery(function))
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    hook = "hook c57340ab-9fed-40fd-bb7e-1cef8d37c2df: "

    assert lines[:3] == [
        (logging.DEBUG, f"{hook}one"),
        (logging.INFO, f"{hook}two"),
        (logging.ERROR, f"{hook}more"),
    ]
    assert lines[100:] == [(logging.WARNING, f"{hook}2 more lines dropped")]


async def test_no_error_accepts_functions_that_return_nothing(pool: WorkerPool) -> None:
    """Functions of before 2025 work with lambda_success = no_error, and only with it."""
    old = delivery("return function () end")

    assert (await handler(pool, success="no_error")(old)).ok
    assert await handler(pool)(old) == Outcome(
        ok=False, reason="function 1 returned nil, expected true (will be retried)"
    )


async def test_without_a_worker_the_delivery_is_retried(pool: WorkerPool) -> None:
    """A pool that cannot serve is a reason, not an exception."""
    async with WorkerPool.open(JailOptions(start_seconds=0.001)) as broken:
        outcome = await handler(broken)(delivery(DOCUMENTED))

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert outcome.reason == "no worker: time limit of 0.001 s reached, killed"


async def test_a_configuration_is_checked_by_running_its_chunks(pool: WorkerPool) -> None:
    """The fault is reported at the field, in Kong's words; a sound one gives nothing."""
    lambdas = handler(pool)
    faulty = await lambdas.validate("w", {"functions": [DOCUMENTED, "return 1", "return {}"]})

    assert await lambdas.validate("w", {"functions": [DOCUMENTED]}) == {}
    assert faulty == {
        "config.functions": "Bad return value from function, expected function type, got number; "
        "Bad return value from function, expected function type, got table"
    }


async def test_a_function_has_a_greatest_size(pool: WorkerPool) -> None:
    """Longer ones are refused without compiling anything."""
    long = DOCUMENTED + " " * MAX_SOURCE
    errors = await handler(pool).validate("w", {"functions": [DOCUMENTED, long]})

    assert errors == {
        "config.functions": f"function 2 has {len(long)} bytes, at most {MAX_SOURCE} are allowed"
    }


EFFECTS = """return function (data, event, source, pid)
  hook.set({ n = data.entity.username })
  hook.emit("done", { n = 1 })
  return hook.request({ url = "http://a/", body = "b" }) or true
end"""


async def test_effects_are_stored_before_success(pool: WorkerPool) -> None:
    """All of them, for this delivery; the outcome shows them."""
    stored = Stored()
    outcome = await handler(pool, stored)(delivery(EFFECTS))

    assert outcome.ok
    assert [(id_, effect.kind) for id_, effect in stored.effects] == [
        ("d", "set"),
        ("d", "emit"),
        ("d", "request"),
    ]
    assert outcome.effects[:2] == (
        {"set": {"n": "Lois Lane"}},
        {"emit": {"event": "done", "data": {"n": 1}}},
    )


async def test_a_dry_run_stores_nothing(pool: WorkerPool) -> None:
    """The functions run, and what they want done is shown only."""
    stored = Stored()
    rehearsal = msgspec.structs.replace(delivery(EFFECTS), dry_run=True)
    outcome = await handler(pool, stored)(rehearsal)

    assert (outcome.ok, len(outcome.effects), stored.effects) == (True, 3, [])


@pytest.mark.parametrize("problem", [EffectsRefused("no"), LogUnavailable("disk on fire")])
async def test_effects_that_are_not_stored_are_a_failure(
    pool: WorkerPool, problem: Exception
) -> None:
    """The delivery is tried again, which repeats no effect."""
    stored = Stored()
    stored.problem = problem
    outcome = await handler(pool, stored)(delivery(EFFECTS))

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert outcome.reason == f"its effects are not stored: {problem}"


async def test_a_function_that_fails_has_no_effects(pool: WorkerPool) -> None:
    """Neither has the one before it."""
    stored = Stored()
    outcome = await handler(pool, stored)(delivery(EFFECTS, "return function() error('x') end"))

    assert (outcome.ok, stored.effects, outcome.effects) == (False, [], ())


async def test_emissions_know_their_depth(pool: WorkerPool) -> None:
    """A function is told by an error that it is too deep in a chain."""
    deep = msgspec.structs.replace(delivery(EFFECTS), emitters=("a", "b", "c"))
    outcome = await handler(pool)(deep)

    assert not outcome.ok
    assert "3 emissions deep" in str(outcome.reason)


async def test_lua_can_be_off() -> None:
    """Nothing is created and nothing runs, and Kong's own words say why."""
    off = handler(None)
    outcome = await off(delivery(DOCUMENTED))

    assert (outcome.ok, outcome.retryable, outcome.reason) == (False, True, LUA_OFF)
    assert await off.validate("w", {"functions": [DOCUMENTED]}) == {"config.functions": LUA_OFF}


async def test_the_result_is_that_of_the_last_function(pool: WorkerPool) -> None:
    """As JSON; what has no JSON form, and nothing at all, count as true."""
    lenient = handler(pool, success="no_error")
    results = [
        (await lenient(delivery(f"return function() return {value} end"))).result
        for value in ("{ a = { 1, 2 } }", "nil", "print")
    ]

    assert results == [{"a": [1, 2]}, True, True]

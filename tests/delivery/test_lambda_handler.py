"""The lambda handler: from a delivery to an outcome and the log."""

import logging
import os
from collections.abc import AsyncIterator

import pytest

from delivery.lambda_frames import Limits
from delivery.lambda_handler import MAX_SOURCE, LambdaHandler
from delivery.lambda_pool import LambdaOptions, LambdaPool
from delivery.outcome import Delivery, Outcome
from projections.hooks import Hook

DOCUMENTED = (
    "return function (data, event, source, pid)\n"
    "  local user = data.entity.username\n"
    '  error("Event hook on consumer " .. user .. "")\n'
    "end\n"
)


@pytest.fixture
async def pool() -> AsyncIterator[LambdaPool]:
    options = LambdaOptions(
        workers=1, spares=0, wall_seconds=30, start_seconds=30, limits=Limits(cpu_seconds=0.1)
    )
    async with LambdaPool.open(options) as pool:
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


async def test_success_is_an_outcome_with_the_result_true(pool: LambdaPool) -> None:
    """The functions see the payload, the names and the service's process id."""
    function = f"""return function (data, event, source, pid)
      return data.operation == "create" and event == "consumers" and source == "crud"
        and pid == {os.getpid()}
    end"""

    assert await LambdaHandler(pool)(delivery(function)) == Outcome(ok=True, result=True)


async def test_the_documented_function_is_logged_as_kong_does(
    pool: LambdaPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is at level error, in the form people know, and the delivery will be retried."""
    chunk = '[string "return function (data, event, source, pid)..."]'
    text = f"{chunk}:3: Event hook on consumer Lois Lane"

    assert await LambdaHandler(pool)(delivery(DOCUMENTED)) == Outcome(ok=False, reason=text)
    assert caplog.record_tuples == [
        ("hooktape.delivery.lambda", logging.ERROR, f"[kong] event_hooks.lua:190 {text}")
    ]


async def test_what_a_function_logs_is_logged_with_its_hook(
    pool: LambdaPool, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines keep their level; those beyond the limit are counted."""
    caplog.set_level(logging.DEBUG, "hooktape.delivery.lambda")
    function = """return function ()
      kong.log.debug("one") print("two")
      for i = 1, 100 do kong.log.err("more") end
      return true
    end"""
    await LambdaHandler(pool)(delivery(function))
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    hook = "hook c57340ab-9fed-40fd-bb7e-1cef8d37c2df: "

    assert lines[:3] == [
        (logging.DEBUG, f"{hook}one"),
        (logging.INFO, f"{hook}two"),
        (logging.ERROR, f"{hook}more"),
    ]
    assert lines[100:] == [(logging.WARNING, f"{hook}2 more lines dropped")]


async def test_no_error_accepts_functions_that_return_nothing(pool: LambdaPool) -> None:
    """Functions of before 2025 work with lambda_success = no_error, and only with it."""
    old = delivery("return function () end")

    assert (await LambdaHandler(pool, success="no_error")(old)).ok
    assert await LambdaHandler(pool)(old) == Outcome(
        ok=False, reason="function 1 returned nil, expected true (will be retried)"
    )


async def test_without_a_worker_the_delivery_is_retried(pool: LambdaPool) -> None:
    """A pool that cannot serve is a reason, not an exception."""
    async with LambdaPool.open(LambdaOptions(start_seconds=0.001)) as broken:
        outcome = await LambdaHandler(broken)(delivery(DOCUMENTED))

    assert (outcome.ok, outcome.retryable) == (False, True)
    assert outcome.reason == "no Lua worker: no answer within 0.001 s, killed"


async def test_a_configuration_is_checked_by_running_its_chunks(pool: LambdaPool) -> None:
    """The fault is reported at the field, in Kong's words; a sound one gives nothing."""
    handler = LambdaHandler(pool)
    faulty = await handler.validate({"functions": [DOCUMENTED, "return 1", "return {}"]})

    assert await handler.validate({"functions": [DOCUMENTED]}) == {}
    assert faulty == {
        "config.functions": "Bad return value from function, expected function type, got number; "
        "Bad return value from function, expected function type, got table"
    }


async def test_a_function_has_a_greatest_size(pool: LambdaPool) -> None:
    """Longer ones are refused without compiling anything."""
    long = DOCUMENTED + " " * MAX_SOURCE
    errors = await LambdaHandler(pool).validate({"functions": [DOCUMENTED, long]})

    assert errors == {
        "config.functions": f"function 2 has {len(long)} bytes, at most {MAX_SOURCE} are allowed"
    }

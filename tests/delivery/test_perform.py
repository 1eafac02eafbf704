"""The edge at which whatever a handler does becomes an outcome."""

import anyio
import msgspec
import pytest

from delivery.matching import REQUEST
from delivery.outcome import Delivery, Outcome
from delivery.perform import Perform
from projections.hooks import hook_from
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.world import entity


def delivery(handler: str) -> Delivery:
    hook = hook_from(entity("h", handler=handler), {}, DEFAULT_WORKSPACE, 0)
    return Delivery(
        id="1", hook=hook, seq=1, event_id="e", source="s", event="e", data={}, time_us=0
    )


async def test_each_hook_has_its_handler() -> None:
    """The one that its `handler` names."""

    async def log(_: Delivery) -> Outcome:
        return Outcome(ok=True, result="log")

    async def other(_: Delivery) -> Outcome:
        return Outcome(ok=True, result="other")

    perform = Perform({"log": log, "lambda": other})

    assert await perform(delivery("log")) == Outcome(ok=True, result="log")
    assert await perform(delivery("lambda")) == Outcome(ok=True, result="other")


async def test_a_queued_request_has_a_handler_of_its_own() -> None:
    """Its purpose decides, not the handler of its hook."""

    async def other(_: Delivery) -> Outcome:
        return Outcome(ok=True, result="other")

    request = msgspec.structs.replace(delivery("lambda"), purpose=REQUEST)

    assert (await Perform({REQUEST: other})(request)).result == "other"


@pytest.mark.parametrize("error", [RuntimeError("x"), ExceptionGroup("g", [ValueError("x")])])
async def test_an_exception_is_an_outcome(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be retried, and the log has the traceback."""

    async def broken(_: Delivery) -> Outcome:
        raise error

    outcome = await Perform({"log": broken})(delivery("log"))

    assert outcome == Outcome(ok=False, reason=f"internal error: {type(error).__name__}")
    assert outcome.retryable
    assert "handler log raised" in caplog.text


async def test_a_handler_that_is_missing_is_an_outcome() -> None:
    """A hook of a newer program, say."""
    outcome = await Perform({})(delivery("log"))

    assert outcome == Outcome(ok=False, reason="internal error: KeyError")


async def test_cancellation_passes() -> None:
    """Whoever loses patience gets what he asked for."""

    async def hang(_: Delivery) -> Outcome:
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    with anyio.move_on_after(0.01) as scope:
        await Perform({"log": hang})(delivery("log"))

    assert scope.cancelled_caught

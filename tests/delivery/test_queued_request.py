"""Requests that functions queued, on the wire."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from delivery.address import AddressPolicy
from delivery.egress import Egress
from delivery.matching import REQUEST
from delivery.outcome import Delivery
from delivery.queued_request import QueuedRequest
from projections.hooks import hook_from
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.world import entity
from tests.receiver import Receiver, answer


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def handler() -> AsyncIterator[QueuedRequest]:
    async with Egress(AddressPolicy.parse([], allow_loopback=True), timeout=1) as egress:
        yield QueuedRequest(egress)


def delivery(**wanted: Any) -> Delivery:
    hook = hook_from(entity("h", handler="lambda"), {}, DEFAULT_WORKSPACE, 0)
    data = {"method": "PUT", "headers": {"X-A": "a"}, "body": "żółw", **wanted}
    return Delivery(
        id="d-1",
        hook=hook,
        seq=1,
        event_id="e",
        source="lambda",
        event="request",
        data=data,
        time_us=0,
        purpose=REQUEST,
    )


async def test_a_request_goes_out_as_it_was_written(
    receiver: Receiver, handler: QueuedRequest
) -> None:
    """With the delivery's id beside it, so that a receiver can drop repeats, and unsigned."""
    outcome = await handler(delivery(url=receiver.url))
    [request] = receiver.requests

    assert outcome.ok
    assert (request.method, request.body) == ("PUT", "żółw".encode())
    assert request.header("webhook-id") == "d-1"
    assert request.header("x-kong-signature") is None


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"headers": {"Host": "x"}}, "config.headers.host: this header cannot be set by a hook"),
        ({"headers": {"a": "b\r\nc"}}, "config.headers.a: control characters cannot be sent"),
        ({"url": "file:///etc/passwd"}, "the URL must begin with http:// or https:// and a host"),
        ({"url": "http://169.254.169.254/"}, "169.254.169.254"),
    ],
)
async def test_the_policies_of_every_delivery_hold(
    handler: QueuedRequest, wanted: dict[str, Any], reason: str
) -> None:
    """Nothing is sent, and trying again would not help."""
    outcome = await handler(delivery(**{"url": "http://receiver.test/", **wanted}))

    assert (outcome.ok, outcome.retryable) == (False, False)
    assert reason in str(outcome.reason)


async def test_a_receiver_that_is_gone_stops_no_hook(
    receiver: Receiver, handler: QueuedRequest
) -> None:
    """410 parks the request; the functions go on, for they may write elsewhere."""
    receiver.script("/", answer(410))
    outcome = await handler(delivery(url=receiver.url))

    assert (outcome.ok, outcome.gone, outcome.retryable) == (False, False, False)

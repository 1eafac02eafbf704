"""A receiver that is slow, dead or hostile harms only its own hook."""

import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from tests.receiver import Receiver, endless, hang, many_headers, raw
from tests.service import Service, serving

EVENTS = 60
TIMES = 10
"""How much longer the median delivery may take. Far more than it does, and far less than it would
if deliveries waited for the receivers that never answer."""

LAGGING = 1000


@pytest.fixture
async def receivers() -> AsyncIterator[list[Receiver]]:
    """Four receivers, each an address of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Receiver()) for _ in range(4)]


async def add_hook(service: Service, url: str) -> str:
    config = {"url": url, "method": "POST", "body": "{{ n }}"}
    body = {"source": "balancer", "handler": "webhook-custom", "config": config}
    return str((await service.post("/event-hooks", body))["id"])


async def latency(service: Service, healthy: list[Receiver]) -> float:
    """The median time from sending an event to its last arrival, one event at a time."""
    before = {receiver: len(receiver.requests) for receiver in healthy}
    times = []
    for n in range(1, EVENTS + 1):
        start = anyio.current_time()
        await service.emit("balancer", "health", {"n": n})
        with anyio.fail_after(30):
            for receiver in healthy:
                await receiver.wait_for(before[receiver] + n)
        times.append(anyio.current_time() - start)
    return statistics.median(times)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(raw(b"\x00\xffthis is not HTTP\r\n\r\n"), id="no HTTP"),
        pytest.param(endless(), id="an endless body"),
        pytest.param(many_headers(10_000), id="10,000 headers"),
    ],
)
async def test_hooks_keep_their_latency_beside_one_that_hangs_and_one_that_babbles(
    receivers: list[Receiver], tmp_path: Path, garbage: object
) -> None:
    """Everything reaches the healthy receivers while the hanging one has not answered once."""
    *healthy, hanging, babbling = receivers
    hanging.script("/hook", hang)
    babbling.script("/hook", garbage)  # type: ignore[arg-type]
    async with serving(tmp_path / "data", delivery_timeout=3600) as service:
        for receiver in healthy:
            await add_hook(service, f"{receiver.url}/hook")
        alone = await latency(service, healthy)
        slow = await add_hook(service, f"{hanging.url}/hook")
        await add_hook(service, f"{babbling.url}/hook")
        last = await service.emit("balancer", "health", {"n": 0})
        for receiver in (hanging, babbling):
            with anyio.fail_after(10):
                await receiver.wait_for(1)
        for receiver in healthy:
            receiver.requests.clear()
        together = await latency(service, healthy)

        assert (await service.states(last))[slow] == "in_flight"
        assert together < TIMES * alone
        assert [len(receiver.requests) for receiver in healthy] == [EVENTS, EVENTS]


async def test_a_thousand_lagging_hooks_leave_the_live_ones_alone(
    receivers: list[Receiver], tmp_path: Path
) -> None:
    """Each of them has a lane of its own to catch up by, and the head of the log is not theirs."""
    *healthy, hanging, _ = receivers
    async with serving(tmp_path / "data", delivery_timeout=3600) as service:
        for receiver in healthy:
            await add_hook(service, f"{receiver.url}/hook")
        alone = await latency(service, healthy)
        async with anyio.create_task_group() as creating:
            for number in range(8):
                creating.start_soon(add_many, service, f"{hanging.url}/hang", number)
        for receiver in healthy:
            receiver.requests.clear()
        first = await service.emit("balancer", "health", {"n": 0})
        await service.emit("balancer", "health", {"n": 0})
        with anyio.fail_after(30):
            for receiver in healthy:
                await receiver.wait_for(2)
        together = await latency(service, healthy)
        delivery = (await service.get("/status"))["delivery"]
        states = list((await service.states(first)).values())

        assert delivery["lagging_hooks"] == LAGGING
        assert together < TIMES * alone
        assert states.count("delivered") == len(healthy)
        assert states.count("in_flight") + states.count("pending") == LAGGING


async def add_many(service: Service, url: str, number: int) -> None:
    for _ in range(LAGGING // 8):
        await add_hook(service, f"{url}?{number}")

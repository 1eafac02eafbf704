"""EIO at COMMIT, made by strace: nothing is acknowledged, what can go on goes on."""

from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest

from tests.faults import tracing
from tests.faults.evidence import integrity, read_stored
from tests.receiver import Receiver, answer
from tests.service import Service, serving, until

PATIENCE = 40
"""Commits after which the injected failure must have shown up."""


@pytest.fixture
def strace() -> str:
    """The tracer that makes system calls fail."""
    return tracing.find()


async def emit(service: Service, number: int) -> httpx.Response:
    body = {"source": "balancer", "event": "health", "data": {"n": number}, "id": f"id-{number}"}
    return await service.client.post("/events", json=body)


async def hook(service: Service, receiver: Receiver) -> str:
    """A hook on all that `emit` sends; its id."""
    config = {"url": f"{receiver.url}/hook", "method": "POST", "body": "{{ n }}"}
    body = {"source": "balancer", "handler": "webhook-custom", "config": config}
    return str((await service.post("/event-hooks", body))["id"])


async def has_state(service: Service, position: int, states: dict[str, str]) -> bool:
    return await service.states(position) == states


async def emit_until_it_fails(service: Service, receiver: Receiver) -> tuple[int, httpx.Response]:
    """How many events were taken one after the other, and what the next one was told.

    Each is delivered before the next one, so that only the log is written at its COMMIT.
    """
    for number in range(PATIENCE):
        response = await emit(service, number)
        if response.status_code != 202:
            return number, response
        with anyio.fail_after(10):
            await receiver.wait_for(number + 1)
    raise AssertionError("no commit failed")


async def test_one_failed_commit_is_unknown_and_then_mended(
    strace: str, receiver: Receiver, tmp_path: Path
) -> None:
    """503, ask again; the service reopens its file by itself and goes on without a restart."""
    data = tmp_path / "data"
    async with serving(data, through=tracing.failing_once(strace, data)) as service:
        await hook(service, receiver)
        failed, response = await emit_until_it_fails(service, receiver)
        again = await emit(service, failed)
        after = await emit(service, failed + 1)
        with anyio.fail_after(10):
            await receiver.wait_for(failed + 2)

        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert "unknown" in response.json()["message"]
        assert (again.status_code, after.status_code) == (202, 202)
        assert await service.get("/health/ready") == {"status": "ready"}
        assert await service.stop() == 0, service.output

    names = [event.name for event in read_stored(data / "log.db") if event.name]
    assert names == [f"id-{number}" for number in range(failed + 2)]
    assert integrity(data / "log.db") == "ok"
    assert [request.body for request in receiver.requests] == [
        str(number).encode() for number in range(failed + 2)
    ]


async def test_a_disk_that_keeps_failing_stops_writes_only(
    strace: str, receiver: Receiver, tmp_path: Path
) -> None:
    """After a second failure nothing is written until a restart; reads and deliveries go on."""
    data = tmp_path / "data"
    receiver.script("/hook", answer(503), answer(200))
    async with serving(data, retry_schedule="1") as service:
        hook_id = await hook(service, receiver)
        first = (await emit(service, 0)).json()["positions"][0]
        with anyio.fail_after(10):
            await receiver.wait_for(1)
        async with tracing.failing(strace, service):
            refused = [await emit(service, number) for number in range(1, 5)]
        # The disk is well again, but what it said in between proves nothing about what it holds.
        refused.append(await emit(service, 5))
        consumer = await service.client.post("/consumers", json={"username": "ada"})
        ready = await service.client.get("/health/ready")

        assert {response.status_code for response in (*refused, consumer, ready)} == {503}
        assert "retry-after" in refused[-1].headers
        assert ready.json()["reasons"][0].startswith("log: ")
        assert [each["id"] for each in (await service.get("/event-hooks"))["data"]] == [hook_id]
        with anyio.fail_after(10):
            await receiver.wait_for(2)
        await until(lambda: has_state(service, first, {hook_id: "delivered"}))
        assert await service.stop() == 0, service.output

    async with serving(data) as service:
        answers = [await emit(service, number) for number in range(6)]
        assert {response.status_code for response in answers} == {202}
        positions = [response.json()["positions"][0] for response in answers]
        for position in positions:
            await until(partial(has_state, service, position, {hook_id: "delivered"}))
        assert await service.stop() == 0, service.output
    names = [event.name for event in read_stored(data / "log.db") if event.name]
    assert sorted(names) == [f"id-{number}" for number in range(6)]

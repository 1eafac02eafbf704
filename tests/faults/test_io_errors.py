"""EIO at COMMIT, made by strace: nothing is acknowledged, what can go on goes on."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
import pytest

from tests.faults.campaign import integrity, read_stored
from tests.receiver import Receiver, answer
from tests.service import Service, serving, until

PATIENCE = 40
"""Commits after which the injected failure must have shown up."""


def failing(strace: str, data: Path, when: str) -> Sequence[str]:
    """A command that runs the service and makes it fail to sync the log's WAL at these calls.

    The tracer keeps to the background, so that the service's process is the one that is started.
    """
    return (
        *(strace, "-D", "-f", "-qq", "-o", str(data.with_suffix(".strace"))),
        *("-P", str(data / "log.db-wal"), "-e", "trace=fdatasync,fsync"),
        *("-e", f"inject=fdatasync,fsync:error=EIO:when={when}"),
    )


async def emit(service: Service, number: int) -> httpx.Response:
    body = {"source": "balancer", "event": "health", "data": {"n": number}, "id": f"id-{number}"}
    return await service.client.post("/events", json=body)


async def hook(service: Service, receiver: Receiver) -> str:
    """A hook on all that `emit` sends; its id."""
    config = {"url": f"{receiver.url}/hook", "method": "POST", "body": "{{ n }}"}
    body = {"source": "balancer", "handler": "webhook-custom", "config": config}
    return str((await service.post("/event-hooks", body))["id"])


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
    async with serving(data, through=failing(strace, data, "20")) as service:
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
    """After the second failure the log stays as it is; reads and deliveries go on; so does a restart.
    """
    data = tmp_path / "data"
    release = anyio.Event()
    async with serving(data, through=failing(strace, data, "20+")) as service:
        hook_id = await hook(service, receiver)
        taken, response = await emit_until_it_fails(service, receiver)
        statuses = {(await emit(service, number)).status_code for number in range(taken, taken + 3)}
        consumer = await service.client.post("/consumers", json={"username": "ada"})
        ready = await service.client.get("/health/ready")
        feed = await service.feed()

        assert {response.status_code, consumer.status_code, ready.status_code} == {503}
        assert statuses == {503}
        assert "log" in ready.json()["reasons"][0]
        assert [hook["id"] for hook in (await service.get("/event-hooks"))["data"]] == [hook_id]
        assert len([event for event in feed if event["type"] == "event_emitted"]) >= taken
        tested = await service.post(f"/event-hooks/{hook_id}/test", {"n": "by hand"})
        assert tested["result"]["status"] == 200
        await service.stop()

    release.set()
    receiver.script("/hook", answer(200))
    async with serving(data) as service:
        answers = [await emit(service, number) for number in range(taken + 3)]
        positions = [answer.json()["positions"][0] for answer in answers]

        async def delivered() -> bool:
            states = [await service.states(position) for position in positions]
            return all(state == {hook_id: "delivered"} for state in states)

        await until(delivered)
        assert [answer.json()["repeated"] for answer in answers[:taken]] == [True] * taken
        assert len(set(positions)) == taken + 3
        assert await service.stop() == 0, service.output
    names = [event.name for event in read_stored(data / "log.db") if event.name]
    assert sorted(names) == sorted(f"id-{number}" for number in range(taken + 3))

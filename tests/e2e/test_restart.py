"""What is kept over a restart, with and without the files that are derived from the log."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.receiver import Receiver, answer
from tests.service import Service, serving, until

DERIVED = ("view.db", "state.db")

QUICK = {"retry_schedule": "0.2,600"}
"""The second attempt comes soon, the third one not in this test."""


async def contents(service: Service) -> dict[str, Any]:
    """Everything that is configured, as the Admin API shows it."""
    paths = ("/event-hooks", "/event-hooks/sources", "/consumers", "/services", "/workspaces")
    return {path: await service.get(path) for path in paths}


async def settled(service: Service) -> bool:
    """Whether there is nothing left to decide or under way."""
    delivery = (await service.get("/status"))["delivery"]
    return bool(delivery["behind"] == 0 and delivery["in_flight"] == 0)


async def stories(service: Service) -> dict[int, dict[str, str]]:
    """What became of every emitted event, hook by hook, by position."""
    emitted = [event for event in await service.feed() if event["type"] == "event_emitted"]
    return {event["position"]: await service.states(event["position"]) for event in emitted}


def remove(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        for path in directory.glob(f"{name}*"):
            path.unlink()


async def populate(service: Service, receiver: Receiver) -> dict[str, str]:
    """Configuration and events in every state a delivery can be in; hook ids by their paths."""
    receiver.script("/well", answer(200))
    receiver.script("/refuses", answer(400))
    receiver.script("/ails", answer(503))
    receiver.script("/gone", answer(410))
    ids = {}
    for path in ("well", "refuses", "ails", "gone", "paused", "former"):
        config = {"method": "POST", "url": f"{receiver.url}/{path}", "body": "{{ n }}"}
        hook = {"source": "team", "event": "done", "handler": "webhook-custom", "config": config}
        ids[path] = (await service.post("/event-hooks", hook))["id"]
    definition = {"fields": ["n"], "description": "A thing is done"}
    answered = await service.client.put("/event-hooks/sources/team/done", json=definition)
    answered.raise_for_status()
    await service.post("/workspaces", {"name": "blue"})
    await service.post("/consumers", {"username": "ada", "tags": ["a", "b"]})
    await service.post("/services", {"url": "http://example.com:8080/path", "name": "web"})
    await service.client.patch("/consumers/ada", json={"custom_id": "A-1"})
    await service.post(f"/event-hooks/{ids['paused']}/pause")
    for n in range(3):
        await service.emit("team", "done", {"n": n}, id_=f"id-{n}")
    with anyio.fail_after(10):
        await receiver.wait_for(3, "/well")
        await receiver.wait_for(6, "/ails")
        await receiver.wait_for(3, "/refuses")
        await receiver.wait_for(3, "/former")
    await until(lambda: settled(service))
    await service.client.delete(f"/event-hooks/{ids['former']}")
    await until(lambda: settled(service))
    return ids


@pytest.mark.parametrize("ending", ["stopped", "killed"])
@pytest.mark.parametrize("removed", [(), DERIVED], ids=["all files", "without derived files"])
async def test_a_restart_changes_nothing(
    receiver: Receiver, tmp_path: Path, ending: str, removed: Sequence[str]
) -> None:
    """Configuration, history, what is open, parked, paused and suspended: as it was before."""
    data = tmp_path / "data"
    async with serving(data, **QUICK) as service:
        ids = await populate(service, receiver)
        before, told = await contents(service), await stories(service)
        feed = await service.feed()
        if ending == "stopped":
            assert await service.stop() == 0, service.output
        else:
            await service.kill()
    remove(data, removed)

    async with serving(data, **QUICK) as service:
        await until(lambda: settled(service))
        after = await contents(service)
        again = await service.feed()
        repeated = await service.post(
            "/events", {"source": "team", "event": "done", "data": {"n": 0}, "id": "id-0"}
        )
        parked = (await service.get(f"/event-hooks/{ids['refuses']}/parked"))["data"]
        await service.post(f"/event-hooks/{ids['paused']}/resume")
        with anyio.fail_after(10):
            held = await receiver.wait_for(3, "/paused")

        async def as_before() -> bool:
            retold = await stories(service)
            return retold == {at: told[at] | {ids["paused"]: "delivered"} for at in told}

        await until(as_before)

    # Rebuilding calls nobody about what the log knows to be settled; a kill may repeat the latest.
    assert [len(receiver.at(path)) for path in ("/refuses", "/gone")] == [3, 1]
    if ending == "stopped":
        assert len(receiver.at("/well")) == 3
    assert after == before
    assert again[: len(feed)] == feed
    assert (repeated["repeated"], len(parked)) == (True, 3)
    assert sorted(request.body for request in held) == [b"0", b"1", b"2"]
    for states in told.values():
        assert {path: states[hook] for path, hook in ids.items()} == {
            "well": "delivered",
            "refuses": "parked",
            "ails": "retrying",
            "gone": "paused",
            "paused": "paused",
            "former": "delivered",
        }


async def test_a_retry_survives_a_restart(receiver: Receiver, tmp_path: Path) -> None:
    """A delivery that waits for its next attempt gets it from the next process, under its id."""
    receiver.script("/hook", answer(503), answer(200))
    data = tmp_path / "data"
    async with serving(data, retry_schedule="1.5") as service:
        config = {"url": f"{receiver.url}/hook", "method": "POST"}
        hook = {"source": "balancer", "handler": "webhook-custom", "config": config}
        await service.post("/event-hooks", hook)
        position = await service.emit("balancer", "health", {})
        await until(lambda: settled(service))

        assert set((await service.states(position)).values()) == {"retrying"}
        assert await service.stop() == 0, service.output

    async with serving(data, retry_schedule="1.5") as service:
        with anyio.fail_after(10):
            first, second = await receiver.wait_for(2, "/hook")
        await until(lambda: settled(service))

        assert set((await service.states(position)).values()) == {"delivered"}
    assert first.header("webhook-id") == second.header("webhook-id")


async def test_an_order_that_was_answered_survives_a_kill(
    receiver: Receiver, tmp_path: Path
) -> None:
    """Pausing, resuming and sending again: killed right after the answer, they still hold."""
    data = tmp_path / "data"
    receiver.script("/hook", answer(400), answer(200))
    async with serving(data) as service:
        config = {"url": f"{receiver.url}/hook", "method": "POST", "body": "{{ n }}"}
        body = {"source": "balancer", "handler": "webhook-custom", "config": config}
        hook = (await service.post("/event-hooks", body))["id"]
        await service.emit("balancer", "health", {"n": 1})
        with anyio.fail_after(10):
            await receiver.wait_for(1)
        await until(lambda: settled(service))
        await service.post(f"/event-hooks/{hook}/pause")
        await service.kill()

    async with serving(data) as service:
        held = await service.emit("balancer", "health", {"n": 2})
        await until(lambda: settled(service))
        assert await service.states(held) == {hook: "paused"}
        await service.post(f"/event-hooks/{hook}/parked/resend")
        await service.kill()

    async with serving(data) as service:
        assert await service.states(held) == {hook: "paused"}
        await service.post(f"/event-hooks/{hook}/resume")
        await service.kill()

    async with serving(data) as service:
        with anyio.fail_after(10):
            requests = await receiver.wait_for(3)
        await until(lambda: settled(service))
        parked = await service.get(f"/event-hooks/{hook}/parked")

    assert {request.body for request in requests} == {b"1", b"2"}
    assert parked["data"] == []


async def test_a_hook_is_live_when_its_creation_is_answered(
    service: Service, receiver: Receiver
) -> None:
    """Each hook gets exactly the events that were emitted after its own creation."""
    for n in range(10):
        config = {"url": f"{receiver.url}/{n}", "method": "POST", "body": "{{ n }}"}
        hook = {"source": "balancer", "handler": "webhook-custom", "config": config}
        await service.post("/event-hooks", hook)
        await service.emit("balancer", "health", {"n": n})

    with anyio.fail_after(10):
        await receiver.wait_for(55)
    for n in range(10):
        bodies = sorted(int(request.body) for request in receiver.at(f"/{n}"))
        assert bodies == list(range(n, 10))
    assert len(receiver.requests) == 55

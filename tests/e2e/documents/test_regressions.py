"""What Kong's changelog had to mend, and what its users complain about: none of it happens here."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.documents.lines import arrived
from tests.receiver import Receiver
from tests.service import Service, serving, until

SLACK = "{{ hostname }} ({{ ip }}:{{ port }}) is {{ health }}"


async def hook(service: Service, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A webhook whose target is `/hook` at the receiver; it says so with a ping."""
    config = {"url": f"{receiver.url}/hook", **fields.pop("config", {})}
    created: dict[str, Any] = await service.post(
        "/event-hooks", {"handler": "webhook", "config": config, **fields}
    )
    return created


async def events(receiver: Receiver, count: int) -> list[Any]:
    """The first `count` bodies that are no pings."""
    with anyio.fail_after(10):
        while True:
            bodies = await arrived(receiver, len(receiver.at("/hook")) or 1)
            found = [body for body in bodies if body["event"] != "ping"]
            if len(found) >= count:
                return found
            await receiver.wait_for(len(bodies) + 1, "/hook")


async def test_a_hook_added_at_runtime_is_live_at_once(
    service: Service, receiver: Receiver
) -> None:
    """3.9: it took a reload. 3.3.0: none fired at all."""
    await hook(service, receiver, source="crud", event="consumers:create")
    await service.post("/consumers", {"username": "ada"})
    [change] = await events(receiver, 1)

    assert change["entity"]["username"] == "ada"


async def test_a_change_is_delivered_once_to_each_hook(
    service: Service, receiver: Receiver
) -> None:
    """3.11: a crud event triggered a hook several times, as a change has three names."""
    everything = await hook(service, receiver, source="crud")
    table = await hook(service, receiver, source="crud", event="consumers")
    operation = await hook(service, receiver, source="dao:crud", event="create")
    position = (await service.get("/status"))["log"]["head"]
    await service.post("/consumers", {"username": "ada"})
    consumers = [b for b in await events(receiver, 3) if b.get("schema") == "consumers"]
    for last in ("bob", "eve"):
        await service.post("/consumers", {"username": last})
    names = [
        (body["source"], body["event"], body["entity"]["username"])
        for body in await events(receiver, 9)
        if body.get("schema") == "consumers"
    ]

    assert consumers
    assert sorted(name for name in names if name[2] == "ada") == [
        ("crud", "consumers", "ada"),
        ("crud", "consumers", "ada"),
        ("dao:crud", "create", "ada"),
    ]
    states = await service.states(position + 1)
    assert [states[each["id"]] for each in (everything, table, operation)] == ["delivered"] * 3


async def test_a_hook_hears_of_other_hooks(service: Service, receiver: Receiver) -> None:
    """3.13: crud events of the entity `event_hooks` itself went nowhere. No secret is in them."""
    await hook(service, receiver, source="crud", event="event_hooks")
    other = await service.post(
        "/event-hooks",
        {
            "source": "crud",
            "event": "routes",
            "handler": "webhook-custom",
            "config": {"url": receiver.url, "method": "POST", "secret": "s3cret"},
        },
    )
    await service.client.delete(f"/event-hooks/{other['id']}")
    [created, deleted] = await events(receiver, 2)

    assert (created["operation"], deleted["operation"]) == ("create", "delete")
    assert created["entity"]["id"] == deleted["entity"]["id"] == other["id"]
    assert b"s3cret" not in b"".join(request.body for request in receiver.at("/hook"))


@pytest.mark.parametrize(
    "values", [[1, 2], [1.5, 1.25], [True, False], [0, False], [1, True], [{"a": 1}, {"a": 2}]]
)
async def test_numbers_and_booleans_are_changes(
    service: Service, receiver: Receiver, values: list[Any]
) -> None:
    """3.10: they were left out of what `on_change` compares, so events were lost."""
    await service.client.put("/event-hooks/sources/app/level", json={"fields": ["value"]})
    await hook(service, receiver, source="app", event="level", on_change=True)
    for value in (values[0], values[0], values[1], values[1], values[0]):
        await service.emit("app", "level", {"value": value})
    bodies = await events(receiver, 3)

    assert [repr(body["value"]) for body in bodies] == [
        repr(value) for value in (values[0], values[1], values[0])
    ]


async def test_a_hook_may_be_there_before_its_source(service: Service, receiver: Receiver) -> None:
    """3.7: hooks on sources that were not registered yet were refused."""
    made = await hook(service, receiver, source="later", event="happened")
    early = await service.client.post(
        "/events", json={"source": "later", "event": "happened", "data": {"n": 1}}
    )
    await service.client.put("/event-hooks/sources/later/happened", json={"fields": ["n"]})
    await service.emit("later", "happened", {"n": 2})
    [body] = await events(receiver, 1)

    assert made["source"] == "later"
    assert early.status_code == 400
    assert early.json()["fields"] == {
        "event": "'happened' is not published for source 'later':"
        " publish it with PUT /event-hooks/sources/later/happened"
    }
    assert body == {"source": "later", "event": "happened", "n": 2}


async def test_events_that_kong_never_publishes_can_be_published(
    service: Service, receiver: Receiver
) -> None:
    """A user of 3.15: the AI plugin emits names that are rejected, so the hook never fires."""
    source, event = "ai-rate-limiting-advanced", "rate-limit-exceeded-provider-openai"
    await service.client.put(f"/event-hooks/sources/{source}/{event}")
    await hook(service, receiver, source=source)
    await service.emit(source, event, {"threshold": 80})
    [body] = await events(receiver, 1)

    assert body == {"source": source, "event": event, "threshold": 80}


async def test_the_signature_is_chosen_by_hook(service: Service, receiver: Receiver) -> None:
    """3.14: SHA-1 became SHA-256 for everybody, with no way back."""
    for algorithm in ("sha1", "sha256"):
        config = {"secret": "s", "signature_algorithm": algorithm}
        await hook(service, receiver, source="crud", event="consumers", config=config)
    await service.post("/consumers", {"username": "ada"})
    await events(receiver, 2)

    for request in receiver.at("/hook"):
        algorithm, _, digest = (request.header("x-kong-signature") or "").partition("=")
        kind = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}[algorithm]
        assert hmac.new(b"s", request.body, kind).hexdigest() == digest


async def test_a_hook_of_a_workspace_sees_that_workspace(
    service: Service, receiver: Receiver
) -> None:
    """A hook made without a prefix fires for consumers in any workspace."""
    for name in ("left", "right"):
        await service.post("/workspaces", {"name": name})
    everywhere = await hook(service, receiver, source="crud", event="consumers")
    config = {"url": f"{receiver.url}/left"}
    args = {"source": "crud", "event": "consumers", "handler": "webhook", "config": config}
    inside = await service.post("/left/event-hooks", args)
    for prefix in ("", "/left", "/right"):
        await service.post(f"{prefix}/consumers", {"username": f"in{prefix.replace('/', '-')}"})
        states = await until(lambda: _states_of_the_last_consumer(service))
        expected = "delivered" if prefix == "/left" else "not_matched"
        assert (states[everywhere["id"]], states[inside["id"]]) == ("delivered", expected)
    bodies = await events(receiver, 3)
    await service.client.delete(f"/left/event-hooks/{inside['id']}")

    assert {body["entity"]["username"] for body in bodies} == {"in", "in-left", "in-right"}
    assert [b"in-left" in request.body for request in receiver.at("/left")] == [False, True]


async def _states_of_the_last_consumer(service: Service) -> dict[str, str] | None:
    """What became of the event of the consumer made last, once that is known."""
    changes = [event for event in await service.feed() if event.get("table") == "consumers"]
    states = await service.states(changes[-1]["position"])
    return states if set(states.values()) <= {"delivered", "not_matched"} else None


async def test_credentials_stay_out_of_payloads_and_feeds(
    service: Service, receiver: Receiver
) -> None:
    """Kong sends entities whole, keys included."""
    await hook(service, receiver, source="crud")
    await service.post("/consumers", {"username": "ada"})
    made = await service.post("/consumers/ada/key-auth", {"key": "t0p-secret"})
    args = {"username": "ada", "password": "pa55word"}
    await service.post("/consumers/ada/basic-auth", args)
    await service.client.delete("/consumers/ada")
    bodies = await events(receiver, 6)

    assert made["key"] == "t0p-secret"
    schemas = [body["schema"] for body in bodies]
    assert {"keyauth_credentials", "basicauth_credentials"} <= set(schemas)
    for secret in ("t0p-secret", "pa55word"):
        assert secret not in str(bodies)
        assert secret not in str(await service.feed())
        assert secret not in service.output


async def test_the_health_of_a_target_reaches_slack(service: Service, receiver: Receiver) -> None:
    """The blog's template, fired by Kong's own endpoint."""
    await service.post("/upstreams", {"name": "backends"})
    await service.post("/upstreams/backends/targets", {"target": "backend:8080"})
    await service.post(
        "/event-hooks",
        {
            "source": "balancer",
            "event": "health",
            "handler": "webhook-custom",
            "config": {
                "url": f"{receiver.url}/hook",
                "method": "POST",
                "headers": {"content-type": "application/json"},
                "payload": {"text": SLACK},
            },
        },
    )
    path = "/upstreams/backends/targets/backend:8080/10.0.0.5:8080/unhealthy"
    answer = await service.client.put(path)
    [body] = await arrived(receiver, 1)
    await service.client.delete("/upstreams/backends")

    assert answer.status_code == 204
    assert body == {"text": "backend (10.0.0.5:8080) is unhealthy"}


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with event hooks switched off."""
    async with serving(tmp_path / "data", event_hooks_enabled="off") as service:
        yield service


async def test_switched_off_means_silent(silent: Service, receiver: Receiver) -> None:
    """3.9: a warning was logged for every event. Here they are stored, and that is all."""
    await hook(silent, receiver, source="crud")
    for name in ("ada", "bob"):
        await silent.post("/consumers", {"username": name})

    assert {record["level"] for record in silent.records()} <= {"info", "notice", "debug"}
    assert receiver.at("/hook") == []
    assert len([event for event in await silent.feed() if event.get("table") == "consumers"]) == 2


async def test_what_was_published_outlives_the_service(tmp_path: Path, receiver: Receiver) -> None:
    """Sources are part of the log; a hook on one fires after a restart without anybody's help."""
    async with serving(tmp_path / "data") as service:
        definition = {"fields": ["n"], "unique": ["n"], "description": "Something was counted"}
        await service.client.put("/event-hooks/sources/app/counted", json=definition)
        await hook(service, receiver, source="app", event="counted", on_change=True)
        await events(receiver, 0)
        await service.stop()
    async with serving(tmp_path / "data") as service:
        shown = await service.get("/event-hooks/sources/app")
        await service.emit("app", "counted", {"n": 1})
        await service.emit("app", "counted", {"n": 1, "more": 2})
        await service.emit("app", "counted", {"n": 2})
        bodies = await events(receiver, 2)

        assert shown == {"data": {"counted": definition}}
        assert [body["n"] for body in bodies] == [1, 2]

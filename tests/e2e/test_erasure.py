"""Bodies erased on the real service: gone from every file, and everything else as it was."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import Receiver, answer
from tests.service import HOOKTAPE, Service, serving, shell, until

SECRET = "ada.lovelace@example.com"
PADDING = "x" * 9000
"""So that a body fills pages of its own."""

RETRIES = {"retry_schedule": "0.1,600"}


def files_with(directory: Path, text: str) -> list[str]:
    """The files under a directory in which a text stands, as it is or with one bit per JSON."""
    return [
        path.name
        for path in sorted(directory.rglob("*"))
        if path.is_file() and text.encode() in path.read_bytes()
    ]


async def populate(service: Service, receiver: Receiver) -> dict[str, str]:
    """A hook that parks, one that retries, one that compares, and events about two people."""
    receiver.script("/refuses", answer(400))
    receiver.script("/ails", answer(503))
    hooks = {}
    for path, more in {
        "refuses": {},
        "ails": {},
        "compares": {"on_change": True},
    }.items():
        config = {"url": f"{receiver.url}/{path}"}
        hook = {"source": "people", "event": "seen", "handler": "webhook", "config": config, **more}
        hooks[path] = (await service.post("/event-hooks", hook))["id"]
    published = await service.client.put(
        "/event-hooks/sources/people/seen", json={"subject": "mail", "fields": ["mail"]}
    )
    published.raise_for_status()
    for n in range(4):
        mail = SECRET if n % 2 else "bob@example.com"
        await service.emit("people", "seen", {"mail": mail, "n": n, "more": PADDING})
    await until(lambda: parked(service, hooks["refuses"], 5))  # the ping, too
    await until(lambda: retried(service, hooks["ails"], 5))
    return hooks


async def parked(service: Service, hook: str, count: int) -> bool:
    found: list[object] = (await service.get(f"/event-hooks/{hook}/parked"))["data"]
    return len(found) == count


async def retried(service: Service, hook: str, count: int) -> bool:
    found: list[dict[str, Any]] = (await service.get(f"/event-hooks/{hook}/deliveries"))["data"]
    return len([fact for fact in found if fact["type"] == "delivery_failed"]) == count


async def seen(service: Service) -> list[dict[str, Any]]:
    return [event for event in await service.feed() if event["type"] == "event_emitted"]


async def test_a_person_is_erased_from_every_file(receiver: Receiver, tmp_path: Path) -> None:
    """By subject: the bodies, parked copies and reasons are gone from all files, WALs included."""
    async with serving(tmp_path / "data", **RETRIES) as service:
        hooks = await populate(service, receiver)
        assert "log.db" in " ".join(files_with(service.directory, SECRET))
        dry = await service.post("/erasures?dry_run=true", {"subject": SECRET, "reason": "asked"})
        done = await service.post("/erasures", {"subject": SECRET, "reason": "asked"})
        again = await service.post("/erasures", {"subject": SECRET, "reason": "asked"})

        assert dry["would_erase"] == done["erased"] == 6  # 2 events, 2 parked, 2 failed
        assert again == {"erased": 0, "records": []}
        assert files_with(service.directory, SECRET) == []
        events = await seen(service)
        assert [event.get("erased", False) for event in events] == [False, True, False, True]
        assert events[1]["data"] is None
        for event in events[1::2]:
            states = await service.states(event["position"])
            assert {states[hooks["refuses"]], states[hooks["ails"]]} == {"cancelled"}
        assert await parked(service, hooks["refuses"], 3)
        assert await service.stop() == 0
    async with serving(tmp_path / "data", **RETRIES) as service:
        assert files_with(service.directory, SECRET) == []
        assert await parked(service, hooks["refuses"], 3)
        [listed] = (await service.get("/erasures"))["data"]
        assert (listed["fact"]["what"], listed["fact"]["count"]) == ("subject", 6)
        assert SECRET not in json.dumps(listed)


async def test_one_event_is_erased_by_the_callers_id(receiver: Receiver, tmp_path: Path) -> None:
    """By event: only that one goes, and the same id is still known and not stored again."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        for n in range(3):
            await service.emit("people", "seen", {"mail": f"{n}.{SECRET}"}, id_=f"id-{n}")
        ask = {"event": "id-1", "source": "people", "reason": "a slip"}
        done = await service.client.post("/erasures", json=ask, headers={"idempotency-key": "k"})
        again = await service.client.post("/erasures", json=ask, headers={"idempotency-key": "k"})
        other = await service.client.post(
            "/erasures", json=ask | {"reason": "other"}, headers={"idempotency-key": "k"}
        )
        repeated = await service.emit("people", "seen", {"mail": f"1.{SECRET}"}, id_="id-1")

        assert done.json()["erased"] == 1
        assert again.json() == done.json()
        assert other.status_code == 409
        assert repeated == 2
        assert files_with(service.directory, f"1.{SECRET}") == []
        assert files_with(service.directory, f"2.{SECRET}") != []


async def test_a_workspace_is_erased_with_its_configuration(
    receiver: Receiver, tmp_path: Path
) -> None:
    """By workspace: entities are known by their ids alone, its hooks are gone, others are not."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        await service.post("/workspaces", {"name": "blue"})
        config = {"url": f"{receiver.url}/x", "headers": {"x": SECRET}}
        hook = {"source": "a", "event": "b", "handler": "webhook", "config": config}
        await service.post("/blue/event-hooks", hook)
        await service.post("/blue/consumers", {"username": SECRET})
        await service.post("/consumers", {"username": "bob"})
        await service.post("/blue/events", {"source": "a", "event": "b", "data": {"m": SECRET}})
        await until(lambda: settled(service))
        done = await service.post("/erasures", {"workspace": "blue", "reason": "contract ended"})

        assert done["erased"] >= 3
        assert files_with(service.directory, SECRET) == []
        assert [row["username"] for row in (await service.get("/consumers"))["data"]] == ["bob"]
        assert "username" not in json.dumps((await service.get("/blue/consumers"))["data"][0]) or (
            (await service.get("/blue/consumers"))["data"][0]["username"] is None
        )
        before = len(receiver.requests)
        await service.post("/blue/events", {"source": "a", "event": "b", "data": {}})
        await until(lambda: settled(service))
        assert len(receiver.requests) == before


async def settled(service: Service) -> bool:
    delivery = (await service.get("/status"))["delivery"]
    return bool(delivery["behind"] == 0 and delivery["in_flight"] == 0)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_the_command_erases(receiver: Receiver, tmp_path: Path, *, running: bool) -> None:
    """`hooktape erase` does the same on a running service and on a stopped one."""
    command = f"{HOOKTAPE} erase --subject {SECRET} --reason asked --data-dir data"
    async with serving(tmp_path / "data", **RETRIES) as service:
        await populate(service, receiver)
        if running:
            done = await shell(f"{command} --url {service.url}", tmp_path)
        else:
            await service.kill()
            done = await shell(command, tmp_path)

        assert done.stderr == ""
        assert json.loads(done.stdout)["erased"] == 6
        assert files_with(service.directory, SECRET) == []


@pytest.mark.parametrize(
    ("ask", "fault"),
    [
        ({"subject": "x"}, "reason: required field missing"),
        ({"reason": "x"}, "give exactly one"),
        ({"subject": "x", "workspace": "y", "reason": "z"}, "give exactly one"),
        ({"event": True, "reason": "z"}, "event: length"),
        ({"subject": "x", "reason": "z", "colour": "red"}, "colour: unknown field"),
    ],
)
async def test_what_is_not_clear_is_refused(
    service: Service, ask: dict[str, Any], fault: str
) -> None:
    """Erasing cannot be undone, so nothing is guessed."""
    answered = await service.client.post("/erasures", json=ask)

    assert answered.status_code == 400
    assert fault in answered.json()["message"]


async def test_an_unknown_event_is_not_found(service: Service) -> None:
    """404, and nothing is stored."""
    answered = await service.client.post("/erasures", json={"event": "99", "reason": "x"})

    assert answered.status_code == 404
    assert await service.feed() == []


@pytest.mark.parametrize("what", ["workspace", "event", "subject"])
async def test_what_was_compacted_away_is_erased(
    receiver: Receiver, tmp_path: Path, what: str
) -> None:
    """From the archive, from the snapshot that took its place, and from those before that."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        hook, at = await populate_blue(service, receiver)
        for n in range(2):
            await service.post("/consumers", {"username": f"bob-{n}"})
            await until(lambda: settled(service))
            await compacted(service)
        snapshot = files_with(service.directory, "consumer-" + SECRET)
        key = {"workspace": "blue", "event": str(at - 1), "subject": SECRET}[what]
        done = await service.post("/erasures", {what: key, "reason": "asked"})
        again = await service.post("/erasures", {what: key, "reason": "asked"})

        assert "log.db" in snapshot
        assert done["records"] != []
        assert again == {"erased": 0, "records": []}
        left = {"workspace": (), "event": ("hook-",), "subject": ("hook-", "consumer-")}[what]
        for name in ("hook-", "consumer-"):
            found = files_with(service.directory, name + SECRET)
            assert bool(found) == (name in left), (name, found)
        before = await configuration(service)
        assert hook in json.dumps(before["hooks"])
        await service.stop()
    for path in (tmp_path / "data").glob("view.db*"):
        path.unlink()
    for path in (tmp_path / "data").glob("state.db*"):
        path.unlink()
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        assert await configuration(service) == before
        consumers = json.dumps(before["consumers"])
        assert ("consumer-" + SECRET in consumers) == (what == "subject")


async def test_without_its_archive_an_erasure_is_not_finished(
    receiver: Receiver, tmp_path: Path
) -> None:
    """It says so, also at the next start, which goes on; with the archive back it is finished."""
    ask = {"subject": SECRET, "reason": "asked"}
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        await populate_blue(service, receiver)
        await service.post("/consumers", {"username": "bob"})
        await until(lambda: settled(service))
        await compacted(service)
        (service.directory / "archive").rename(tmp_path / "elsewhere")
        refused = await service.client.post("/erasures", json=ask)
        await service.stop()
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        told = service.output
        (tmp_path / "elsewhere").rename(service.directory / "archive")
        again = await service.post("/erasures", ask)

        assert refused.status_code == 503
        assert "without the whole archive" in refused.json()["message"]
        assert "without the whole archive" in told
        assert again["erased"] == 0
        await service.stop()
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        assert "whole archive" not in service.output


async def populate_blue(service: Service, receiver: Receiver) -> tuple[str, int]:
    """A workspace with a hook, a consumer and then an event; the hook, and the event's position."""
    await service.post("/workspaces", {"name": "blue"})
    published = await service.client.put(
        "/event-hooks/sources/people/seen", json={"subject": "mail", "fields": ["mail"]}
    )
    published.raise_for_status()
    config = {"url": f"{receiver.url}/x", "headers": {"x": "hook-" + SECRET}}
    hook = {"source": "people", "event": "seen", "handler": "webhook", "config": config}
    made = await service.post("/blue/event-hooks", hook)
    await service.post("/blue/consumers", {"username": "consumer-" + SECRET})
    emitted = {"source": "people", "event": "seen", "data": {"mail": SECRET}}
    return made["id"], (await service.post("/blue/events", emitted))["positions"][0]


async def compacted(service: Service) -> None:
    """Everything that can go is in the archive."""
    before = (await service.get("/compaction"))["last"]
    await until(lambda: sealed(service))
    await service.post("/compaction", {"max_events": 0})

    async def over() -> bool:
        state = await service.get("/compaction")
        return state["running"] is None and (state["last"] != before or state["problem"])

    await until(over)
    state = await service.get("/compaction")
    assert state["problem"] is None
    assert state["last"] != before


async def sealed(service: Service) -> bool:
    return (await service.client.get("/health/ready")).status_code == 200


async def configuration(service: Service) -> dict[str, Any]:
    return {
        "hooks": (await service.get("/blue/event-hooks"))["data"],
        "consumers": (await service.get("/blue/consumers"))["data"],
        "bobs": (await service.get("/consumers"))["data"],
    }

"""`hooktape compact` and `hooktape rebuild`, as commands, beside a running service and without."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.service import COMMAND, Completed, Service, environment, serving, until

SECRET = "do-not-show-this"
WITH_SECRET = {
    "source": "crud",
    "event": "plugins",
    "handler": "webhook",
    "config": {"url": "http://127.0.0.1:9/", "secret": SECRET},
}


async def hooktape(*arguments: str, directory: Path, url: str = "http://127.0.0.1:1") -> Completed:
    """Run a command on a data directory."""
    command = [*COMMAND, *arguments, "--data-dir", str(directory)]
    done = await anyio.run_process(
        command, check=False, cwd=directory.parent, env=environment(HOOKTAPE_URL=url)
    )
    return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


async def busy(service: Service, count: int = 30) -> dict[str, Any]:
    """A hook with a secret, and so many changes that it was told of."""
    hook: dict[str, Any] = await service.post(
        "/event-hooks",
        {
            "source": "crud",
            "event": "consumers",
            "handler": "log",
        },
    )
    await service.post("/event-hooks", WITH_SECRET)
    for number in range(count):
        await service.post("/consumers", {"username": f"user-{number}"})
    await until(lambda: settled(service))
    return hook


async def settled(service: Service) -> bool:
    status = await service.get("/status")
    return bool(status["delivery"]["position"] == status["log"]["head"])


def floor(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        (first,) = connection.execute("SELECT min(seq) FROM event").fetchone()
        return int(first)


async def test_a_running_service_is_compacted(tmp_path: Path) -> None:
    """Through its Admin API: a plan first, then the thing itself; nothing else changes."""
    data = tmp_path / "data"
    async with serving(data) as service:
        await busy(service)
        before = await service.get("/consumers?size=1000")
        dry = await hooktape(
            "compact", "--max-events", "0", "--dry-run", directory=data, url=service.url
        )
        untouched = floor(data)
        done = await hooktape(
            "compact",
            "--max-events",
            "0",
            "--keep",
            "config=0s",
            "--json",
            directory=data,
            url=service.url,
        )
        first = (await service.get("/status"))["log"]["first"]
        gone = await service.client.get("/events?after=0")
        feed = await service.get(f"/events?after={first - 1}&size=1000")
        after = await service.get("/consumers?size=1000")
        verified = await hooktape("rebuild", "--verify", directory=data, url=service.url)
        refused = await hooktape("rebuild", directory=data, url=service.url)

    assert dry.code == 0
    assert "can go into 1 archived files" in dry.stdout
    assert untouched == 1
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["floor"] == first > 1
    assert (gone.status_code, "compacted away" in gone.text) == (410, True)
    assert {event["type"] for event in feed["data"]} >= {"snapshot_part", "compaction_finished"}
    assert SECRET not in json.dumps(feed)
    assert after == before
    assert (verified.code, "OK: equal" in verified.stdout) == (0, True), verified
    assert refused.code == 1
    assert "--verify" in refused.stderr


async def test_without_log_and_service_it_says_so(tmp_path: Path) -> None:
    """Nothing is made in a wrong directory."""
    done = await hooktape("compact", "--max-events", "0", directory=tmp_path / "nowhere")

    assert done.code == 69
    assert "no answer from" in done.stderr
    assert not (tmp_path / "nowhere").exists()


async def test_a_repeated_request_is_known_after_compaction(service: Service) -> None:
    """It is answered as the first time, though its event is only in the archive."""
    key = {"Idempotency-Key": "k"}
    first = await service.client.post("/consumers", json={"username": "ada"}, headers=key)
    await until(lambda: settled(service))
    await service.post("/compaction", {"max_events": 0})
    await until(lambda: idle(service))
    again = await service.client.post("/consumers", json={"username": "ada"}, headers=key)
    shown = await service.get("/events/1")
    log = (await service.get("/status"))["log"]

    assert log["first"] > 1
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (shown["position"], shown["table"]) == (1, "consumers")


async def test_a_stopped_service_is_compacted(tmp_path: Path) -> None:
    """Directly; and the next start has everything, with all that can be rebuilt deleted."""
    data = tmp_path / "data"
    async with serving(data) as service:
        hook = await busy(service)
        before = await service.get("/consumers?size=1000")
        await service.stop()
    done = await hooktape("compact", "--before", "1000000", directory=data)
    again = await hooktape("compact", "--before", "1000000", directory=data)
    for name in ("state.db", "view.db"):
        for path in data.glob(f"{name}*"):
            path.unlink()
    async with serving(data) as service:
        after = await service.get("/consumers?size=1000")
        shown = await service.get(f"/event-hooks/{hook['id']}")
        await service.post("/consumers", {"username": "new"})
        await until(lambda: settled(service))
        await service.stop()
    verified = await hooktape("audit", "verify", directory=data)

    assert done.code == 0, done.stderr
    assert "archived files; the log begins at" in done.stdout
    assert "nothing was done" in again.stdout
    assert after == before
    assert shown["id"] == hook["id"]
    assert (verified.code, "OK" in verified.stdout) == (0, True), verified


async def test_old_proofs_hold_after_compaction(tmp_path: Path) -> None:
    """A proof and an export made before are still consistent with the log after."""
    data = tmp_path / "data"
    async with serving(data) as service:
        await busy(service, 5)
        await service.stop()
    proof, export = tmp_path / "proof", tmp_path / "export"
    first = await hooktape("audit", "prove", "3", "--output", str(proof), directory=data)
    old = await hooktape("audit", "export", str(export), directory=data)
    (tmp_path / "old").write_text(old.stdout)
    await hooktape("compact", "--max-events", "0", directory=data)
    still = await hooktape("audit", "verify", str(proof), directory=data)
    later = await hooktape(
        "audit",
        "export",
        str(tmp_path / "later"),
        "--from",
        str(floor(data)),
        "--since",
        str(tmp_path / "old"),
        directory=data,
    )
    consistent = await hooktape(
        "audit", "verify", str(tmp_path / "later"), "--since", str(tmp_path / "old"), directory=data
    )

    assert (first.code, old.code) == (0, 0), (first, old)
    assert still.code == 0, still
    assert later.code == 0, later
    assert consistent.code == 0, consistent


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"max_events": "x"}, "max_events"),
        ({"older": 5}, "older"),
        ({"keep": {"emited": 5}, "max_events": 1}, "emited"),
        ({"dry_run": 5}, "dry_run"),
    ],
)
async def test_a_wrong_policy_is_refused(
    service: Service, body: dict[str, Any], complaint: str
) -> None:
    """With what is wrong about it."""
    answer = await service.client.post("/compaction", json=body)

    assert answer.status_code == 400
    assert complaint in answer.text


async def test_a_restart_goes_on_with_a_compaction(tmp_path: Path) -> None:
    """A service killed in the midst of it finishes it after its next start."""
    data = tmp_path / "data"
    async with serving(data) as service:
        await busy(service)
        await service.post("/compaction", {"max_events": 0})
        await service.kill()
    async with serving(data) as service:
        state = await until(lambda: idle(service))
        first = (await service.get("/status"))["log"]["first"]
        feed = await service.get(f"/events?after={first - 1}&size=1000")
        types = [event["type"] for event in feed["data"]]

    assert state["problem"] is None
    assert types.count("compaction_started") == types.count("compaction_finished")


async def idle(service: Service) -> dict[str, Any] | None:
    state: dict[str, Any] = await service.get("/compaction")
    return state if state["running"] is None else None


async def test_a_state_of_the_past(tmp_path: Path) -> None:
    """Also below the floor, from the archive; without secrets."""
    data = tmp_path / "data"
    async with serving(data) as service:
        await service.post("/consumers", {"username": "ada"})
        await service.post("/event-hooks", WITH_SECRET)
        await service.post("/consumers", {"username": "bob"})
        await service.stop()
    await hooktape("compact", "--max-events", "0", directory=data)
    past = await hooktape("rebuild", "entities", "hooks", "--until", "2", directory=data)
    items = [json.loads(line) for line in past.stdout.splitlines()]
    beyond = await hooktape("rebuild", "--until", "3000", directory=data)

    assert past.code == 0, past.stderr
    entities = [item["item"]["entity"] for item in items if item["model"] == "entities"]
    assert [entity["username"] for entity in entities if "username" in entity] == ["ada"]
    assert sum(item["model"] == "hooks" for item in items) == 1
    assert SECRET not in past.stdout
    assert beyond.code == 1
    assert "the log ends at" in beyond.stderr


async def test_an_erasure_takes_saved_states_along(tmp_path: Path) -> None:
    """They can be made again, and may hold what was erased."""
    data = tmp_path / "data"
    async with serving(data) as service:
        await service.post("/consumers", {"username": SECRET})
        await service.stop()
    saved = await hooktape("rebuild", "--save", "mine", directory=data)
    kept = sorted(path.name for path in (data / "checkpoints").iterdir())
    erased = await hooktape("erase", "--event", "1", "--reason", "asked", directory=data)
    again = await hooktape("rebuild", "--from", "mine", directory=data)

    assert saved.code == 0, saved.stderr
    assert kept == ["mine.db"]
    assert erased.code == 0, erased.stderr
    assert (again.code, "no checkpoint" in again.stderr) == (1, True)

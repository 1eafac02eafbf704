"""Back-ups made beside the service, and what a restore brings back."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from eventstore.archive import Archive
from tests.e2e.test_erasure import compacted, files_with, populate_blue, settled
from tests.receiver import Receiver
from tests.service import HOOKTAPE, Completed, Service, serving, shell, until

SECRET = "ada.lovelace@example.com"


async def hooktape(directory: Path, arguments: str) -> Completed:
    return await shell(f"{HOOKTAPE} {arguments}", directory)


async def done(directory: Path, arguments: str) -> Any:
    """What a command that succeeds prints."""
    completed = await hooktape(directory, arguments)

    assert completed.code == 0, completed.stderr
    return json.loads(completed.stdout)


async def emit(service: Service, count: int, **more: Any) -> None:
    for n in range(count):
        await service.emit("a", "b", {"n": n, **more})


async def hooked(service: Service, receiver: Receiver) -> None:
    config = {"url": f"{receiver.url}/x"}
    hook = {"source": "a", "event": "b", "handler": "webhook", "config": config}
    await service.post("/event-hooks", hook)


async def refused(directory: Path) -> str:
    """What `serve` says when it does not start."""
    with anyio.fail_after(15):
        completed = await hooktape(directory.parent, f"serve --data-dir {directory.name}")

    assert completed.code == 69
    return completed.stderr


async def test_a_backup_of_a_running_service_comes_back(receiver: Receiver, tmp_path: Path) -> None:
    """The log up to then, with its configuration; deliveries go on once somebody accepts that."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        await hooked(service, receiver)
        await emit(service, 5)
        before = await service.feed()
        made = await done(tmp_path, "backup saved --data-dir data")
        await emit(service, 3)
    restored = await done(tmp_path, "restore saved again")

    assert made["head"] >= len(before)
    assert restored == {"head": made["head"], "erased": 0}
    assert f"restored to position {made['head']}" in await refused(tmp_path / "again")
    async with serving(tmp_path / "again", accept_repeats=True) as service:
        feed = await service.feed()
        assert feed[: len(before)] == before
        assert [e["fact"]["restored"] for e in feed if e["type"] == "repeats_accepted"] == [
            f"position {made['head']}, from the back-up of {made['made']}"
        ]
        await until(lambda: audited(service))
        await service.stop()
    async with serving(tmp_path / "again", allow_unpublished=True) as service:
        before_count = len(receiver.requests)
        await emit(service, 1)
        await until(lambda: len(receiver.requests) > before_count)


async def audited(service: Service) -> bool:
    return (await service.client.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("given", ["list", "directory"])
async def test_a_restore_erases_again(tmp_path: Path, given: str) -> None:
    """What was erased after the back-up is gone from the restored directory, too."""
    async with serving(tmp_path / "data") as service:
        published = await service.client.put(
            "/event-hooks/sources/a/b", json={"subject": "mail", "fields": ["mail"]}
        )
        published.raise_for_status()
        await emit(service, 2, mail=SECRET)
        await emit(service, 2, mail="bob@example.com")
        first = await service.post("/erasures", {"event": "2", "reason": "before"})
        await done(tmp_path, "backup saved --data-dir data")
        await emit(service, 2, mail=SECRET)
        await service.post("/erasures", {"subject": SECRET, "reason": "after"})
        listing = await service.get("/erasures?size=1000")
        (tmp_path / "list").write_text(json.dumps(listing))
    plain = await hooktape(tmp_path, "restore saved plain")
    erasures = "list" if given == "list" else "data"
    restored = await done(tmp_path, f"restore saved again --erasures {erasures}")

    assert first["erased"] == 1
    assert "is back: erase it again" in plain.stderr
    assert files_with(tmp_path / "plain", SECRET) == ["log.db"]
    assert restored["erased"] == 1
    assert files_with(tmp_path / "again", SECRET) == []
    async with serving(tmp_path / "again", accept_repeats=True) as service:
        assert [event["fact"]["reason"] for event in (await service.get("/erasures"))["data"]] == [
            "before",
            "after",
        ]


async def test_an_archive_is_backed_up_and_erased_again(receiver: Receiver, tmp_path: Path) -> None:
    """What left the log before the back-up is readable after a restore, but for what was erased."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        _, at = await populate_blue(service, receiver)
        await service.post("/consumers", {"username": "bob"})
        await until(lambda: settled(service))
        await compacted(service)
        await done(tmp_path, "backup saved --data-dir data")
        await service.post("/erasures", {"workspace": "blue", "reason": "contract ended"})
        await service.post("/erasures", {"event": str(at), "reason": "twice"})
        (tmp_path / "list").write_text(json.dumps(await service.get("/erasures?size=1000")))
    await done(tmp_path, "restore saved plain")
    await done(tmp_path, "restore saved again --erasures list")
    async with serving(tmp_path / "again", accept_repeats=True) as service:
        consumers = (await service.get("/consumers"))["data"]

    assert [consumer["username"] for consumer in consumers] == ["bob"]
    assert files_with(tmp_path / "plain", "consumer-" + SECRET) != []
    assert files_with(tmp_path / "again", "consumer-" + SECRET) == []
    plain = await anyio.to_thread.run_sync(archived, tmp_path / "plain")
    again = await anyio.to_thread.run_sync(archived, tmp_path / "again")
    assert plain[at - 1] is not None
    assert again[at - 1] is None


def archived(directory: Path) -> list[bytes | None]:
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        (log_id,) = connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
    return [event.body for event in Archive(directory / "archive", log_id).events()]


async def test_only_a_whole_backup_is_restored(tmp_path: Path) -> None:
    """A missing manifest, a missing file, a flipped bit: refused, and nothing is left behind."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        await emit(service, 3)
        await done(tmp_path, "backup saved --data-dir data")
    harms: dict[str, Callable[[Path], None]] = {
        "manifest.json": Path.unlink,
        "keys.db": Path.unlink,
        "log.db": _flip,
        "audit.db": _flip,
    }
    for name, harm in harms.items():
        broken = tmp_path / f"broken {name}"
        completed = await shell(f"cp -r saved '{broken.name}'", tmp_path)
        harm(broken / name)
        completed = await hooktape(tmp_path, f"restore '{broken.name}' again")

        assert completed.code == 1, name
        assert completed.stderr.startswith("hooktape: ")
        assert sorted(path.name for path in tmp_path.iterdir() if "again" in path.name) == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither an older back-up nor a directory with anything in it."""
    async with serving(tmp_path / "data", allow_unpublished=True) as service:
        await emit(service, 1)
        await done(tmp_path, "backup saved --data-dir data")
        again = await hooktape(tmp_path, "backup saved --data-dir data")
    over = await hooktape(tmp_path, "restore saved data")
    (tmp_path / "empty").mkdir()
    empty = await hooktape(tmp_path, "restore saved empty")

    assert (again.code, over.code, empty.code) == (1, 1, 0)
    assert "is there already" in again.stderr
    assert "is not empty" in over.stderr


async def test_erasures_of_another_log_are_refused(tmp_path: Path) -> None:
    """Positions mean something in one log only, so nothing is erased by mistake."""
    for name in ("data", "other"):
        async with serving(tmp_path / name, allow_unpublished=True) as service:
            await emit(service, 3)
            await service.post("/erasures", {"event": "2", "reason": "x"})
            await done(tmp_path, f"backup saved-{name} --data-dir {name}")
    completed = await hooktape(tmp_path, "restore saved-data again --erasures other")

    assert completed.code == 1
    assert "is of log" in completed.stderr
    assert not (tmp_path / "again").exists()

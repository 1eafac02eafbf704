"""A disk without room, a real one: a file system of a few megabytes that only the service sees."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import httpx
import pytest

from tests.faults.evidence import integrity, read_stored
from tests.receiver import Receiver, answer
from tests.service import Service, serving, until

SIZE = 8 * 1024 * 1024
LARGE = 10_000
"""Bytes of an event that finds no room even where a small one would."""


def on_a_small_disk(disk: Path) -> Sequence[str]:
    """A command that runs another one with a file system of its own at `disk`."""
    script = f'mount -t tmpfs -o size={SIZE} tmpfs "$0" && exec "$@"'
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(disk))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the service has its small file system."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run([*on_a_small_disk(disk), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system lets nobody mount a file system: {error}")
    return disk


@pytest.fixture
async def service(disk: Path) -> AsyncIterator[Service]:
    async with serving(disk / "data", through=on_a_small_disk(disk)) as service:
        yield service


@pytest.fixture
def inside(service: Service, disk: Path) -> Path:
    """The small file system, seen from out here."""
    return Path(f"/proc/{service.process.pid}/root") / disk.relative_to("/")


def fill(path: Path) -> None:
    """Write to a file until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


async def add_hook(service: Service, receiver: Receiver) -> str:
    """A hook that sends the names of events; its id."""
    config = {"url": f"{receiver.url}/hook", "method": "POST", "body": "{{ name }}"}
    body = {"source": "balancer", "handler": "webhook-custom", "config": config}
    return str((await service.post("/event-hooks", body))["id"])


async def emit(service: Service, name: str, size: int = LARGE) -> httpx.Response:
    data = {"name": name, "padding": "x" * size}
    body = {"source": "balancer", "event": "health", "data": data, "id": name}
    return await service.client.post("/events", json=body)


async def emit_until_full(service: Service) -> tuple[list[str], httpx.Response]:
    """The names of the events that still found room, and what the first one without was told."""
    taken: list[str] = []
    for number in range(SIZE // LARGE):
        response = await emit(service, str(number))
        if response.status_code != 202:
            return taken, response
        taken.append(str(number))
    raise AssertionError("the disk is never full")


async def test_without_room_nothing_is_stored_and_the_rest_goes_on(
    service: Service, receiver: Receiver, inside: Path
) -> None:
    """507 for every write; reads are answered, and what was stored before is delivered."""
    release = anyio.Event()
    receiver.script("/hook", answer(200, until=release))
    await add_hook(service, receiver)
    waiting = [f"waits {number}" for number in range(40)]
    for name in waiting:
        (await emit(service, name, 0)).raise_for_status()
    fill(inside / "ballast")
    taken, refused = await emit_until_full(service)
    consumer = await service.client.post("/consumers", json={"username": "ada"})
    release.set()
    with anyio.fail_after(15):
        requests = await receiver.wait_for(len(waiting) + len(taken))
    feed = await service.feed()

    assert {refused.status_code, consumer.status_code} == {507}
    assert int(refused.headers["retry-after"]) > 0
    assert await service.get("/consumers") == {"data": [], "next": None}
    stored = [event["caller_id"] for event in feed if event["type"] == "event_emitted"]
    assert stored == [*waiting, *taken]
    assert {request.body.decode() for request in requests} == {*waiting, *taken}


async def test_with_room_again_everything_works_again(
    service: Service, receiver: Receiver, inside: Path, tmp_path: Path
) -> None:
    """The refused requests, sent again, are stored once and delivered; nothing was restarted."""
    hook = await add_hook(service, receiver)
    fill(inside / "ballast")
    taken, refused = await emit_until_full(service)
    (inside / "ballast").unlink()
    name = str(len(taken))
    again = await emit(service, name)
    created = await service.client.post("/consumers", json={"username": "ada"})

    async def delivered() -> bool:
        return await service.states(again.json()["positions"][0]) == {hook: "delivered"}

    await until(delivered)
    assert [refused.status_code, again.status_code, created.status_code] == [507, 202, 201]
    assert again.json()["repeated"] is False
    assert await service.get("/health/ready") == {"status": "ready"}
    shutil.copytree(inside / "data", tmp_path / "copy")
    assert await service.stop() == 0, service.output
    log = tmp_path / "copy" / "log.db"
    names = [event.name for event in read_stored(log) if event.name is not None]
    assert (names, integrity(log)) == ([*taken, name, "ada"], "ok")
    assert sorted(request.body.decode() for request in receiver.requests) == sorted([*taken, name])

"""A disk without room, a real one: a file system of a few megabytes that only the service sees."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import anyio
import httpx
import pytest

from tests.faults.campaign import integrity, read_stored
from tests.receiver import Receiver, answer
from tests.service import Service, serving, until

SIZE = 8 * 1024 * 1024
WAITING = 40
"""Events that are stored, and not delivered yet, when the disk is full."""


def on_a_small_disk(disk: Path) -> Sequence[str]:
    """A command that runs another one with a file system of its own at `disk`."""
    script = f'mount -t tmpfs -o size={SIZE} tmpfs "$0" && exec "$@"'
    return ("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(disk))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Where the small file system will be."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run([*on_a_small_disk(disk), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system lets nobody mount a file system: {error}")
    return disk


def fill(path: Path) -> None:
    """Write to a file until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


async def emit(service: Service, name: str, size: int = 0) -> httpx.Response:
    data = {"name": name, "padding": "x" * size}
    body = {"source": "balancer", "event": "health", "data": data, "id": name}
    return await service.client.post("/events", json=body)


async def emit_until_full(service: Service) -> tuple[list[str], httpx.Response]:
    """The names of the events that still found room, and what the first one without was told."""
    taken = []
    for number in range(1000):
        name = f"last {number}"
        response = await emit(service, name, 10_000)
        if response.status_code != 202:
            return taken, response
        taken.append(name)
    raise AssertionError("the disk is never full")


async def test_a_full_disk_stops_writes_until_there_is_room(
    receiver: Receiver, disk: Path
) -> None:
    """507 and nothing stored; reads and deliveries go on; room again, and it all works again."""
    release = anyio.Event()
    receiver.script("/hook", answer(200, until=release))
    data = disk / "data"
    async with serving(data, through=on_a_small_disk(disk)) as service:
        inside = Path(f"/proc/{service.process.pid}/root")
        ballast = inside / disk.relative_to("/") / "ballast"
        config = {"url": f"{receiver.url}/hook", "method": "POST", "body": "{{ name }}"}
        body = {"source": "balancer", "handler": "webhook-custom", "config": config}
        hook = (await service.post("/event-hooks", body))["id"]
        waiting = [f"waits {number}" for number in range(WAITING)]
        for name in waiting:
            (await emit(service, name)).raise_for_status()
        fill(ballast)
        taken, refused = await emit_until_full(service)
        consumer = await service.client.post("/consumers", json={"username": "ada"})
        release.set()
        with anyio.fail_after(15):
            await receiver.wait_for(len(waiting) + len(taken))
        feed = await service.feed()

        assert {refused.status_code, consumer.status_code} == {507}
        assert int(refused.headers["retry-after"]) > 0
        assert await service.get("/consumers") == {"data": [], "next": None}
        assert [event["caller_id"] for event in feed if event["type"] == "event_emitted"] == [
            *waiting,
            *taken,
        ]

        ballast.unlink()
        again = await emit(service, f"last {len(taken)}", 10_000)
        created = await service.client.post("/consumers", json={"username": "ada"})
        with anyio.fail_after(15):
            await receiver.wait_for(len(waiting) + len(taken) + 1)

        async def settled() -> bool:
            return await service.states(again.json()["positions"][0]) == {hook: "delivered"}

        await until(settled)
        assert (again.status_code, again.json()["repeated"]) == (202, False)
        assert created.status_code == 201
        assert await service.get("/health/ready") == {"status": "ready"}
        names = [event.name for event in read_stored(inside / data.relative_to("/") / "log.db")]
        assert [name for name in names if name] == [
            *waiting,
            *taken,
            f"last {len(taken)}",
            "ada",
        ]
        assert integrity(inside / data.relative_to("/") / "log.db") == "ok"
        assert await service.stop() == 0, service.output
    bodies = [request.body.decode() for request in receiver.requests]
    assert sorted(bodies) == sorted([*waiting, *taken, f"last {len(taken)}"])

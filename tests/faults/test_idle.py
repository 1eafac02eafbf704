"""A service with nothing to do writes nothing."""

from pathlib import Path

import anyio
import pytest

from tests.receiver import Receiver
from tests.service import Service, serving, until

LONGER_THAN_ANY_TIMER = 11.0
"""Seconds. Receipts are written every ten, everything else more often."""


def written(pid: int) -> int:
    """Bytes that a process has caused to be written to a disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    fields = dict(line.split(": ") for line in lines)
    return int(fields["write_bytes"])


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change, by file."""
    found = {path.name: path.stat() for path in directory.iterdir()}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


async def has_delivered(service: Service) -> bool:
    delivery = (await service.get("/status"))["delivery"]
    return not (delivery["behind"] or delivery["open"] or delivery["in_flight"])


async def ask_for_its_health(service: Service, seconds: float) -> int:
    """Ask again and again for that long; how often it was."""
    requests, end = 0, anyio.current_time() + seconds

    async def ask() -> bool:
        nonlocal requests
        requests += 1
        assert await service.get("/health/ready") == {"status": "ready"}
        return anyio.current_time() > end

    await until(ask, within=seconds + 30)
    return requests


async def test_an_idle_service_writes_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """Not a byte, with hooks that wait and a past behind it, however often its health is asked."""
    if not Path("/proc/self/io").exists():
        pytest.skip("this system does not say what a process writes")
    data = tmp_path / "data"
    async with serving(data) as service:
        for handler, config in (
            ("webhook", {"url": f"{receiver.url}/hook"}),
            ("log", {}),
            ("lambda", {"functions": ["return function () return true end"]}),
        ):
            body = {"source": "balancer", "handler": handler, "config": config}
            await service.post("/event-hooks", body)
        for n in range(20):
            await service.emit("balancer", "health", {"n": n})
        await until(lambda: has_delivered(service))
        assert await service.stop() == 0, service.output

    async with serving(data) as service:
        await service.post("/consumers", {"username": "matches no hook"})
        await ask_for_its_health(service, 1)  # what was folded is on disk by then
        before = files(data), written(service.process.pid)
        requests = await ask_for_its_health(service, LONGER_THAN_ANY_TIMER)

        assert (files(data), written(service.process.pid)) == before
        assert requests > 100

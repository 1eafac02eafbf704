"""SIGTERM with everything open at once: exit 0, on time, and nothing that was taken is lost."""

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import SocketStream

from tests.receiver import Receiver, answer, hang
from tests.service import Service, serving, until

DRAIN = 1.0
MARGIN = 6.0
"""Seconds beyond `drain_timeout`: two for requests half sent, the rest for a busy machine."""

ENDLESS = "return function () while true do end end"


async def connect(service: Service) -> SocketStream:
    address = urlsplit(service.url)
    return await anyio.connect_tcp(str(address.hostname), int(address.port or 0))


async def hook(service: Service, handler: str, **config: object) -> str:
    """A hook on the balancer's events; its id."""
    body = {"source": "balancer", "event": "health", "handler": handler, "config": config}
    return str((await service.post("/event-hooks", body))["id"])


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that still run."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not say which processes a process has started")
    return [int(child) for child in listed.read_text().split()]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_nothing_that_is_open_keeps_the_service_from_stopping(
    receiver: Receiver, tmp_path: Path
) -> None:
    """An idle connection, a half-sent body, a receiver that hangs and a Lua function that loops."""
    receiver.script("/hook", hang)
    data = tmp_path / "data"
    async with serving(
        data, drain_timeout=DRAIN, lambda_timeout=60, lambda_cpu=60, delivery_timeout=60
    ) as service:
        await hook(service, "webhook-custom", method="POST", url=f"{receiver.url}/hook")
        await hook(service, "lambda", functions=[ENDLESS])
        idle, half = await connect(service), await connect(service)
        await idle.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await idle.receive()
        await half.send(b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
        await service.emit("balancer", "health", {"n": 1})
        with anyio.fail_after(10):
            await receiver.wait_for(1, "/hook")
        workers = await until(lambda: children(service.process.pid))

        with anyio.fail_after(DRAIN + MARGIN):
            code = await service.stop()

        assert code == 0, service.output
        assert [worker for worker in workers if running(worker)] == []
        await idle.aclose()
        await half.aclose()

    receiver.script("/hook", answer(200))
    async with serving(data, drain_timeout=DRAIN):
        with anyio.fail_after(10):
            first, again = await receiver.wait_for(2, "/hook")

    assert first.header("webhook-id") == again.header("webhook-id")


async def test_deliveries_under_way_are_finished_and_not_repeated(
    receiver: Receiver, tmp_path: Path
) -> None:
    """A receiver that answers within `drain_timeout` is not asked again after the restart."""
    release = anyio.Event()
    receiver.script("/hook", answer(200, until=release))
    async with serving(tmp_path / "data", drain_timeout=60) as service:
        await hook(service, "webhook-custom", method="POST", url=f"{receiver.url}/hook")
        position = await service.emit("balancer", "health", {"n": 1})
        with anyio.fail_after(10):
            await receiver.wait_for(1, "/hook")
        service.signal(signal.SIGTERM)
        await until(lambda: service.records("stopping"))
        release.set()

        assert await service.ended() == 0, service.output

    async with serving(tmp_path / "data") as service:
        assert set((await service.states(position)).values()) == {"delivered"}
        last = await service.emit("balancer", "health", {"n": 2})
        with anyio.fail_after(10):
            requests = await receiver.wait_for(2, "/hook")

    assert last > position
    assert [request.body for request in requests] == [b"", b""]
    assert len({request.header("webhook-id") for request in requests}) == 2


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_service_at_once(
    receiver: Receiver, tmp_path: Path, second: signal.Signals
) -> None:
    """Whoever does not want to wait for the drain gets a failure, and loses nothing."""
    receiver.script("/hook", hang, answer(200))
    async with serving(tmp_path / "data", drain_timeout=3600) as service:
        await hook(service, "webhook-custom", method="POST", url=f"{receiver.url}/hook")
        await service.emit("balancer", "health", {"n": 1})
        with anyio.fail_after(10):
            await receiver.wait_for(1, "/hook")
        service.signal(signal.SIGTERM)
        await until(lambda: service.records("stopping"))
        service.signal(second)

        assert await service.ended(within=MARGIN) != 0

    async with serving(tmp_path / "data"):
        with anyio.fail_after(10):
            await receiver.wait_for(2, "/hook")


async def test_what_a_killed_service_had_started_ends_too(
    service: Service, receiver: Receiver
) -> None:
    """The Lua workers do not outlive the service, whatever ended it."""
    await hook(service, "lambda", functions=["return function () return true end"])
    await service.emit("balancer", "health", {})
    workers = await until(lambda: children(service.process.pid))

    await service.kill()

    await until(lambda: not any(running(worker) for worker in workers))


async def test_a_data_directory_has_one_service(service: Service, tmp_path: Path) -> None:
    """A second service on the same directory says so and ends; the first one never notices."""
    with pytest.raises(AssertionError, match=r"ended with 69") as refused:
        async with serving(service.directory):
            pass

    assert "in use by process" in str(refused.value)
    assert await service.get("/health/ready") == {"status": "ready"}

"""The composition root: settings reach their parts, and a failed start is one clear line."""

from pathlib import Path

import anyio
import pytest

from api.main import serve
from api.settings import Settings
from tests.receiver import Receiver
from tests.service import COMMAND, environment, serving

HOOK = {"source": "balancer", "event": "health", "handler": "webhook"}
DATA = {"upstream_id": "u", "ip": "10.0.0.5", "port": 8080, "hostname": "backend", "health": "bad"}


@pytest.mark.parametrize("default", [True, False])
async def test_the_default_of_ssl_verify_is_a_setting(tmp_path: Path, *, default: bool) -> None:
    """A hook that does not say takes the server's default; one that says keeps its word."""
    async with serving(tmp_path / "data", ssl_verify_default=str(default).lower()) as service:
        config = {"url": "https://127.0.0.1:9/"}
        silent = await service.post("/event-hooks", HOOK | {"config": config})
        explicit = await service.post(
            "/event-hooks", HOOK | {"config": config | {"ssl_verify": not default}}
        )

    assert silent["config"]["ssl_verify"] is default
    assert explicit["config"]["ssl_verify"] is not default


async def test_hooks_can_be_switched_off(tmp_path: Path) -> None:
    """With event_hooks_enabled off events are stored, and delivered once it is on again."""
    async with Receiver() as receiver:
        async with serving(tmp_path / "data", event_hooks_enabled="off") as service:
            await service.post("/event-hooks", HOOK | {"config": {"url": receiver.url}})
            position = await service.emit("balancer", "health", DATA)
            ready = await service.client.get("/health/ready")
            await service.stop()
        silent = len(receiver.requests)
        async with serving(tmp_path / "data") as service:
            ping, event = await receiver.wait_for(2)

    assert (position, ready.status_code, silent) == (2, 200, 0)
    assert b'"ping"' in ping.body
    assert b'"backend"' in event.body


async def test_unpublished_events_can_be_allowed(tmp_path: Path) -> None:
    """allow_unpublished takes events that nobody described."""
    async with serving(tmp_path / "data", allow_unpublished="on") as service:
        position = await service.emit("any", "thing", {})

    assert position == 1


async def refused(directory: Path, listen: str = "127.0.0.1:0") -> tuple[int, str]:
    """Start a service that cannot: its exit code and what it said."""
    command = [*COMMAND, "serve", "--listen", listen, "--data-dir", str(directory)]
    with anyio.fail_after(30):
        done = await anyio.run_process(
            command, check=False, cwd=directory.parent, env=environment()
        )
    return done.returncode, done.stderr.decode()


async def test_a_second_instance_is_refused(tmp_path: Path) -> None:
    """Two services never write one log: the second says so in one line and exits with 69."""
    async with serving(tmp_path / "data"):
        code, said = await refused(tmp_path / "data")

    assert code == 69
    assert said.count("\n") == 1


def test_a_policy_that_cannot_be_read_is_a_setting_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong egress_allow ends the start with 78 before anything is opened."""
    code = serve(Settings(egress_allow=("@nowhere",)))

    assert code == 78
    assert "@nowhere" in capsys.readouterr().err


async def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """An address that cannot be bound ends the start with 69, and no traceback."""
    async with serving(tmp_path / "one") as service:
        code, said = await refused(tmp_path / "two", service.url.removeprefix("http://"))

    assert code == 69
    assert said.count("\n") == 1


async def test_a_state_of_another_log_is_refused(tmp_path: Path) -> None:
    """state.db beside a log it does not belong to would skip events silently: exit 69."""
    for name in ("one", "two"):
        async with serving(tmp_path / name) as service:
            await service.post("/event-hooks", HOOK | {"handler": "log"})
            await service.stop()
    (tmp_path / "two" / "state.db").write_bytes((tmp_path / "one" / "state.db").read_bytes())
    code, said = await refused(tmp_path / "two")

    assert code == 69
    assert "state.db" in said

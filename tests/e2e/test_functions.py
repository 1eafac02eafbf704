"""Functions and templates with logic, in the service as its users run it."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tests.receiver import Receiver
from tests.service import Service, serving, until

EMITTING = """return function (data)
  hook.emit("seen", { n = data.n })
  return true
end"""
REQUESTING = """return function (data)
  hook.request { url = data.url, method = "PUT", headers = { ["x-n"] = tostring(data.n) } }
  return true
end"""
HANGING = "return function () local a = ('a'):rep(40) a:find(('a?'):rep(40) .. a) end"


async def function(service: Service, source: str, *, prefix: str = "", event: str = "e") -> str:
    """Create a lambda hook on s/e, or on another event of s; its id."""
    hook = {"source": "s", "event": event, "handler": "lambda", "config": {"functions": [source]}}
    created: dict[str, Any] = await service.post(f"{prefix}/event-hooks", hook)
    return str(created["id"])


async def emissions(service: Service) -> list[Any]:
    """The data of everything that functions emitted."""
    return [event["data"] for event in await service.feed() if event.get("source") == "lambda"]


async def test_each_effect_happens_once_however_often_the_service_is_killed(
    tmp_path: Path,
) -> None:
    """A function that ran before a crash runs again after it, and its emission is stored once."""
    data, total = tmp_path / "data", 400
    async with serving(data, allow_unpublished="on") as service:
        await function(service, EMITTING)
    sent = 0
    for kill in range(5):
        async with serving(data, allow_unpublished="on") as service:
            while sent < (kill + 1) * total // 5:
                batch = [
                    {"source": "s", "event": "e", "data": {"n": n}} for n in range(sent, sent + 20)
                ]
                await service.post("/events", batch)
                sent += 20
            await until(partial(_some, service, kill * 60))
            await service.kill()
    async with serving(data) as service:
        await until(lambda: _some(service, total))
        found = sorted(data["n"] for data in await emissions(service))

    assert found == list(range(total))


async def _some(service: Service, count: int) -> bool:
    return len(await emissions(service)) >= count


async def test_a_request_of_a_function_is_made(tmp_path: Path) -> None:
    """Where the setting allows it; it is answered for like any delivery."""
    async with (
        Receiver() as receiver,
        serving(tmp_path / "data", allow_unpublished="on", untrusted_lua="lax") as service,
    ):
        await function(service, REQUESTING)
        await service.emit("s", "e", {"n": 7, "url": f"{receiver.url}/made"})
        with anyio.fail_after(15):
            [request] = await receiver.wait_for(1, "/made")

        assert (request.method, request.header("x-n")) == ("PUT", "7")


async def test_requests_have_to_be_allowed(tmp_path: Path) -> None:
    """By default the function is told so by an error, and nothing is sent."""
    async with serving(tmp_path / "data") as service:
        hook = await function(service, REQUESTING)
        answer = await service.client.post(
            f"/event-hooks/{hook}/test", json={"n": 1, "url": "http://localhost:1/"}
        )

    assert answer.status_code == 502
    assert "untrusted_lua" in answer.json()["message"]


async def test_the_service_itself_never_runs_users_code(tmp_path: Path) -> None:
    """Neither Lua nor Jinja is even loaded in its process; both are in processes below it."""
    async with serving(tmp_path / "data", allow_unpublished="on") as service:
        hook = await function(service, EMITTING)
        await service.post(f"/event-hooks/{hook}/test?dry_run=true", {"n": 1})
        config = {"url": "http://localhost:1/", "method": "POST", "body": "{{ n + 1 }}"}
        for engine in ("resty", "jinja2"):
            custom = {
                "source": "s",
                "handler": "webhook-custom",
                "config": config | {"template_engine": engine},
            }
            made = await service.post("/event-hooks", custom)
            shown = await service.post(f"/event-hooks/{made['id']}/test?dry_run=true", {"n": 1})
            assert shown["request"]["body"] == "2"
        pid = service.process.pid
        tasks = Path(f"/proc/{pid}/task").iterdir()
        workers = [pid for task in tasks for pid in (task / "children").read_text().split()]
        maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in [str(pid), *workers]}

    assert "lupa" not in maps.pop(str(pid))
    assert any("lupa" in text for text in maps.values())


async def test_a_hook_that_hangs_is_suspended_and_harms_nobody(tmp_path: Path) -> None:
    """Its worker is killed each time; the other hook gets all events meanwhile."""
    async with serving(
        tmp_path / "data",
        allow_unpublished="on",
        lambda_timeout=0.3,
        retry_schedule=",".join(["0.01"] * 8),
    ) as service:
        hanging = await function(service, HANGING)
        await function(service, EMITTING)
        for n in range(3):
            await service.emit("s", "e", {"n": n})
        await until(lambda: _some(service, 3))
        state = await until(lambda: _suspended(service, hanging))
        status = await service.get("/status")

    assert "had to be killed 5 times in a row" in state
    assert status["jail"]["killed"] >= 5


async def _suspended(service: Service, hook: str) -> str | None:
    facts = (await service.get(f"/event-hooks/{hook}/deliveries"))["data"]
    return next((f["reason"] for f in facts if f["type"] == "hook_suspended"), None)


async def test_workspaces_share_no_state(tmp_path: Path) -> None:
    """What one tenant's function leaves behind, another tenant's function never finds."""
    poison = """return function ()
      if string.poisoned or counter then return false end
      counter = 1
      return true
    end"""
    async with serving(tmp_path / "data", lambda_workers=1) as service:
        for name in ("blue", "red"):
            await service.post("/workspaces", {"name": name})
            for _ in range(2):
                hook = await function(service, poison, prefix=f"/{name}")
                shown = await service.post(f"/{name}/event-hooks/{hook}/test", {})

                assert shown["result"] is True


@pytest.mark.parametrize("setting", ["off", "strict"])
async def test_lua_can_be_turned_off(tmp_path: Path, setting: str) -> None:
    """Then no function is created, in Kong's words; `strict` is what `sandbox` is."""
    async with serving(tmp_path / "data", untrusted_lua=setting) as service:
        hook = {"source": "s", "handler": "lambda", "config": {"functions": [EMITTING]}}
        answer = await service.client.post("/event-hooks", json=hook)
        engine = await until(partial(_engine, service))

    assert engine.startswith("Jinja" if setting == "off" else "Lua")
    assert answer.status_code == (400 if setting == "off" else 201)
    if setting == "off":
        assert "'untrusted_lua' config option is set to 'off'" in answer.json()["message"]


async def _engine(service: Service) -> str | None:
    """What the first worker runs, once there is one."""
    engine: str | None = (await service.get("/status"))["jail"]["engine"]
    return engine


async def test_the_operators_modules(tmp_path: Path) -> None:
    """Files of a directory can be required when they are named; a wrong name is a warning."""
    (tmp_path / "prices.lua").write_text("return { of = function(x) return x * 2 end }")
    source = "return function(data) return require('prices').of(data.n) == 4 end"
    async with serving(
        tmp_path / "data",
        lua_modules_dir=str(tmp_path),
        untrusted_lua_sandbox_requires="prices,absent",
    ) as service:
        hook = await function(service, source)
        shown = await service.post(f"/event-hooks/{hook}/test", {"n": 2})
        warnings = [record["message"] for record in service.records("absent")]

    assert shown["result"] is True
    assert warnings == ["untrusted_lua_sandbox_requires: there is no module 'absent'"]


async def test_a_directory_that_is_not_there_is_a_clear_line(tmp_path: Path) -> None:
    """The service does not start."""
    with pytest.raises(AssertionError, match=r"lua_modules_dir: .*nowhere"):
        async with serving(tmp_path / "data", lua_modules_dir=str(tmp_path / "nowhere")):
            pass


async def test_the_system_and_its_jail_are_told(tmp_path: Path) -> None:
    """At the start in the log, and in the status whenever asked."""
    async with serving(tmp_path / "data") as service:
        [record] = await until(lambda: service.records("users' code"))
        status = await service.get("/status")

    assert msgspec.json.encode(status["jail"]["barriers"]).decode() in (
        '["rlimits","namespaces","seccomp"]',
        '["rlimits","seccomp"]',
        '["rlimits"]',
    )
    assert record["level"] in ("info", "warn")

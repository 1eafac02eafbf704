"""`hooktape doctor`, as somebody calls it at three in the morning."""

import json
from pathlib import Path

from tests.service import HOOKTAPE, Completed, Service, serving, shell

DOCTOR = f"{HOOKTAPE} doctor"


async def doctor(directory: Path, arguments: str = "", **variables: str) -> Completed:
    return await shell(f"{DOCTOR} {arguments}", directory, variables)


async def test_a_sound_installation_passes(service: Service, tmp_path: Path) -> None:
    """Beside the running service: one line for each check, none of them a failure."""
    await service.post("/consumers", {"username": "ada"})
    done = await doctor(tmp_path, "--data-dir data")
    lines = done.stdout.splitlines()

    assert done.code == 0, done.stdout
    assert all(line.startswith(("ok ", "WARN ")) for line in lines)
    checks = [line.split("  ")[-1].partition(":")[0].strip() for line in lines]
    assert {"settings", "service", "sqlite", "clock", "disk", "log", "jail"} <= set(checks)
    assert any("runs" in line for line in lines if " service:" in line)


async def test_what_is_wrong_is_said_and_fails(tmp_path: Path) -> None:
    """Settings, address policy and files, in one go; as JSON for machines."""
    async with serving(tmp_path / "data") as service:
        await service.stop()
    (tmp_path / "data" / "keys.db").unlink()
    done = await doctor(
        tmp_path, "--json --data-dir data", HOOKTAPE_BODY_LIMIT="many", HOOKTAPE_LOG_LEVEL="loud"
    )
    policy = await doctor(tmp_path, "--data-dir data", HOOKTAPE_EGRESS_ALLOW="@moon")
    failed = {f["check"]: f["text"] for f in json.loads(done.stdout) if f["state"] == "failure"}

    assert (done.code, policy.code) == (1, 1)
    assert set(failed) == {"settings", "log and keys"}
    assert "FAIL  address policy: egress_allow: @moon" in policy.stdout


async def test_it_changes_nothing(tmp_path: Path) -> None:
    """Not even where nothing is yet."""
    done = await doctor(tmp_path)

    assert done.code == 0, done.stdout
    assert list(tmp_path.iterdir()) == []

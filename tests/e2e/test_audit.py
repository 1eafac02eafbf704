"""An auditor's visit: exports and proofs of a service that runs, is killed, and is stopped."""

import json
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from tests.eventstore.audited import log_with_everything
from tests.service import (
    COMMAND,
    HOOKTAPE,
    ROOT,
    Completed,
    Service,
    environment,
    serving,
    shell,
    until,
)

SECRET = "s3cret-of-the-hook"
CONSUMER = {"username": "ada"}
VERIFIER = shlex.join([sys.executable, "-I", str(ROOT / "scripts" / "audit_verify.py")])
SCRIPT = shlex.join([sys.executable, str(ROOT / "scripts" / "audit_export.py")])


async def audit(directory: Path, command: str) -> Completed:
    return await shell(f"{HOOKTAPE} audit {command} --data-dir data", directory)


async def some_history(service: Service, receiver: str) -> tuple[str, int]:
    """A hook with a secret, a consumer it is told of; the hook's id, the consumer's position."""
    config = {"url": receiver, "secret": SECRET}
    hook = await service.post(
        "/event-hooks",
        {"source": "crud", "event": "consumers", "handler": "webhook", "config": config},
    )
    await service.post("/consumers", CONSUMER)
    created = [each for each in await service.feed() if each.get("table") == "consumers"]
    return str(hook["id"]), created[0]["position"]


async def test_an_auditor_needs_neither_trust_nor_a_stop(tmp_path: Path) -> None:
    """Export, check, prove; kill; export again: the second proves that the first still holds."""
    async with serving(tmp_path / "data") as service:
        hook, position = await some_history(service, "http://127.0.0.1:9/")
        await until(lambda: failed(service, position))
        key = (await audit(tmp_path, "key")).stdout.strip()
        first = await audit(tmp_path, "export first")
        (tmp_path / "kept").write_text(first.stdout)
        proof = await audit(tmp_path, f"prove {position} --hook {hook} --output proof")
        report = await audit(tmp_path, "report --json --entity consumers")
        live = await audit(tmp_path, "verify")
        await service.kill()
    async with serving(tmp_path / "data") as service:
        await service.post("/consumers", {"username": "bob"})
        assert await service.stop() == 0
    second = await shell(f"{SCRIPT} second --data-dir data", tmp_path)
    checks = [
        await shell(f"{VERIFIER} {each} --key {key}", tmp_path)
        for each in ("first", "proof", "second", "second --since kept")
    ]

    assert [first.code, proof.code, report.code, live.code, second.code] == [0] * 5, proof.stderr
    assert [check.code for check in checks] == [0] * 4, checks
    assert live.stdout.startswith("OK: positions 1 to ")
    assert checks[3].stdout.endswith(f"given checkpoint of {first.stdout.splitlines()[1]}\n")
    (change,) = [json.loads(line) for line in report.stdout.splitlines()]
    assert change["fields"]["username"] == [None, "ada"]
    written = b"".join(
        path.read_bytes() for name in ("first", "second") for path in (tmp_path / name).iterdir()
    )
    assert SECRET.encode() not in written + (tmp_path / "proof").read_bytes()


async def failed(service: Service, position: int) -> bool:
    """Whether the log says that the event's delivery failed, and that is signed."""
    signed = (await service.get("/status"))["audit"]["size"]
    facts = [each for each in await service.feed() if each["type"] == "delivery_failed"]
    return any(each["fact"]["seq"] == position and each["position"] <= signed for each in facts)


async def test_a_killed_export_leaves_none(tmp_path: Path) -> None:
    """What is there has another name and does not verify; the next export is whole."""
    await anyio.to_thread.run_sync(log_with_everything, tmp_path / "data", 20_000)
    key = (await audit(tmp_path, "key")).stdout.strip()
    command = [*COMMAND, "audit", "export", "export", "--data-dir", "data"]
    async with await anyio.open_process(command, cwd=tmp_path, env=environment()) as process:
        (draft,) = await until(lambda: list(tmp_path.glob(".export-*/events.jsonl.gz")))
        process.kill()
    checked = await shell(f"{VERIFIER} {shlex.quote(str(draft.parent))} --key {key}", tmp_path)
    after = sorted(path.name for path in tmp_path.iterdir())
    again = await audit(tmp_path, "export export")
    whole = await shell(f"{VERIFIER} export --key {key}", tmp_path)

    assert checked.code == 3
    assert after == sorted([draft.parent.name, "data"])
    assert (again.code, whole.code) == (0, 0)


async def test_a_service_tells_how_far_it_is_checked(tmp_path: Path) -> None:
    """In /status and in the metrics, and a damaged event by its position after a restart."""
    async with serving(tmp_path / "data") as service:
        await service.post("/consumers", CONSUMER)
        await until(lambda: checked(service, 1))
        metrics = (await service.client.get("/metrics")).text
        assert await service.stop() == 0
    for path in (tmp_path / "data").glob("audit.db*"):
        path.unlink()
    damage(tmp_path / "data")
    async with serving(tmp_path / "data") as service:
        problem = await until(lambda: told(service))
        ready = await service.client.get("/health/ready")

    assert "hooktape_audit_intact 1.0" in metrics
    assert problem == "position 1: the leaf is not the hash of the event"
    assert ready.status_code == 200


async def checked(service: Service, size: int) -> bool:
    return bool((await service.get("/status"))["audit"]["size"] == size)


async def told(service: Service) -> str | None:
    found = (await service.get("/status"))["audit"]["problem"]
    return msgspec.convert(found, str | None)


def damage(directory: Path) -> None:

    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute("DROP TRIGGER event_only_erase")
        connection.execute("UPDATE event SET request_id = 'another' WHERE seq = 1")

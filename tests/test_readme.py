"""The README is true: its commands run, its answers come, its lists are complete."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from api.settings import FIELDS
from tests.service import COMMAND, HOOKTAPE, ROOT, Service, environment, serving, until

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ELSEWHERE = {"scripts/run serve", "scripts/run test"}
"""Commands that tests/test_setup.py runs in a fresh copy."""

LONG = {"scripts/run bench"}
"""Commands that take minutes: they are looked for, not run."""

TOKEN = "a-token-for-the-tests"

# What differs from run to run. Positions, states and names stay and are compared, but for positions
# after deliveries, whose facts come when they come.
CHANGING = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<uuid>",
    r"\b1\d{9}\b": "<seconds>",
    r'\[\d+\](?=,"ids":\["A1"|,"repeated":false\}$)': "[<position>]",
    r'"duration_ms":[\d.]+': '"duration_ms":<ms>',
    r"localhost:\d+|127\.0\.0\.1:\d+": "<host>",
}


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    return ((m[1], m[2]) for m in BLOCK.finditer(README) if m[1] in languages)


def same(text: str) -> str:
    """`text` without what changes, and without a JSON object's order."""
    for pattern, name in CHANGING.items():
        text = re.sub(pattern, name, text)
    return text.strip()


async def run(line: str, service: Service, receiver: str, *, shell: str = "sh") -> str:
    """What a command of the README prints, with the addresses of this test."""
    line = line.replace("http://localhost:8001", service.url).replace(
        "http://localhost:9000", receiver
    )
    line = line.replace("scripts/run ", HOOKTAPE + " ")
    line = line.replace("scripts/audit_verify.py", shlex.quote(f"{ROOT}/scripts/audit_verify.py"))
    done = await anyio.run_process(
        [shell, "-c", line],
        cwd=service.directory.parent,
        env=environment(HOOKTAPE_URL=service.url),
        check=False,
        stderr=subprocess.PIPE,
    )

    assert done.returncode == 0, (line, done.stderr.decode())
    return done.stdout.decode()


async def test_the_tour_works_as_it_is_written(tmp_path: Path) -> None:
    """Every command of the tour runs, in order, and prints what the README shows."""
    listen = [*COMMAND, "listen", "--port", "0", "--secret", "s3cret"]
    async with serving(tmp_path / "data") as service:
        with (tmp_path / "arrived.jsonl").open("wb") as arrived:
            listener = await anyio.open_process(
                listen, stdout=arrived, env=environment(), cwd=tmp_path
            )
        async with listener:
            lines = tmp_path / "arrived.jsonl"
            try:
                await until(lambda: lines.stat().st_size)
                receiver = str(msgspec.json.decode(lines.read_bytes())["listening"]).rstrip("/")
                await follow_the_tour(service, receiver)
                await until(lambda: lines.read_text().count("\n") >= 1 + 4)
            finally:
                listener.terminate()
        seen = [msgspec.json.decode(line) for line in lines.read_bytes().splitlines()[1:]]

    at_root = [each for each in seen if each["path"] == "/"]
    messages = [each["body"] for each in seen if each["path"] == "/slack"]
    assert [msgspec.json.decode(each["body"])["event"] for each in at_root] == ["ping", "consumers"]
    assert {each["kong_signature"] for each in at_root} == {"valid"}
    assert {each["standard_webhooks"] for each in at_root} == {"valid"}
    assert sorted(messages) == [
        '{"text":"Order 18 was paid: 99.00"}',
        '{"text":"Order 19 was paid: 5.00"}',
    ]


async def test_accounts_work_as_they_are_written(tmp_path: Path) -> None:
    """The commands for a service that enforces RBAC run, and the new user sees their hooks."""
    data = tmp_path / "data"
    async with serving(data, enforce_rbac="on", admin_token=TOKEN) as service:
        [(_, text)] = blocks("bash")
        printed = await run(f"TOKEN={TOKEN}\n{text}", service, "")

    assert printed.endswith('{"data":[],"next":null}')
    assert '"message"' not in printed


async def follow_the_tour(service: Service, receiver: str) -> None:
    printed = ""
    for language, text in blocks("sh", "json", "python"):
        command = text.strip()
        if command in ELSEWHERE | LONG or command.startswith("scripts/run listen"):
            continue
        if language == "json":
            assert same(printed) == same(text)
        elif language == "sh":
            if "/events/" in command:
                await until(lambda: delivered(service))
            printed = await run(command, service, receiver)
        else:
            script = text.replace("http://localhost:8001", service.url)
            await anyio.run_process([sys.executable, "-c", script], env=environment())


async def delivered(service: Service) -> bool:
    return set((await service.states(2)).values()) == {"delivered"}


def test_every_setting_is_in_the_table() -> None:
    """The table of settings has a row for each setting, with its default."""
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", README, re.MULTILINE)
    defaults = {name: msgspec.json.encode(field.default) for name, field in FIELDS.items()}

    assert {name: default.encode() for name, default in rows} == defaults


@pytest.mark.parametrize("command", sorted(LONG | ELSEWHERE))
def test_commands_that_run_elsewhere_exist(command: str) -> None:
    """What this file does not run is at least a word that scripts/run knows."""
    word = command.removeprefix("scripts/run ")

    assert command in README
    assert re.search(rf"\b{word}\b", (ROOT / "scripts" / "run").read_text())

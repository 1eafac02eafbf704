"""The service as its users have it: a process of its own, spoken to over HTTP or through a shell.

    async with serving(tmp_path / "data", drain_timeout=1) as service:
        hook = await service.post("/event-hooks", {...})
        await until(lambda: service.logged("webhook was sent"))

Nothing here leaves loopback, and no setting of the machine reaches the process.
"""

import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

import anyio
import httpx
import msgspec
from anyio.abc import Process

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "api.cli")
"""`hooktape`, also where it is not installed."""

HOOKTAPE = shlex.join(COMMAND)
"""The same for a shell, whatever the paths of this machine have in them."""

T = TypeVar("T")

_LISTENING = re.compile(r"listening on (http://[^,\s]+)")
_TICK = 0.01


def environment(**more: str) -> dict[str, str]:
    """What a process gets to see: no proxies, no settings, no curlrc of whoever runs the tests."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **more}


@overload
async def until(probe: Callable[[], Awaitable[T | None]], *, within: float = ...) -> T: ...
@overload
async def until(probe: Callable[[], T | None], *, within: float = ...) -> T: ...
async def until(probe: Callable[[], Any], *, within: float = 15.0) -> Any:
    """What `probe` answers, asked again and again until it is something. `within` is in seconds.

    The only place in these tests that waits by the clock: what another process does sets no event.
    """
    with anyio.move_on_after(within):
        while True:
            answer = probe()
            found = await answer if inspect.isawaitable(answer) else answer
            if found:
                return found
            await anyio.sleep(_TICK)
    raise AssertionError(f"it did not happen within {within:g} s")


class Service:
    """A running service. Its log is complete up to the last line written."""

    def __init__(self, process: Process, url: str, directory: Path, log: Path, start: int) -> None:
        self.process = process
        self.url = url
        self.directory = directory
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=30)
        self._log = log
        self._start = start

    @property
    def output(self) -> str:
        """What the process has written to its standard error so far, or since `forget`."""
        return _read(self._log, self._start)

    def forget(self) -> None:
        """Leave out of `output` what has been written until now."""
        self._start = self._log.stat().st_size

    def records(self, text: str = "") -> list[dict[str, Any]]:
        """The records of a JSON log whose message contains `text`."""
        lines = self.output.split("\n")[:-1]
        records = [msgspec.json.decode(line) for line in lines if line.startswith("{")]
        return [record for record in records if text in record["message"]]

    async def get(self, path: str) -> Any:
        """The JSON at `path`. Raises httpx.HTTPStatusError unless it is a success."""
        return (await self.client.get(path)).raise_for_status().json()

    async def post(self, path: str, content: object = None) -> Any:
        """The JSON answered to `content`, sent as JSON. Raises httpx.HTTPStatusError."""
        return (await self.client.post(path, json=content)).raise_for_status().json()

    async def emit(self, source: str, event: str, data: object, id_: str | None = None) -> int:
        """Report a fact; its position."""
        body = {"source": source, "event": event, "data": data, "id": id_}
        answer = await self.post("/events", body)
        return int(answer["positions"][0])

    async def feed(self) -> list[dict[str, Any]]:
        """All events of the log, as the Admin API shows them."""
        events: list[dict[str, Any]] = []
        following: str | None = "/events?after=0&size=1000"
        while following is not None:
            page = await self.get(following)
            events += page["data"]
            following = page["next"]
        return events

    async def states(self, position: int) -> dict[str, str]:
        """What became of the event at `position`, by hook."""
        found = (await self.get(f"/events/{position}/deliveries"))["data"]
        return {entry["hook"]: entry["state"] for entry in found}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """SIGKILL. The process is gone when this returns."""
        self.process.kill()
        await self.ended()

    async def ended(self, within: float = 30.0) -> int:
        """The exit code, once there is one."""
        with anyio.fail_after(within):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    directory: Path,
    *,
    log_format: str = "json",
    through: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Service]:
    """A service on a free port with its data in `directory`; killed at the end if it still runs.

    `through` is a program with its arguments that runs the service, e.g. a tracer. `settings` are
    those of the service, a list separated by commas. The log is beside the directory.
    """
    log = directory.with_suffix(".log")
    start = log.stat().st_size if log.exists() else 0
    command = [*through, *COMMAND, "serve", "--listen", "127.0.0.1:0"]
    command += ["--data-dir", str(directory), "--log-format", log_format]
    given = {f"HOOKTAPE_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("ab") as stderr:
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=directory.parent,
            env=environment(**given),
        )
    try:
        url = await until(lambda: _url(process, log, start))
        service = Service(process, url, directory, log, start)
        async with service.client:
            yield service
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()


async def shell(
    command: str, directory: Path, variables: Mapping[str, str] | None = None
) -> "Completed":
    """Run a command line as somebody types it, in `directory`."""
    done = await anyio.run_process(
        ["sh", "-c", command],
        check=False,
        cwd=directory,
        env=environment(HOME=str(directory), **(variables or {})),
    )
    return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


class Completed(msgspec.Struct, frozen=True):
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


def _url(process: Process, log: Path, start: int) -> str | None:
    written = _read(log, start)
    if process.returncode is not None:
        raise AssertionError(f"the service ended with {process.returncode}:\n{written}")
    found = _LISTENING.search(written)
    return found[1] if found else None


def _read(log: Path, start: int) -> str:
    return log.read_bytes()[start:].decode()

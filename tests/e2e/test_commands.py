"""`hooktape emit` and `hooktape listen`, as processes, with the service between them."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.service import COMMAND, Service, environment, serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Listening:
    """A `hooktape listen`, line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def line(self) -> dict[str, Any]:
        """The next JSON line that it prints."""
        with anyio.fail_after(15):
            found: dict[str, Any] = json.loads(await self._lines.receive_until(b"\n", 2**20))
        return found


@asynccontextmanager
async def listening(directory: Path, *options: str) -> AsyncIterator[Listening]:
    async with await anyio.open_process(
        [*COMMAND, "listen", "--port", "0", *options],
        stdin=subprocess.DEVNULL,
        stderr=None,
        cwd=directory,
        env=environment(),
    ) as process:
        try:
            yield Listening(process)
        finally:
            if process.returncode is None:
                process.kill()


async def emit(service: Service, *arguments: str) -> dict[str, Any]:
    done = await anyio.run_process(
        [*COMMAND, "emit", *arguments, "--url", service.url], env=environment()
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


async def test_what_emit_says_listen_hears(service: Service, tmp_path: Path) -> None:
    """From one command to the other, signed; the same id is stored and delivered once."""
    async with listening(tmp_path, "--count", "3", "--secret", SECRET) as listener:
        url = (await listener.line())["listening"]
        config = {"url": url, "secret": SECRET}
        hook = {"source": "balancer", "event": "health", "handler": "webhook", "config": config}
        await service.post("/event-hooks", hook)
        ping = await listener.line()
        first = await emit(service, "balancer", "health", '{"n": 1}', "--id", "one")
        again = await emit(service, "balancer", "health", '{"n": 1}', "--id", "one")
        second = await emit(service, "balancer", "health", '{"n": 2}')
        heard = [await listener.line(), await listener.line()]

        assert await listener.process.wait() == 0
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert again["positions"] == first["positions"]
    assert second["positions"] == [first["positions"][0] + 1]
    assert json.loads(ping["body"])["event"] == "ping"
    bodies = sorted((json.loads(arrival["body"]) for arrival in heard), key=lambda body: body["n"])
    assert bodies == [{"source": "balancer", "event": "health", "n": n} for n in (1, 2)]
    for arrival in (ping, *heard):
        assert (arrival["kong_signature"], arrival["standard_webhooks"]) == ("valid", "valid")


async def test_emit_stores_a_file_of_events_together(service: Service, tmp_path: Path) -> None:
    """One bad line refuses them all, and is named; without it they all are stored."""
    lines = [
        json.dumps({"source": "balancer", "event": "health", "data": {"n": n}}) for n in range(3)
    ]
    good, bad = tmp_path / "good.ndjson", tmp_path / "bad.ndjson"
    good.write_text("\n".join(lines))
    bad.write_text("\n".join([*lines[:2], '{"source": "balancer"}']))

    refused = await anyio.run_process(
        [*COMMAND, "emit", "--ndjson", str(bad), "--url", service.url],
        check=False,
        env=environment(),
    )
    stored = await emit(service, "--ndjson", str(good))

    assert refused.returncode == 1
    assert "line 3" in refused.stdout.decode()
    assert stored["positions"] == [1, 2, 3]


async def test_emit_says_that_nobody_is_there(tmp_path: Path) -> None:
    """A service that cannot be reached is exit code 69, and the message names its address."""
    async with serving(tmp_path / "data") as service:
        await service.stop()

    done = await anyio.run_process(
        [*COMMAND, "emit", "balancer", "health", "--url", service.url],
        check=False,
        env=environment(),
    )

    assert done.returncode == 69
    assert service.url in done.stderr.decode()

"""Load for a server on loopback: wrk if it is installed, else a small client of our own.

Our own one takes as much of the machine as the server does, so its numbers are lower; ratios of
two servers measured with it are closer to 1 than they should be.
"""

import asyncio
import re
import shutil
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import anyio
import msgspec


class Load(msgspec.Struct, frozen=True):
    per_second: float
    p50_ms: float
    p99_ms: float


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, over how many connections; each waits for its answer."""

    port: int
    path: str
    body: bytes
    content_type: str = "application/json"
    connections: int = 64


async def load(what: Post, seconds: float) -> Load:
    """Send for so long. Raises RuntimeError unless every answer is a 2xx."""
    wrk = shutil.which("wrk")
    return await (_own(what, seconds) if wrk is None else _wrk(wrk, what, seconds))


async def _wrk(wrk: str, what: Post, seconds: float) -> Load:
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        payload = Path(directory) / "body"
        payload.write_bytes(what.body)
        script.write_text(
            'wrk.method = "POST"\n'
            f'wrk.headers["Content-Type"] = "{what.content_type}"\n'
            f'wrk.body = io.open("{payload}", "rb"):read("*a")\n'
        )
        url = f"http://127.0.0.1:{what.port}{what.path}"
        options = ["-t1", f"-c{what.connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        done = await anyio.run_process([wrk, *options, "-s", str(script), url])
    report = done.stdout.decode()
    if "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(f"the server did not answer properly:\n{report}")
    return Load(
        float(_found(r"Requests/sec:\s+([\d.]+)", report)),
        _milliseconds(_found(r"(?m)^ +50% +(\S+)", report)),
        _milliseconds(_found(r"(?m)^ +99% +(\S+)", report)),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk reported something else than expected:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    unit = text.lstrip("0123456789.")
    return float(text[: -len(unit)]) * units[unit]


async def _own(what: Post, seconds: float) -> Load:
    head = (
        f"POST {what.path} HTTP/1.1\r\nHost: 127.0.0.1:{what.port}\r\n"
        f"Content-Type: {what.content_type}\r\nContent-Length: {len(what.body)}\r\n\r\n"
    )
    request = head.encode() + what.body
    latencies: list[float] = []
    start = time.perf_counter()

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", what.port)
        before = time.perf_counter()
        while before < start + seconds:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 2"):
                raise RuntimeError(f"the server did not answer properly:\n{answer.decode()}")
            length = re.search(rb"(?i)content-length: (\d+)", answer)
            await reader.readexactly(int(length[1]) if length else 0)
            now = time.perf_counter()
            latencies.append(now - before)
            before = now
        writer.close()
        await writer.wait_closed()

    async with anyio.create_task_group() as tasks:
        for _ in range(what.connections):
            tasks.start_soon(call)
    cuts = quantiles(latencies, n=100)
    rate = len(latencies) / (time.perf_counter() - start)
    return Load(rate, cuts[49] * 1000, cuts[98] * 1000)

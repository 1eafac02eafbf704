"""A real HTTP/1.1 receiver on loopback that records what arrives and misbehaves on request.

In a test:

    async with Receiver() as receiver:
        receiver.script("/hook", answer(503), answer(200))     # in turn; the last one stays
        ...
        [first, *_] = await receiver.wait_for(2)

As a process, for tests that kill the service: `python tests/receiver.py --port 0 --log seen.jsonl`
prints its URL, appends one JSON line per request before it answers, and `read_log` reads them back.

Without a script, `/status/503` answers 503, the paths in `BY_PATH` misbehave, the rest answers 200.
"""

import argparse
import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import msgspec


class Received(msgspec.Struct, frozen=True):
    """A request exactly as it came. `target` includes the query; `headers` keep order and case."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float  #: seconds since the Unix epoch
    connection: int  #: 1 for the first connection accepted, and so on

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The value of the only header of that name, in any case; None without one."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        if len(values) > 1:
            raise ValueError(f"{name} was sent {len(values)} times")
        return values[0] if values else None


class Exchange(msgspec.Struct):
    """What a behaviour works with: the request that was read, and the connection it came by."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError("the client has left")
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[Exchange], Awaitable[bool]]
"""Answers one request; false closes the connection."""


def answer(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    until: anyio.Event | None = None,
) -> Behaviour:
    """A proper response, held back until the event is set."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1")

    async def behave(exchange: Exchange) -> bool:
        if until is not None:
            await until.wait()
        await exchange.send(head if exchange.request.method == "HEAD" else head + body)
        return True

    return behave


async def hang(exchange: Exchange) -> bool:
    """Never answers; ends when the client gives up."""
    await exchange.reader.read()
    return False


async def close(exchange: Exchange) -> bool:
    """Closes the connection instead of answering."""
    return False


def raw(data: bytes) -> Behaviour:
    """These very bytes, then the connection is closed: for garbage and cut-off answers."""

    async def behave(exchange: Exchange) -> bool:
        await exchange.send(data)
        return False

    return behave


def many_headers(count: int) -> Behaviour:
    """A response with `count` headers and no body."""
    fields = b"".join(b"x-%d: %d\r\n" % (n, n) for n in range(count))
    return raw(b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: 0\r\n\r\n")


def endless(chunk: bytes = b"x" * 65536, head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Behaviour:
    """Sends `chunk` again and again, as fast as the client reads, for as long as it stays."""

    async def behave(exchange: Exchange) -> bool:
        await exchange.send(head)
        while True:
            await exchange.send(chunk)

    return behave


def slowly(data: bytes, every: float) -> Behaviour:
    """One byte of `data` every `every` seconds."""

    async def behave(exchange: Exchange) -> bool:
        for byte in data:
            await exchange.send(bytes([byte]))
            await anyio.sleep(every)
        return False

    return behave


def second_try() -> Behaviour:
    """503 to a delivery that comes for the first time, 200 from then on."""
    seen: set[str | None] = set()

    async def behave(exchange: Exchange) -> bool:
        delivery = exchange.request.header("webhook-id")
        known = delivery in seen
        seen.add(delivery)
        return await answer(200 if known else 503)(exchange)

    return behave


BY_PATH: dict[str, Behaviour] = {
    "/hang": hang,
    "/second-try": second_try(),
    "/close": close,
    "/garbage": raw(b"\x00\xffthis is not HTTP\r\n\r\n"),
    "/truncated": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"),
}


def by_path(path: str) -> Behaviour:
    """The behaviour of a path nobody scripted."""
    if path.startswith("/status/"):
        return answer(int(path.removeprefix("/status/")))
    return BY_PATH.get(path, answer())


class Receiver:
    """Listens on `host` at a free port between `async with` and its end."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = port
        self.requests: list[Received] = []
        self.accepted = 0  #: connections ever accepted
        self.log: BinaryIO | None = None
        self._tls = tls
        self._scripts: dict[str, list[Behaviour]] = {}
        self._changed = anyio.Event()  # set and replaced whenever one of the above changes
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def script(self, path: str, *behaviours: Behaviour) -> None:
        """Replaces what `path` does: each behaviour serves one request, the last one all others."""
        self._scripts[path] = list(behaviours)

    def at(self, path: str) -> list[Received]:
        """The requests to `path`, in order of arrival."""
        return [request for request in self.requests if request.path == path]

    async def wait_for(self, count: int, path: str | None = None) -> list[Received]:
        """Waits until `count` requests (to `path`) have arrived; returns all of them."""
        while len(found := self.requests if path is None else self.at(path)) < count:
            await self._changed.wait()
        return list(found)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits until `condition`, looked at whenever a request or connection comes or goes."""
        while not condition():
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self.host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.accepted += 1
        self._notify()
        try:
            # A client that leaves in the middle is what many tests are about, and no fault of ours.
            # Cancelled only by __aexit__; asyncio's streams report a cancelled task as an error.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer, self.accepted)
        finally:
            writer.close()
            self._connections.discard(task)
            self._notify()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while request := await _read(reader, connection):
            self.requests.append(request)
            if self.log is not None:
                self.log.write(msgspec.json.encode(request) + b"\n")
                self.log.flush()
            self._notify()
            if not await self._behaviour(request.path)(Exchange(request, reader, writer)):
                return

    def _behaviour(self, path: str) -> Behaviour:
        script = self._scripts.get(path)
        if not script:
            return by_path(path)
        return script.pop(0) if len(script) > 1 else script[0]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def _read(reader: asyncio.StreamReader, connection: int) -> Received | None:
    """The next request of a connection; None when the client is done."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = await reader.readexactly(length) if length else b""
    return Received(method, target, headers, body, time.time(), connection)


def read_log(path: Path) -> list[Received]:
    """What a receiver process wrote with `--log`; a line cut off by a kill is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=Received) for line in lines]


async def _main(port: int, log: Path | None) -> None:
    async with Receiver(port=port) as receiver:
        if log is not None:
            receiver.log = log.open("ab")
        print(receiver.url, flush=True)  # noqa: T201 -- its parent reads the address here
        await anyio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        anyio.run(_main, arguments.port, arguments.log)

"""One Lua worker process as the service holds it: started, asked, killed."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Self, TypeVar, cast

import anyio
import msgspec

from delivery.lambda_frames import HEADER, REPLY_LIMIT, Limits, Ready, Reply

_Answer = TypeVar("_Answer", Ready, Reply)

_BOOTSTRAP = (
    "import sys; sys.path += sys.argv[3:]; "
    "from delivery.lambda_worker import serve; serve(*sys.argv[1:3])"
)

_KILL_SECONDS = 5.0
"""Only a process stuck in the kernel outlives SIGKILL; nobody waits longer for one."""


class LambdaUnavailable(Exception):
    """No worker can be had. Says nothing about the functions that were to run."""


class WorkerLost(Exception):
    """The worker must not be used again; the text says why."""


class _Pipes(asyncio.SubprocessProtocol):
    """What the process sends, as `answer`: one frame's body, or None when no more is awaited.

    Anything but exactly one frame of at most `REPLY_LIMIT` per `answer` is an empty body, which
    no decoder accepts. With asyncio's streams a small call would take half as long again.
    """

    def __init__(self) -> None:
        self.closed = False
        self.exited = anyio.Event()
        self._received = bytearray()
        self.expect()

    def expect(self) -> None:
        """Make room for the next answer."""
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        if self.closed:
            self.answer.set_result(None)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Complete the answer when its last byte is there."""
        self._received += data
        if len(self._received) < HEADER.size:
            return
        end = HEADER.size + HEADER.unpack_from(self._received)[0]
        if max(end, len(self._received)) > HEADER.size + REPLY_LIMIT:
            self.settle(b"")
        elif len(self._received) >= end:
            whole = len(self._received) == end
            self.settle(bytes(self._received[HEADER.size :]) if whole else b"")
            self._received.clear()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The end of its output is the end of the process."""
        self.closed = True
        self.settle(None)

    def process_exited(self) -> None:
        """The process is reaped."""
        self.exited.set()

    def settle(self, answer: bytes | None) -> None:
        """Give whoever waits this answer, unless there was one."""
        if not self.answer.done():
            self.answer.set_result(answer)


class LambdaProcess:
    """A worker process that is ready for calls, one at a time."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        self._transport = transport
        self._pipes = pipes
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))

    @classmethod
    async def start(cls, limits: Limits, seconds: float) -> Self:
        """Start a worker and wait until it is ready. Raises LambdaUnavailable."""
        try:
            # Until this returns nobody could end the process: so it is not interrupted.
            with anyio.CancelScope(shield=True):
                transport, pipes = await asyncio.get_running_loop().subprocess_exec(
                    _Pipes,
                    *_command(limits),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=None,  # shows why a start fails; the worker leaves it before Lua runs
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except OSError as problem:
            raise LambdaUnavailable(f"no Lua worker: {problem}") from problem
        worker = cls(transport, pipes)
        ready = False
        try:
            await worker._receive(Ready, seconds)
            ready = True
        except WorkerLost as lost:
            raise LambdaUnavailable(f"no Lua worker: {lost}") from lost
        finally:
            if not ready:
                await worker.close()
        return worker

    @property
    def pid(self) -> int:
        """The process id, for those who look at it from outside."""
        return self._transport.get_pid()

    @property
    def alive(self) -> bool:
        """Whether its pipes are open, as far as is known."""
        return not self._pipes.closed

    async def ask(self, frame: bytes, seconds: float) -> Reply:
        """Send a framed call and wait for its reply.

        Raises WorkerLost. After that or any other exception, cancellation included, half an
        answer may be on its way: kill the worker.
        """
        self._pipes.expect()
        if self.alive:
            self._stdin.write(frame)
        return await self._receive(Reply, seconds)

    def kill(self) -> None:
        """End the process now; `close` then frees what it held here."""
        with suppress(ProcessLookupError):  # it ended by itself
            self._transport.kill()

    async def close(self) -> None:
        """End the process, reap it and close its pipes, even if cancelled."""
        with anyio.move_on_after(_KILL_SECONDS, shield=True):
            if not self._pipes.exited.is_set():
                self.kill()
                # Closed before, the transport would reap the process behind asyncio's back.
                await self._pipes.exited.wait()
        self._transport.close()

    async def _receive(self, kind: type[_Answer], seconds: float) -> _Answer:
        # A timer instead of a cancel scope: a fifth of the time of a small call.
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._pipes.settle, None)
        try:
            answer = await self._pipes.answer
        finally:
            timer.cancel()
        if answer is None and not self.alive:
            raise WorkerLost(f"the Lua worker {await self._end()}")
        if answer is None:
            raise WorkerLost(f"no answer within {seconds:g} s, killed")
        try:
            return msgspec.msgpack.decode(answer, type=kind)
        except msgspec.DecodeError as problem:
            raise WorkerLost(f"the Lua worker's answer makes no sense: {problem}") from problem

    async def _end(self) -> str:
        """How the process ended. Asked after its pipe closed, so the end is there or near."""
        with anyio.move_on_after(_KILL_SECONDS, shield=True):
            await self._pipes.exited.wait()
        status = self._transport.get_returncode()
        if status is None:
            return "closed its pipe"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with status {status}"


def _command(limits: Limits) -> list[str]:
    """Python without site-packages, environment and user settings, and the few paths needed."""
    paths = {Path(__file__).parents[1]}
    for package in ("lupa", "msgspec"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            paths.add(Path(spec.origin).parents[1])
    return [
        *(sys.executable, "-I", "-S", "-c", _BOOTSTRAP),
        msgspec.json.encode(limits).decode(),
        str(os.getpid()),
        *sorted(map(str, paths)),
    ]

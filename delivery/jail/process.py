"""One worker process as the service holds it: started, asked, killed."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import Self, TypeVar, cast

import anyio
import msgspec

from delivery.jail.frames import HEADER, REPLY_LIMIT, Ready, Reply, Setup, framed

_Answer = TypeVar("_Answer", Ready, Reply)

_BOOTSTRAP = "import sys; sys.path += sys.argv[1:]; from delivery.jail.worker import serve; serve()"

_KILL_SECONDS = 5.0
"""Only a process stuck in the kernel outlives SIGKILL; nobody waits longer for one."""

_END_SECONDS = 1.0
"""How long it may take from the end of a process's output until it is known how it ended."""

_SIGNALS = {number.value: number.name for number in signal.Signals} | {
    signal.SIGSYS.value: "SIGSYS: it tried what the jail forbids"
}


class JailUnavailable(Exception):
    """No worker can be had. Says nothing about the functions that were to run."""


class WorkerLost(Exception):
    """The worker must not be used again; the text says why."""


class _Pipes(asyncio.SubprocessProtocol):
    """What the process sends, as `answer`: one frame's body, or None if there is none.

    Why there is none and why the process must not be used any more is in `fault`, unless it just
    ended. A process with a fault is killed at once: it could keep the service busy with reading.
    With asyncio's streams a small call would take half as long again.
    """

    def __init__(self) -> None:
        self.closed = False
        self.fault: str | None = None
        self.exited = anyio.Event()
        self._received = bytearray()
        self.expect()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def expect(self) -> None:
        """Make room for the next answer."""
        self.answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        if self.closed or self.fault is not None:
            self.answer.set_result(None)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Complete the answer when its last byte is there."""
        if self.answer.done():
            self.fail("the worker spoke without being asked")
            return
        self._received += data
        if len(self._received) < HEADER.size:
            return
        (size,) = HEADER.unpack_from(self._received)
        more = len(self._received) - HEADER.size - size
        if size > REPLY_LIMIT:
            self.fail(f"the worker's answer takes {size} bytes, over {REPLY_LIMIT}")
        elif more > 0:
            self.fail("the worker sent more than one answer")
        elif more == 0:
            self._settle(bytes(self._received[HEADER.size :]))
            self._received.clear()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The end of its output is the end of the process."""
        self.closed = True
        self._settle(None)

    def process_exited(self) -> None:
        """The process is reaped."""
        self.exited.set()

    def fail(self, fault: str) -> None:
        """Kill the process for this fault."""
        self.fault = self.fault or fault
        with suppress(ProcessLookupError):  # it ended by itself
            self._transport.kill()
        self._settle(None)

    def _settle(self, answer: bytes | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class WorkerProcess:
    """A worker process that is ready for calls, one at a time."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        self._transport = transport
        self._pipes = pipes
        self._stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        self.ready = Ready("", ())

    @classmethod
    async def start(cls, command: Sequence[str], setup: Setup, seconds: float) -> Self:
        """Start a worker and wait until it is ready. Raises JailUnavailable."""
        try:
            # Until this returns nobody could end the process: so it is not interrupted.
            with anyio.CancelScope(shield=True):
                transport, pipes = await asyncio.get_running_loop().subprocess_exec(
                    _Pipes,
                    *command,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=None,  # shows why a start fails; the worker leaves it before Lua runs
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except OSError as problem:
            raise JailUnavailable(f"no worker: {problem}") from problem
        worker = cls(transport, pipes)
        ready = False
        try:
            worker._stdin.write(framed(setup))
            worker.ready = await worker._receive(Ready, seconds)
            ready = True
        except WorkerLost as lost:
            raise JailUnavailable(f"no worker: {lost}") from lost
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
        """Whether it may get a call, as far as is known."""
        return not self._pipes.closed and self._pipes.fault is None

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
        self._pipes.fail("the worker was stopped")

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
        late = f"time limit of {seconds:g} s reached, killed"
        timer = asyncio.get_running_loop().call_later(seconds, self._pipes.fail, late)
        try:
            answer = await self._pipes.answer
        finally:
            timer.cancel()
        if answer is None:
            raise WorkerLost(self._pipes.fault or f"the worker {await self._end()}")
        try:
            return msgspec.msgpack.decode(answer, type=kind)
        except msgspec.DecodeError as problem:
            raise WorkerLost(f"the worker's answer makes no sense: {problem}") from problem

    async def _end(self) -> str:
        """How the process ended. Asked after its pipe closed, so the end is there or near."""
        with anyio.move_on_after(_END_SECONDS, shield=True):
            await self._pipes.exited.wait()
        status = self._transport.get_returncode()
        if status is None:
            return "closed its pipe"
        if status < 0:
            return f"was killed by {_SIGNALS.get(-status, f'signal {-status}')}"
        return f"ended with status {status}"


@cache
def worker_command() -> tuple[str, ...]:
    """Python without site-packages, environment and user settings, and the few paths needed."""
    paths = {Path(__file__).parents[2]}
    for package in ("lupa", "jinja2", "markupsafe", "msgspec"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            paths.add(Path(spec.origin).parents[1])
    return (sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *sorted(map(str, paths)))

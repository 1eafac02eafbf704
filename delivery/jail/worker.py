"""The program inside a jailed worker process: the only place where users' code runs.

It reads one `Call` at a time from its standard input, answers with a `Reply` on its standard
output, and ends when the input ends. It opens nothing else and has no rights to (`confinement`).
When a user's code brings the process down, the service sees the pipe close and starts another one.
"""

import resource
import sys
import time
from importlib import import_module
from typing import BinaryIO, Protocol

import msgspec

from delivery.jail.confinement import confine
from delivery.jail.frames import CALL_LIMIT, HEADER, Call, Limits, Ready, Setup, framed


class Runner(Protocol):
    """An engine with its limits: `lua_engine.Lua` or `jinja_engine.Jinja`."""

    name: str  #: with its version

    def warm_up(self) -> None:
        """Run something, to load whatever is loaded late, while that is still allowed."""
        ...

    def answer(self, call: Call) -> bytes:
        """Run the call; an encoded `Report`. Never raises what a user's code can bring about."""
        ...


_ENGINES = {
    "lua": ("delivery.jail.lua_engine", "Lua"),
    "jinja2": ("delivery.jail.jinja_engine", "Jinja"),
}


def serve() -> None:
    """Answer calls until the input ends."""
    setup = msgspec.msgpack.decode(_read(sys.stdin.buffer), type=Setup)
    module, name = _ENGINES[setup.engine]
    # By name: a worker for Lua should not spend half its start on importing Jinja.
    runner: Runner = getattr(import_module(module), name)(setup.limits, setup.profile)
    runner.warm_up()
    barriers = confine(setup.limits, setup.parent)
    wear = _Wear(setup.limits)

    _write(framed(Ready(runner.name, barriers)))
    decoder = msgspec.msgpack.Decoder(Call)
    while body := _read(sys.stdin.buffer):
        report = runner.answer(decoder.decode(body))
        reply = msgspec.msgpack.encode((msgspec.Raw(report), wear.is_out()))
        _write(HEADER.pack(len(reply)) + reply)


class _Wear:
    """When the process should be replaced."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls = 0
        # A process inherits the peak of the one that started it.
        self._resident = max(limits.resident, _peak_resident())

    def is_out(self) -> bool:
        """Counts a call; whether it should be the last."""
        self._calls += 1
        return (
            self._calls >= self._limits.calls
            or time.process_time() * 2 > self._limits.worker_cpu_seconds
            or _peak_resident() > self._resident
        )


def _peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(stream: BinaryIO) -> bytes:
    """The next frame's body; empty at the end of the input."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return b""
    (size,) = HEADER.unpack(header)
    if size > CALL_LIMIT:
        raise ValueError(f"a call of {size} bytes")
    return stream.read(size)


def _write(frame: bytes) -> None:
    sys.stdout.buffer.write(frame)
    sys.stdout.buffer.flush()

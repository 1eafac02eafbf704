"""The program inside a Lua worker process: the only place where users' functions run.

It reads one `Call` at a time from its standard input, answers with a `Reply` on its standard
output, and ends when the input ends. It opens nothing else and has no rights to (`confine`). When
Lua brings the process down, the service sees the pipe close and starts another one.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

try:
    from lupa import luajit21 as virtual_machine
except ImportError:  # some platforms' wheels have no LuaJIT
    from lupa import lua51 as virtual_machine

from delivery.lambda_frames import (
    CALL_LIMIT,
    HEADER,
    Arguments,
    Call,
    Limits,
    Ready,
    framed,
)

_SANDBOX = Path(__file__).with_name("lambda_sandbox.lua").read_text()
_PR_SET_PDEATHSIG = 1


class State:
    """The functions of one version of one hook, in a Lua state of their own.

    No Python object is ever visible inside: data goes in as tables of plain values, and out comes
    one string.
    """

    def __init__(
        self, functions: tuple[str, ...], limits: Limits, machine: Any = virtual_machine
    ) -> None:
        self._limits = limits
        # Latin-1 maps Lua's bytes to characters one to one; UTF-8 would fail on strings cut in
        # the middle of a character. Limiting memory needs an allocator installed from the start.
        self._lua = machine.LuaRuntime(
            encoding="latin-1",
            register_eval=False,
            register_builtins=False,
            max_memory=0,
            overflow_handler=_as_float,
        )
        self._failure = machine.LuaError
        self._prepare, self._run, self._report = self._lua.execute(
            _SANDBOX,
            self._lua.table_from([source.encode() for source in functions]),
            self._lua.table_from(msgspec.structs.asdict(limits)),
            name="=sandbox",
            mode="t",
        )

    def run(self, arguments: Arguments | None) -> tuple[bytes, bool]:
        """Call the functions; an encoded `Report`, and whether the state may be used again."""
        if arguments is None:
            self._prepare()
        else:
            self._prepare(
                self._lua.table_from(_lua_data(arguments.data), recursive=True),
                arguments.event.encode(),
                arguments.source.encode(),
                arguments.pid,
                arguments.lenient,
            )
        # An allocation that fails while the host itself works on the state would abort the
        # process, so the limit is on only while user code runs.
        self._lua.set_max_memory(self._limits.lua_memory, total=True)
        with suppress(self._failure):  # out of time between two lines of our own: reported below
            self._run()
        self._lua.set_max_memory(0)
        report, broken = self._report()
        return report.encode("latin-1"), not broken and self._is_small()

    def _is_small(self) -> bool:
        if self._lua.get_memory_used() > self._limits.kept_memory:
            self._lua.gccollect()
        return bool(self._lua.get_memory_used() <= self._limits.kept_memory)


class States:
    """The states that are worth keeping, and when the process should be replaced."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls = 0
        # A process inherits the peak of the one that started it.
        self._resident = max(limits.resident, _peak_resident())
        self._kept: OrderedDict[tuple[str, str, tuple[str, ...]], State] = OrderedDict()

    def answer(self, call: Call) -> bytes:
        """Run the call and frame the `Reply`."""
        self._calls += 1
        key = (call.workspace, call.hook, call.functions)
        state = self._kept.pop(key, None) or State(call.functions, self._limits)
        report, reusable = state.run(call.arguments)
        if reusable and call.arguments is not None:
            self._kept[key] = state
            if len(self._kept) > self._limits.states:
                self._kept.popitem(last=False)
        body = msgspec.msgpack.encode((msgspec.Raw(report), self._is_worn()))
        return HEADER.pack(len(body)) + body

    def _is_worn(self) -> bool:
        limits = self._limits
        return (
            self._calls >= limits.calls
            or time.process_time() * 2 > limits.worker_cpu_seconds
            or _peak_resident() > self._resident
        )


def confine(limits: Limits, parent: int) -> None:
    """Give up every right that running Lua does not need. Nothing can be opened afterwards.

    Raises OSError or ValueError where the system refuses: then the worker must not run anything.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before it could be watched
        raise SystemExit(1)

    os.environ["TZ"] = "UTC0"  # os.date() would read the system's zone file
    time.tzset()
    _rlimit(resource.RLIMIT_CORE, 0)
    _rlimit(resource.RLIMIT_FSIZE, 0)
    _rlimit(resource.RLIMIT_NPROC, 0)
    _rlimit(resource.RLIMIT_AS, limits.address_space)
    _rlimit(resource.RLIMIT_CPU, limits.worker_cpu_seconds)
    # Until here errors were seen on the service's own standard error. What else is open came from
    # the service too: uvloop leaves copies behind, and so may whoever started the service.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    _rlimit(resource.RLIMIT_NOFILE, 3)


def serve(limits_json: str, parent: str) -> None:
    """Answer calls until the input ends. `parent` is the process id of the service."""
    limits = msgspec.json.decode(limits_json, type=Limits)
    states = States(limits)
    # A first run loads whatever is loaded late, while that is still allowed.
    states.answer(Call(workspace="", hook="", functions=("return function() end",)))
    confine(limits, int(parent))

    _write(framed(Ready(virtual_machine.LuaRuntime().lua_implementation)))
    decoder = msgspec.msgpack.Decoder(Call)
    while body := _read(sys.stdin.buffer):
        _write(states.answer(decoder.decode(body)))


def _rlimit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _as_float(number: int) -> float:
    return float(str(number))  # through text: infinity instead of OverflowError


def _lua_data(data: bytes) -> Any:
    """JSON in UTF-8 as plain values whose strings hold one character per byte."""
    return msgspec.json.decode(data.decode("latin-1"))


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

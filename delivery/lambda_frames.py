"""What passes between the service and a Lua worker: msgpack frames behind a four-byte length.

The service sends one `Call` and waits for one `Reply`; a worker's first frame is `Ready`. The
worker is not trusted: what comes from it is decoded into exactly these types, up to `REPLY_LIMIT`.
Text that Lua made travels as bytes, because Lua cuts strings anywhere.
"""

import struct
from typing import Annotated

import msgspec

HEADER = struct.Struct(">I")
CALL_LIMIT = 2 * 1024 * 1024
"""Bytes of one call: its functions and the event together."""
REPLY_LIMIT = 64 * 1024

LogLevel = Annotated[int, msgspec.Meta(ge=10, le=50)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker enforces itself. Sizes are in bytes, times in seconds."""

    cpu_seconds: float = 0.5  #: of one call
    lua_memory: int = 32 * 1024 * 1024  #: of one state, the event's data included
    kept_memory: int = 4 * 1024 * 1024  #: a state that holds more after a call is dropped
    states: int = 64  #: kept for later calls, the least recently used goes first
    log_lines: int = 100
    log_size: int = 16 * 1024
    error_size: int = 4 * 1024
    address_space: int = 512 * 1024 * 1024
    calls: int = 10_000  #: after so many the worker asks to be replaced,
    resident: int = 256 * 1024 * 1024  #: as it does at this size,
    worker_cpu_seconds: int = 600  #: and at half of this; at all of it the system kills it


class Arguments(msgspec.Struct, frozen=True, array_like=True):
    """What every function of a call is called with.

    `data` is JSON in UTF-8 whose only escapes are ASCII, as msgspec writes it. `pid` is the
    service's. `lenient` accepts any return value as success.
    """

    data: bytes
    event: str
    source: str
    pid: int
    lenient: bool = False


class Call(msgspec.Struct, frozen=True, array_like=True):
    """Run `functions` in order. Without `arguments`: only see whether each chunk makes a function.

    Calls with the same workspace, hook and functions share a Lua state, and nobody else does.
    """

    workspace: str
    hook: str
    functions: tuple[str, ...]
    arguments: Arguments | None = None


class Ready(msgspec.Struct, frozen=True, array_like=True):
    """The worker has given up its rights and waits for calls. `lua` names its virtual machine."""

    lua: str


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What a function logged or printed; `level` is one of `logging`'s."""

    level: LogLevel
    text: bytes


class Report(msgspec.Struct, frozen=True, array_like=True):
    """How a call went, as encoded inside Lua. `dropped` counts the lines beyond the limits."""

    error: bytes | None
    lines: list[Line]
    dropped: int


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a `Call`. `retiring`: the worker wants no further call."""

    report: Report
    retiring: bool


def framed(message: msgspec.Struct) -> bytes:
    """The message as it goes over the pipe."""
    body = msgspec.msgpack.encode(message)
    return HEADER.pack(len(body)) + body

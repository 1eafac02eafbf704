"""What passes between the service and a jailed worker: msgpack frames behind a four-byte length.

The service sends one `Setup` and gets `Ready`; then it sends one `Call` at a time and waits for its
`Reply`. A worker is not trusted: what comes from it is decoded into exactly these types, up to
`REPLY_LIMIT`. Text that Lua made travels as bytes, because Lua cuts strings anywhere.
"""

import struct
from typing import Annotated, Any, Literal

import msgspec

HEADER = struct.Struct(">I")
CALL_LIMIT = 2 * 1024 * 1024
"""Bytes of one call: its program and the event together."""
REPLY_LIMIT = 2 * 1024 * 1024

Engine = Literal["lua", "jinja2"]
"""What a worker runs: Lua functions and resty templates, or Jinja templates."""

UntrustedLua = Literal["sandbox", "lax", "on"]
"""How much Lua finds. Nothing of it leaves the jail."""

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
    result_size: int = 256 * 1024  #: of a result, and of all effects of one call together
    effects: int = 100  #: of one call
    text_size: int = 1024 * 1024  #: of all texts that the templates of one call make
    address_space: int = 512 * 1024 * 1024
    calls: int = 10_000  #: after so many the worker asks to be replaced,
    resident: int = 256 * 1024 * 1024  #: as it does at this size,
    worker_cpu_seconds: int = 600  #: and at half of this; at all of it the system kills it


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What Lua finds in every call: how much is allowed, and what it may know of the service.

    `requires` and `environment` name what is allowed beyond the usual; `modules` are the
    operator's own, by name, as source. `configuration` holds no secrets.
    """

    untrusted_lua: UntrustedLua = "sandbox"
    requires: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    modules: dict[str, str] = {}
    version: str = ""
    node_id: str = ""
    hostname: str = ""
    configuration: dict[str, Any] = {}


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """The first frame: what the worker is for. `parent` is the service's process id."""

    engine: Engine
    limits: Limits
    profile: Profile
    parent: int


class Functions(msgspec.Struct, frozen=True, array_like=True, tag="functions"):
    """Lua chunks, each of which makes a function. They run in order."""

    sources: tuple[str, ...]


class Templates(msgspec.Struct, frozen=True, array_like=True, tag="templates"):
    """Templates that are rendered with the same data, one text each."""

    sources: tuple[str, ...]


Program = Functions | Templates


class Arguments(msgspec.Struct, frozen=True, array_like=True):
    """What every function of a call is called with, or every template is rendered with.

    `data` is JSON in UTF-8 whose only escapes are ASCII, as msgspec writes it. For templates it is
    the whole context and the rest is not used. `pid` is the service's. `lenient` accepts any return
    value as success. `depth` counts the emissions by functions that led to this event.
    """

    data: bytes
    event: str = ""
    source: str = ""
    pid: int = 0
    lenient: bool = False
    depth: int = 0


class Call(msgspec.Struct, frozen=True, array_like=True):
    """Run a program. Without `arguments`: only see whether each of its parts compiles.

    Calls with the same workspace, hook and program share a state, and nobody else does. All calls
    that a worker ever gets are of one workspace.
    """

    workspace: str
    hook: str
    program: Program
    arguments: Arguments | None = None


class Ready(msgspec.Struct, frozen=True, array_like=True):
    """The worker has given up its rights and waits for calls.

    `engine` names what it runs with its version; `barriers` what the system lets it jail itself
    with, of "rlimits", "namespaces" and "seccomp".
    """

    engine: str
    barriers: tuple[str, ...]


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What a function logged or printed; `level` is one of `logging`'s."""

    level: LogLevel
    text: bytes


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """What is wrong with part `index` (from 0) of the program; `line` of a template, from 1."""

    index: int
    line: int | None
    text: bytes


class Effect(msgspec.Struct, frozen=True, array_like=True):
    """What a function wants done once all have succeeded. `content` is JSON.

    "skip": the reason, a string. "set": the data. "emit": {"event", "data"}. "request": {"method",
    "url", "headers", "body"}, of which the last two may be missing.
    """

    kind: Literal["skip", "set", "emit", "request"]
    content: bytes


class Report(msgspec.Struct, frozen=True, array_like=True):
    """How a call went.

    A run stops at the first failure; a check reports each part that does not compile. `dropped`
    counts the lines beyond the limits. `result` is what the last function that ran returned, as
    JSON, or None if that has no JSON form. After a failure there are neither texts nor effects.
    """

    failures: list[Failure] = []
    lines: list[Line] = []
    dropped: int = 0
    result: bytes | None = None
    texts: list[bytes] = []
    effects: list[Effect] = []


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a `Call`. `retiring`: the worker wants no further call."""

    report: Report
    retiring: bool


def framed(message: msgspec.Struct) -> bytes:
    """The message as it goes over the pipe."""
    body = msgspec.msgpack.encode(message)
    return HEADER.pack(len(body)) + body

"""What a handler is given and what it answers: values, so that decisions stay pure."""

from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import Any
from uuid import UUID

import msgspec

from eventstore.events import EventEmitted
from eventstore.records import uuid_text
from projections.hooks import Hook

_DELIVERIES = UUID("9f6fb7f4-3c5f-5d0e-9d5c-0f1f4e1f9c52")


def delivery_id(hook_id: str, event_id: str, purpose: str) -> str:
    """The delivery's id: the same for every attempt, so that a receiver can drop repeats."""
    name = f"{hook_id}/{event_id}/{purpose}".encode()
    # What uuid5 does, in a third of its time: this runs once per attempt.
    digest = bytearray(sha1(_DELIVERIES.bytes + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return uuid_text(digest)


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one hook, ready to be performed.

    `hook` is the version to perform with; `source` and `event` are the names under which the hook
    knows the event. `data` is the payload without them.
    """

    id: str
    hook: Hook
    seq: int
    event_id: str
    source: str
    event: str
    data: dict[str, Any]
    time_us: int
    attempt: int = 1
    purpose: str = ""
    subject: bytes | None = None  #: the digest of the person that the event is about
    emitters: tuple[str, ...] = ()  #: the hooks whose functions led to the event, in order
    origin: EventEmitted | None = None  #: what came as a CloudEvent and is to go out as one
    dry_run: bool = False  #: do all that has no effect, and nothing else


class Outgoing(msgspec.Struct, frozen=True):
    """A request as a hook describes it. Header names are in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Response(msgspec.Struct, frozen=True):
    """A receiver's answer. `body` is cut at the configured cap."""

    status: int
    headers: dict[str, str]
    body: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one attempt. Never an exception.

    `reason` is one clear line when `ok` is false. `retryable` false parks early. `gone` suspends
    the hook. `retry_after` is what the receiver asked for, in seconds.

    The rest is for `/test`: `request` is what was sent, or would have been but for the dry run;
    `result` is what the handler itself came to; `logs` are (level, text); `effects` are what
    functions want done.
    """

    ok: bool
    reason: str | None = None
    status: int | None = None
    retryable: bool = True
    gone: bool = False
    retry_after: float | None = None
    response: Response | None = None
    request: Outgoing | None = None
    result: Any = None
    logs: tuple[tuple[int, str], ...] = ()
    effects: tuple[dict[str, Any], ...] = ()
    blocked: bool = False  #: refused by our own address policy


Handler = Callable[[Delivery], Awaitable[Outcome]]

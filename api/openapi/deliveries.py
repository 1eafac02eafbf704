"""The shapes of answers about hooks and deliveries, for the document at `/openapi.json`.

The same holds for them as for those in `api.openapi.answers`.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.openapi.answers import Fields


class ExplainedDelivery(msgspec.Struct):
    """What became of an event for one hook. More is told depending on `state`."""

    hook: str
    state: str
    id: str | UnsetType = UNSET
    hook_version: int | UnsetType = UNSET
    source: str | UnsetType = UNSET
    event: str | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    attempts: int | UnsetType = UNSET
    status: int | UnsetType | None = UNSET
    next_attempt: float | UnsetType | None = UNSET


class Explanation(msgspec.Struct):
    data: list[ExplainedDelivery]


class DeliveryFact(msgspec.Struct):
    """A fact of the log about a hook's deliveries. `time` is in seconds; more depends on `type`."""

    position: int
    type: str
    time: float


class DeliveryHistory(msgspec.Struct):
    data: list[DeliveryFact]
    next: str | None


class ParkedDelivery(msgspec.Struct):
    """A delivery that was given up for now. `position` and `event_id` are those of its event."""

    id: str
    event_id: str
    position: int
    purpose: str
    attempts: int
    reason: str
    status: int | None
    parked_at: float


class ParkedDeliveries(msgspec.Struct):
    data: list[ParkedDelivery]
    next: str | None


class Resent(msgspec.Struct):
    """How many deliveries were put back to work."""

    resent: int


class HookState(msgspec.Struct):
    """Where a hook stands. `open` are deliveries that are not settled yet."""

    state: Literal["live", "stopped", "catching up"]
    reason: str | None
    position: int
    open: list[Fields]
    parked: int


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    """With `skip` what waited is dropped."""

    skip: bool = False


class SentRequest(msgspec.Struct):
    method: str
    url: str
    headers: dict[str, str]
    body: str


class LogLine(msgspec.Struct):
    level: str
    text: str


class HandlerTest(msgspec.Struct):
    """`data` is the payload as used. `result` is what the handler came to.

    For webhooks that is the receiver's answer. The rest is told of handlers that run users' code,
    and with `dry_run`: the request that was or would have been sent, what functions logged and
    want done.
    """

    data: Fields
    result: Any
    request: SentRequest | UnsetType | None = UNSET
    logs: list[LogLine] | UnsetType = UNSET
    effects: list[Fields] | UnsetType = UNSET
    duration_ms: float | UnsetType = UNSET


class Ping(msgspec.Struct):
    """What was sent. `event_hooks` is the hook, without its secret."""

    source: Literal["kong:event_hooks"]
    event: Literal["ping"]
    event_hooks: Fields

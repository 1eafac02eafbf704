"""What is known about deliveries, as values: what `state.db` holds and the outboxes share."""

import msgspec

from eventstore.events import DeliveriesSettled, Suppressed
from eventstore.records import Checkpoint

Item = tuple[int, str]
"""(position of the event, purpose): names a delivery of one hook."""


class Open(msgspec.Struct, frozen=True, gc=False):
    """A delivery that is not settled. `attempt` counts those made; `due_us` is wall time.

    `resent`: it was parked before, so its receipt must name it, and the `delivery_parked` event at
    position `copy` holds what is to be sent, should the event itself be compacted away.
    """

    attempt: int = 0
    due_us: int = 0
    reason: str | None = None
    status: int | None = None
    hook_version: int | None = None
    resent: bool = False
    copy: int = 0


class Parked(msgspec.Struct, frozen=True, gc=False):
    """A delivery given up. Its `delivery_parked` event, at `position`, holds a copy."""

    position: int
    event_id: str
    attempts: int
    reason: str
    status: int | None
    at_us: int


class Progress(msgspec.Struct):
    """What happened to a hook's deliveries since its last receipt, which ended at `settled`.

    `late`: settled now, but open according to what the log says. `intent` is a receipt that was
    decided on and perhaps not stored yet: it is stored word for word before the next one.
    `skipped` are ranges, first and last, that the log says are passed over: only after a recovery.
    """

    settled: int
    delivered: int = 0
    late: list[tuple[int, str]] = []
    suppressed: list[Suppressed] = []
    intent: DeliveriesSettled | None = None
    skipped: list[tuple[int, int]] = []


class Lane(msgspec.Struct, frozen=True, gc=False):
    """What sets a hook apart: everything up to `position` was decided for it, and why it stopped.

    Without a position it follows the live one.
    """

    position: int | None = None
    stopped: str | None = None


class Loaded(msgspec.Struct):
    """Everything in `state.db`, by hook. A missing `cursor` means that the file is new."""

    cursor: Checkpoint | None
    known: int
    lanes: dict[str, Lane]
    open: dict[str, dict[Item, Open]]
    parked: dict[str, dict[Item, Parked]]
    fired: list[tuple[str, bytes, bytes, int]]
    progress: dict[str, Progress]

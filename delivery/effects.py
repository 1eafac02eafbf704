"""What functions wanted done, put into the log once all of them have succeeded.

All effects of one run are one append under a key made of the delivery's id, so a delivery that is
made again, because nobody knows whether the first time counted, has each effect once. They are
about the person that the event is about, and so are erased with everything else about them.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec

from eventstore.codec import new_event
from eventstore.events import (
    DELIVERIES_PREFIX,
    EMITTED_PREFIX,
    HOOKS_PREFIX,
    LAMBDA_SOURCE,
    DeliverySkipped,
    EventEmitted,
    RequestQueued,
)
from eventstore.log import EventLog
from eventstore.records import Append, Idempotency, Kind, NewEvent

from .jail.frames import Effect
from .outcome import Delivery

MAX_DEPTH: Final = 3
"""So many emissions may follow from one another."""

_Content = TypeVar("_Content")
_Name = Annotated[str, msgspec.Meta(pattern=r"^[^/\x00-\x1f\x7f]{1,128}$")]


class Emission(msgspec.Struct, frozen=True):
    """The content of "emit"."""

    event: _Name
    data: dict[str, Any]


class Request(msgspec.Struct, frozen=True):
    """The content of "request"."""

    method: Annotated[str, msgspec.Meta(pattern="^[A-Za-z]{1,32}$")]
    url: str
    headers: dict[str, str] = {}
    body: str = ""


class EffectsRefused(Exception):
    """The worker's effects are not what they have to be. None of them was stored."""


class Effects:
    """Stores the effects of a run."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def store(self, delivery: Delivery, effects: Sequence[Effect]) -> None:
        """Append them all, or nothing if this was done before for this delivery.

        Raises EffectsRefused, and LogError when it is not known that they are on disk.
        """
        events = tuple(_events(delivery, effects))
        if events:
            await self._log.append(
                Append(
                    events=events,
                    idempotency=Idempotency(f"effects\0{delivery.id}", b""),
                    workspace=delivery.hook.workspace,
                    actor=HOOKS_PREFIX + ",".join((*delivery.emitters, delivery.hook.id)),
                )
            )


def _events(delivery: Delivery, effects: Sequence[Effect]) -> Iterator[NewEvent]:
    stream = DELIVERIES_PREFIX + delivery.hook.id
    for effect in effects:
        content = effect.content
        match effect.kind:
            case "skip":
                if delivery.seq:  # by hand there is no delivery that could be settled
                    skipped = DeliverySkipped(
                        seq=delivery.seq, purpose=delivery.purpose, reason=_decoded(content, str)
                    )
                    yield new_event(
                        skipped, stream=stream, kind=Kind.DELIVERY, subject=delivery.subject
                    )
            case "emit":
                emission = _decoded(content, Emission)
                if len(delivery.emitters) >= MAX_DEPTH:
                    raise EffectsRefused(f"emissions are at most {MAX_DEPTH} deep")
                yield new_event(
                    EventEmitted(data=msgspec.Raw(msgspec.json.encode(emission.data))),
                    stream=f"{EMITTED_PREFIX}{LAMBDA_SOURCE}/{emission.event}",
                    kind=Kind.EMITTED,
                    subject=delivery.subject,
                )
            case "request":
                request = _decoded(content, Request)
                queued = RequestQueued(
                    seq=delivery.seq,
                    purpose=delivery.purpose,
                    method=request.method,
                    url=request.url,
                    headers=request.headers,
                    body=request.body,
                )
                yield new_event(queued, stream=stream, kind=Kind.DELIVERY, subject=delivery.subject)
            case "set":
                pass  # seen by later functions, and by nobody else


def _decoded(content: bytes, kind: type[_Content]) -> _Content:
    try:
        return msgspec.json.decode(content.decode("utf-8", "replace"), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EffectsRefused(f"an effect cannot be read: {error}") from error

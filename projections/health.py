"""How the addresses of targets are, as far as somebody said so."""

from collections.abc import Mapping

import msgspec

from eventstore.codec import decode
from eventstore.events import HEALTH_PREFIX, TargetHealthSet
from eventstore.records import Kind, RecordedEvent

from .model import Changes

_TARGETS = "targets/"


class Told(msgspec.Struct, frozen=True, array_like=True):
    """`healthy` or `unhealthy`, and the position of the event that said so."""

    health: str
    position: int


class TargetHealth(msgspec.Struct, frozen=True):
    """What was told by address, which is `<ip or host>:<port>`."""

    told: dict[str, Told]


def evolve(items: Mapping[str, TargetHealth], event: RecordedEvent) -> Changes:
    """The health of the target that `event` is about, by its id; None when nothing is known.

    What was told in a body that is erased may have been about any address: so nothing that was told
    before it still holds.
    """
    if event.kind != Kind.CONFIG:
        return {}
    if event.type == "entity_deleted" and event.stream.startswith(_TARGETS):
        target = event.stream.removeprefix(_TARGETS)
        return {target: None} if target in items else {}
    if not event.stream.startswith(HEALTH_PREFIX):
        return {}
    target = event.stream.removeprefix(HEALTH_PREFIX)
    body = decode(event)
    if not isinstance(body, TargetHealthSet):
        return erase(items, event)
    known = items[target].told if target in items else {}
    new = {address: Told(health, event.seq) for address, health in body.health.items()}
    return {target: TargetHealth(known | new)}


def erase(items: Mapping[str, TargetHealth], event: RecordedEvent) -> Changes:
    """What is left of a target's health when the body of `event` is gone: what was told later."""
    target = event.stream.removeprefix(HEALTH_PREFIX)
    if not event.stream.startswith(HEALTH_PREFIX) or target not in items:
        return {}
    told = items[target].told
    later = {address: each for address, each in told.items() if each.position > event.seq}
    if later == told:
        return {}
    return {target: TargetHealth(later) if later else None}


class Health:
    """The view in memory."""

    name = "health"
    version = 1
    item = TargetHealth
    resident = True

    def __init__(self) -> None:
        self._items: dict[str, TargetHealth] = {}

    def evolve(self, event: RecordedEvent) -> Changes:
        return evolve(self._items, event)

    def key(self, event: RecordedEvent) -> str:
        return event.stream.removeprefix(HEALTH_PREFIX)

    def erase(self, event: RecordedEvent, found: object) -> Changes:
        return erase(self._items, event)

    def apply(self, changes: Changes) -> None:
        for target, health in changes.items():
            if health is None:
                self._items.pop(target, None)
            else:
                self._items[target] = health

    def clear(self) -> None:
        self._items.clear()

    def of(self, target: str) -> dict[str, str]:
        """The health of a target's addresses; empty as long as nobody said anything."""
        known = self._items.get(target)
        return {} if known is None else {at: told.health for at, told in known.told.items()}

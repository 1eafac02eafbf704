"""How the addresses of targets are, as far as somebody said so."""

from collections.abc import Mapping

import msgspec

from eventstore.codec import decode
from eventstore.events import HEALTH_PREFIX, TargetHealthSet
from eventstore.records import Kind, RecordedEvent

from .model import Changes

_TARGETS = "targets/"


class TargetHealth(msgspec.Struct, frozen=True):
    """`healthy` or `unhealthy` by address, which is `<ip or host>:<port>`."""

    addresses: dict[str, str]


def evolve(items: Mapping[str, TargetHealth], event: RecordedEvent) -> Changes:
    """The health of the target that `event` is about, by its id; None when it is gone.

    With an erased body everything said before still holds.
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
        return {}
    known = items[target].addresses if target in items else {}
    return {target: TargetHealth(known | body.health)}


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

    def apply(self, changes: Changes) -> None:
        for target, health in changes.items():
            if health is None:
                self._items.pop(target, None)
            else:
                self._items[target] = health

    def clear(self) -> None:
        self._items.clear()

    def of(self, target: str) -> Mapping[str, str]:
        """The health of a target's addresses; empty as long as nobody said anything."""
        known = self._items.get(target)
        return {} if known is None else known.addresses

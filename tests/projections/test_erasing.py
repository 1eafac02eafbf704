"""Erasing what was folded comes to the same as folding what was erased."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, strategies as st

from eventstore import Kind, RecordedEvent
from eventstore.codec import encode
from eventstore.events import (
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    Event,
    SourcePublished,
)
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.sources import Sources
from tests.delivery.world import entity


def hook(hook_id: str) -> list[tuple[str, Kind, Event]]:
    stream = f"event_hooks/{hook_id}"
    rows = [entity(hook_id), entity(hook_id, event="f"), entity(hook_id, source="t")]
    changes = [EntityUpdated(entity=row, old_entity={}) for row in rows]
    return [
        *((stream, Kind.CONFIG, EntityCreated(entity=row)) for row in rows),
        *((stream, Kind.CONFIG, change) for change in changes),
        (stream, Kind.CONFIG, EntityDeleted(entity={})),
    ]


def fact(body: Event) -> tuple[str, Kind, Event]:
    return "deliveries/a", Kind.DELIVERY, body


PARKED = DeliveryParked(
    seq=1, event_id="x", reason="r", attempts=1, source="s", event="e", data=msgspec.Raw(b"{}")
)
WHOLE = [
    *hook("a"),
    *hook("b"),
    ("consumers/1", Kind.CONFIG, EntityCreated(entity={"id": "1", "username": "ada"})),
    ("consumers/1", Kind.CONFIG, EntityDeleted(entity={"id": "1"})),
    ("event_hook_sources/s/e", Kind.CONFIG, SourcePublished(source="s", event="e", fields=["x"])),
    ("event_hook_sources/s/e", Kind.CONFIG, SourcePublished(source="s", event="e", unique=["y"])),
    fact(PARKED),
    fact(DeliveryFailed(seq=2, reason="r", hook_version=0)),
    fact(DeliveriesSettled(id="i", after=0, upto=3, delivered=1, hook_version=0, late=[(1, "")])),
    fact(DeliveriesCancelled(seqs=[1, 2], reason="x")),
]
NEVER_ERASED = (DeliveriesSettled, DeliveriesCancelled)


def recorded(history: Sequence[tuple[str, Kind, Event]]) -> list[RecordedEvent]:
    versions: dict[str, int] = {}
    events = []
    for seq, (stream, kind, body) in enumerate(history, start=1):
        versions[stream] = version = versions.get(stream, -1) + 1
        name, schema, text = encode(body)
        columns = (seq, stream, version, bytes(16), name, schema, kind, seq, seq, "w")
        events.append(RecordedEvent(*columns, None, None, None, text))
    return events


class Folded:
    """All models, and the items that view.db would hold of them."""

    def __init__(self) -> None:
        self.models: list[ReadModel] = [Hooks(), Sources([]), Entities(), Deliveries()]
        self.items: dict[tuple[str, str], Any] = {}

    def fold(self, event: RecordedEvent) -> None:
        for model in self.models:
            self._take(model, model.evolve(event))

    def erase(self, event: RecordedEvent) -> None:
        for model in self.models:
            found = self.items.get((model.name, model.key(event)))
            self._take(model, model.erase(event, found))

    def _take(self, model: ReadModel, changes: Any) -> None:
        for key, item in changes.items():
            self.items.pop((model.name, key), None)
            if item is not None:
                self.items[model.name, key] = item
        model.apply(changes)


@given(st.lists(st.sampled_from(WHOLE), max_size=14), st.data())
def test_erasing_is_having_folded_the_erased(
    history: list[tuple[str, Kind, Event]], data: st.DataObject
) -> None:
    """Whatever was erased, in whatever order; done twice it is done once; lookups agree, too."""
    events = recorded(history)
    can = [e for e, (_, _, body) in zip(events, history, strict=True) if _erasable(body)]
    gone = data.draw(st.permutations(data.draw(st.lists(st.sampled_from(can))) if can else []))
    erased = {e.seq: msgspec.structs.replace(e, body=None) for e in gone}
    live, rebuilt = Folded(), Folded()
    for event in events:
        live.fold(event)
        rebuilt.fold(erased.get(event.seq, event))
    for event in [*gone, *gone]:
        live.erase(erased[event.seq])

    assert live.items == rebuilt.items
    hooks, again = live.models[0], rebuilt.models[0]
    assert isinstance(hooks, Hooks)
    assert isinstance(again, Hooks)
    for seq in range(len(events) + 2):
        for names in (("s", "e"), ("s", "f"), ("t", "e")):
            found, expected = hooks.in_force(*names, seq), again.in_force(*names, seq)
            assert sorted(h.id for h in found) == sorted(h.id for h in expected)


def _erasable(body: Event) -> bool:
    return not isinstance(body, NEVER_ERASED)

"""Given, when, then: the language in which read models are tested.

    given(Entities, fact("consumers/1", created)).when(fact("consumers/1", deleted)).then({})

`then` compares the items, and on the way holds every model to its promises: an event applied twice
changes nothing more, and a model that is rebuilt, or loaded from a snapshot, equals the live one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from eventstore.codec import encode
from eventstore.events import DELIVERIES_PREFIX, EMITTED_PREFIX, Event
from eventstore.records import Kind, RecordedEvent
from projections.model import ReadModel
from projections.tables import DEFAULT_WORKSPACE

M = TypeVar("M", bound=ReadModel)


class Fact(NamedTuple):
    """Something that happened, before it has a position."""

    stream: str
    body: Event
    workspace: str
    erased: bool
    actor: str | None = None


def fact(
    stream: str, body: Event, *, workspace: str = DEFAULT_WORKSPACE, erased: bool = False
) -> Fact:
    return Fact(stream, body, workspace, erased)


def recorded(facts: Iterable[Fact]) -> list[RecordedEvent]:
    """The facts as the log would hold them: positions from 1, one second apart."""
    versions: dict[str, int] = {}
    events = []
    for seq, (stream, body, workspace, erased, actor) in enumerate(facts, start=1):
        versions[stream] = versions.get(stream, -1) + 1
        name, schema_version, raw = encode(body)
        events.append(
            RecordedEvent(
                seq=seq,
                stream=stream,
                version=versions[stream],
                event_id=seq.to_bytes(16),
                type=name,
                schema_version=schema_version,
                kind=_kind(stream),
                time_us=seq * 1_000_000,
                wall_us=seq * 1_000_000,
                workspace=workspace,
                actor=actor,
                request_id=None,
                subject=None,
                body=None if erased else raw,
            )
        )
    return events


def given(make: Callable[[], M], *facts: Fact) -> "Story[M]":
    """`make` builds an empty model."""
    return Story(make, facts, ())


class Story(Generic[M]):
    def __init__(
        self, make: Callable[[], M], past: tuple[Fact, ...], now: tuple[Fact, ...]
    ) -> None:
        self._make = make
        self._past = past
        self._now = now

    def when(self, *facts: Fact) -> "Story[M]":
        return Story(self._make, self._past, facts)

    def then(self, expected: Mapping[str, Any]) -> M:
        """Compare the items by key, and answer with the live model for further questions."""
        events = recorded(self._past + self._now)
        split = len(self._past)
        live = _Folded(self._make()).fold(events[:split])
        snapshot = dict(live.items)
        live.fold(events[split:])

        assert live.items == expected
        assert _Folded(self._make()).fold(_twice(events)).items == expected, "not idempotent"
        loaded = _Folded(self._make(), snapshot).fold(events[split:])
        assert loaded.items == expected, "a loaded snapshot goes on differently"
        live.model.clear()
        assert _Folded(live.model).fold(events).items == expected, "rebuilt is not live"
        return live.model


class _Folded(Generic[M]):
    """A model with the items that the runner would have stored for it."""

    def __init__(self, model: M, snapshot: Mapping[str, Any] | None = None) -> None:
        self.model = model
        self.items = dict(snapshot or {})
        model.apply(self.items)

    def fold(self, events: Iterable[RecordedEvent]) -> "_Folded[M]":
        for event in events:
            changes = self.model.evolve(event)
            self.model.apply(changes)
            for key, item in changes.items():
                self.items[key] = item
                if item is None:
                    del self.items[key]
        return self


def _twice(events: Iterable[RecordedEvent]) -> Iterable[RecordedEvent]:
    return (event for event in events for _ in range(2))


def _kind(stream: str) -> Kind:
    if stream.startswith(EMITTED_PREFIX):
        return Kind.EMITTED
    if stream.startswith("system/"):
        return Kind.SYSTEM
    return Kind.DELIVERY if stream.startswith(DELIVERIES_PREFIX) else Kind.CONFIG

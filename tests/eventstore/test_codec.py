"""Events to bodies and back, for every version that was ever stored."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, strategies as st

from eventstore import Kind, RecordedEvent, UnknownEvent, decode, encode, new_event
from eventstore.codec import UPCASTS, VERSIONS
from eventstore.events import (
    EVENT_TYPES,
    DeliveriesSettled,
    DeliveryParked,
    EntityUpdated,
    Event,
    EventEmitted,
    HookPaused,
    Suppressed,
)

GOLDEN = Path(__file__).parent / "golden"


def recorded(type_: str, schema_version: int, body: bytes | None) -> RecordedEvent:
    return RecordedEvent(
        1, "s", 0, bytes(16), type_, schema_version, Kind.SYSTEM, 1, 1, "", None, None, None, body
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)
raw_objects = json_objects.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
positions = st.integers(1, 2**53)

events = st.one_of(
    st.builds(EntityUpdated, entity=json_objects, old_entity=json_objects, secrets=json_objects),
    st.builds(EventEmitted, data=raw_objects, id=st.none() | st.text()),
    st.builds(
        DeliveryParked,
        seq=positions,
        event_id=st.text(),
        reason=st.text(),
        attempts=positions,
        source=st.text(),
        event=st.text(),
        data=raw_objects,
    ),
    st.builds(
        DeliveriesSettled,
        id=st.text(),
        after=positions,
        upto=positions,
        delivered=positions,
        hook_version=positions,
        open=st.lists(st.tuples(positions, st.text())),
        suppressed=st.lists(
            st.builds(Suppressed, st.sampled_from(["snooze", "skipped"]), *[positions] * 3)
        ),
    ),
)


@given(events)
def test_what_is_encoded_decodes_to_the_same(event: Event) -> None:
    """Encoding and decoding lose nothing."""
    decoded = decode(recorded(*encode(event)))

    assert type(decoded) is type(event)
    assert encode(decoded) == encode(event)


def test_every_event_has_a_type_name_and_the_other_way_round() -> None:
    """The table of types and the union of structs are the same list, and all have a golden file."""
    assert set(EVENT_TYPES.values()) == set(get_args(Event))
    assert {path.name.partition(".")[0] for path in GOLDEN.iterdir()} == set(EVENT_TYPES)


def test_every_version_there_was_has_its_step_and_its_golden_file() -> None:
    """A shape that was ever stored can be lifted, step by step, and a file proves it."""
    versions = {name: VERSIONS.get(name, 1) for name in EVENT_TYPES}
    every = {(name, n) for name, current in versions.items() for n in range(1, current + 1)}
    golden = [path.name.split(".") for path in GOLDEN.iterdir()]

    assert {(name, int(version)) for name, version, _ in golden} == every
    assert set(UPCASTS) == {(name, n) for name, n in every if n < versions[name]}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_stored_shapes_stay_readable(path: Path) -> None:
    """Each golden file is a body as a released version stored it; it decodes to all it holds."""
    name, version, _ = path.name.split(".")
    event = decode(recorded(name, int(version), path.read_bytes()))

    assert event is not None
    name_now, _, body = encode(event)
    assert name_now == name
    assert msgspec.json.decode(body) == msgspec.json.decode(path.read_bytes())


def test_an_erased_body_decodes_to_none() -> None:
    """Erasure is visible as None, not as an error."""
    assert decode(recorded("event_emitted", 1, None)) is None


@pytest.mark.parametrize(
    ("name", "version"), [("event_emited", 1), ("event_emitted", 2), ("event_emitted", 0)]
)
@pytest.mark.parametrize("body", [b"{}", None])
def test_unknown_types_and_versions_are_an_error(
    name: str, version: int, body: bytes | None
) -> None:
    """What a newer program stored is never guessed at, erased or not."""
    with pytest.raises(UnknownEvent) as unknown:
        decode(recorded(name, version, body))

    assert (unknown.value.type, unknown.value.schema_version) == (name, version)


def test_old_shapes_are_lifted_one_version_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the stored version to the current one, every step is one pure function."""

    def rename(shape: dict[str, Any]) -> dict[str, Any]:
        return {"reason": shape["why"]}

    def quote(shape: dict[str, Any]) -> dict[str, Any]:
        return {"reason": shape["reason"] + "!"}

    monkeypatch.setitem(VERSIONS, "hook_paused", 3)
    monkeypatch.setitem(UPCASTS, ("hook_paused", 1), rename)
    monkeypatch.setitem(UPCASTS, ("hook_paused", 2), quote)
    bodies = [b'{"why":"rest"}', b'{"reason":"rest"}', b'{"reason":"rest!"}']
    lifted = [decode(recorded("hook_paused", n, body)) for n, body in enumerate(bodies, start=1)]

    assert lifted == [HookPaused(reason="rest!")] * 3
    assert encode(HookPaused())[1] == 3
    with pytest.raises(UnknownEvent):
        decode(recorded("hook_paused", 4, b"{}"))


def test_new_events_are_ready_to_append() -> None:
    """Type, version and body come from the event, everything else from the caller."""
    event = new_event(
        EventEmitted(data=msgspec.Raw(b'{"a":1}'), id="x"),
        stream="emitted/s/e",
        kind=Kind.EMITTED,
        identity="s/x",
        subject="ada",
    )

    assert (event.type, event.schema_version) == ("event_emitted", 1)
    assert event.body == b'{"data":{"a":1},"id":"x"}'
    assert (event.stream, event.kind, event.identity, event.subject) == (
        "emitted/s/e",
        Kind.EMITTED,
        "s/x",
        "ada",
    )

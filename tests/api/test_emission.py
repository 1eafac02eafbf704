"""From bytes to events, and everything that can be wrong on the way."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from api.emission import Emitter
from api.emitted import caller_id, subject_of
from api.responses import BadRequest, RequestError, SchemaViolation, UnsupportedMediaType
from eventstore.records import Kind, NewEvent
from projections.sources import Definition, Sources, SourceVersion

JSON = "application/json"
LINES = "application/x-ndjson"
HEALTH = {"source": "balancer", "event": "health", "data": {"ip": "10.0.0.5"}}


def emitter(**options: Any) -> Emitter:
    sources = Sources([])
    sources.apply({"app/paid": [SourceVersion(1, Definition(subject="user.id"))]})
    return Emitter(sources.current, **options)


def events(body: object, media_type: str = JSON, **options: Any) -> list[NewEvent]:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return emitter(**options).events(raw, media_type, "w")


def faults(body: object, media_type: str = JSON) -> Any:
    with pytest.raises(SchemaViolation) as caught:
        events(body, media_type)
    return caught.value.fields


def test_an_event_is_ready_to_be_appended() -> None:
    """Stream, kind and body follow from what was sent."""
    (event,) = events(HEALTH)

    assert (event.stream, event.kind, event.type) == (
        "emitted/balancer/health",
        Kind.EMITTED,
        "event_emitted",
    )
    assert event.body == b'{"data":{"ip":"10.0.0.5"}}'
    assert (event.identity, event.subject) == (None, None)


def test_a_callers_id_is_scoped_and_kept() -> None:
    """It is unique within workspace and source, and it stays in the body, which can be erased."""
    (event,) = events({**HEALTH, "id": "order 7"})

    assert event.identity == "event\0w\0balancer\0order 7"
    assert event.body == b'{"data":{"ip":"10.0.0.5"},"id":"order 7"}'
    assert caller_id(event) == "order 7"


@pytest.mark.parametrize(
    ("data", "subject"),
    [
        ({"user": {"id": "ada"}}, "ada"),
        ({"user": {"id": 7}}, "7"),
        ({"user": {"id": True}}, None),
        ({"user": {"id": None}}, None),
        ({"user": "ada"}, None),
        ({}, None),
    ],
)
def test_the_subject_is_found_in_the_data(data: dict[str, Any], subject: str | None) -> None:
    """The definition says where the person is named; what is no name is no subject."""
    (event,) = events({"source": "app", "event": "paid", "data": data})

    assert event.subject == subject
    assert subject_of("user.id", data) == subject


def test_data_is_stored_in_canonical_form() -> None:
    """One meaning for every reader: no repeated keys, no blanks, numbers as they came."""
    data = b'{"a": 1, "a": 2, "big": 12345678901234567890123, "f": 1.50, "nul": "\\u0000"}'
    (event,) = events(b'{"source":"balancer","event":"health","data":' + data + b"}")

    assert event.body == (b'{"data":{"a":2,"big":12345678901234567890123,"f":1.5,"nul":"\\u0000"}}')


def test_an_array_and_lines_hold_several_events() -> None:
    """In the order in which they were sent; empty lines mean nothing."""
    bodies = [{**HEALTH, "data": {"n": n}} for n in range(3)]
    lines = b"\r\n\n".join(map(msgspec.json.encode, bodies)) + b"\n"

    assert [event.body for event in events(bodies)] == [b'{"data":{"n":%d}}' % n for n in range(3)]
    assert events(lines, LINES) == events(bodies)
    assert events(lines, "application/jsonl") == events(bodies)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": None}, {"source": "expected a string"}),
        ({"source": ["crud"]}, {"source": "expected a string"}),
        ({"event": 3}, {"event": "expected a string"}),
        ({"event": ""}, {"event": "length must be at least 1"}),
        ({"data": []}, {"data": "expected a record"}),
        ({"id": 3}, {"id": "expected a string"}),
        ({"id": ""}, {"id": "must be 1 to 255 characters without control characters"}),
        ({"id": "a\0b"}, {"id": "must be 1 to 255 characters without control characters"}),
        ({"more": 1, "data": 2}, {"more": "unknown field", "data": "expected a record"}),
    ],
)
def test_every_faulty_field_is_named(change: dict[str, Any], fault: dict[str, str]) -> None:
    """All at once, in Kong's words."""
    assert faults(HEALTH | change) == fault


def test_missing_fields_are_named() -> None:
    """An empty object lacks three."""
    missing = "required field missing"
    assert faults({}) == {"source": missing, "event": missing, "data": missing}


@pytest.mark.parametrize("name", ["a/b", "x" * 129, "a\nb", "\x7f", "a\u2028b", "\x00"])
def test_a_name_must_fit_into_a_path(name: str) -> None:
    """Sources and events become parts of stream names and URLs."""
    fault = "invalid value: expected 1 to 128 printable characters without '/'"
    assert faults(HEALTH | {"source": name, "event": name}) == {"source": fault, "event": fault}


@pytest.mark.parametrize("source", ["crud", "dao:crud", "kong:event_hooks", "lambda"])
def test_our_own_facts_cannot_be_emitted(source: str) -> None:
    """Nobody outside can claim that an entity changed."""
    body = HEALTH | {"source": source, "event": "consumers"}
    fault = f"'{source}' is reserved: its events are made by this service alone"

    assert faults(body) == {"source": fault}
    with pytest.raises(SchemaViolation):
        events(body, allow_unpublished=True)


def test_an_unpublished_event_says_how_to_publish_it() -> None:
    """The path is ready to be used, odd characters escaped."""
    fault = (
        "'b?' is not published for source 'a b':"
        " publish it with PUT /event-hooks/sources/a%20b/b%3F"
    )
    body = HEALTH | {"source": "a b", "event": "b?"}

    assert faults(body) == {"event": fault}
    assert events(body, allow_unpublished=True)[0].stream == "emitted/a b/b?"


def test_depth_has_a_limit() -> None:
    """64 levels of data pass; brackets within texts do not count."""
    flat = HEALTH | {"data": {"text": "[" * 100}}
    deep = b'{"source":"balancer","event":"health","data":{"a":%s%s}}'

    assert len(events(flat)) == 1
    assert len(events(deep % (b"[" * 63, b"]" * 63))) == 1
    assert faults(deep % (b"[" * 64, b"]" * 64)) == {
        "data": "must not be nested deeper than 64 levels"
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"source":"balancer","event":"health","data":' + b'{"a":' * 5000,
        b'{"source":"balancer","event":"health","data":{"a":"\\ud800"}}',
        b'{"source":"balancer","event":"health","data":{"a":NaN}}',
        b'{"source":"balancer","event":"health","data":{"a":"\xff"}}',
        b'{"source":"balancer","event":"health","data":{"a":1e999}}',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Malformed, bottomless, not UTF-8, half a surrogate pair, not a number."""
    with pytest.raises(BadRequest, match="Cannot parse JSON body"):
        events(body)


@pytest.mark.parametrize("body", [b"3", b"null", b'"x"'])
def test_a_scalar_is_no_event(body: bytes) -> None:
    """JSON, but not an object."""
    with pytest.raises(BadRequest, match="expected a record"):
        events(body)


@pytest.mark.parametrize(("body", "media_type"), [(b"[]", JSON), (b"\n \n", LINES)])
def test_a_body_holds_at_least_one_event(body: bytes, media_type: str) -> None:
    """Nothing to store is a mistake, not a success."""
    with pytest.raises(BadRequest, match="no event"):
        events(body, media_type)


def test_faults_in_a_batch_are_placed() -> None:
    """Lines count from 1, empty ones included; places in an array from 0."""
    good = msgspec.json.encode(HEALTH)
    lines = b"\n".join([good, b"", b'{"x"', b"3", msgspec.json.encode(HEALTH | {"data": 1})])

    assert faults(lines, LINES) == {
        "line 3": "Cannot parse JSON body",
        "line 4": "expected a record",
        "line 5": {"data": "expected a record"},
    }
    assert faults([HEALTH, 3, HEALTH | {"id": 1}]) == {
        "[1]": "expected a record",
        "[2]": {"id": "expected a string"},
    }


def test_not_every_fault_of_a_hopeless_batch_is_listed() -> None:
    """The answer stays readable."""
    assert len(faults([{}] * 1000)) == 20


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_other_types_are_refused(media_type: str) -> None:
    """An event is JSON."""
    with pytest.raises(UnsupportedMediaType):
        events(HEALTH, media_type)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_data_comes_back_as_it_went_in(data: dict[str, Any]) -> None:
    """Whatever an object holds, the stored body says the same."""
    with suppress(msgspec.MsgspecError, UnicodeEncodeError):
        raw = msgspec.json.encode(HEALTH | {"data": data})
        (event,) = emitter().events(raw, JSON, "w")
        assert msgspec.json.decode(event.body)["data"] == msgspec.json.decode(raw)["data"]


hostile: list[Callable[[bytes], bytes]] = [
    bytes,
    lambda raw: b"[" + raw + b"]",
    lambda raw: b'{"source":"balancer","event":"health","data":' + raw + b"}",
    lambda raw: b'{"source":' + raw + b',"event":"health","data":{}}',
]


@given(
    st.binary(max_size=60) | json_values.map(msgspec.json.encode),
    st.sampled_from(hostile),
    st.sampled_from([JSON, LINES]),
)
def test_arbitrary_bytes_are_events_or_a_refusal(
    raw: bytes, wrap: Callable[[bytes], bytes], media_type: str
) -> None:
    """Nothing else ever comes out, whatever comes in."""
    with suppress(RequestError):
        assert emitter().events(wrap(raw), media_type, "w")

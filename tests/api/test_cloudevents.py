"""CloudEvents as they come: every mode, every attribute, and what is wrong with them."""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from api.cloudevents import Read, is_cloudevent, name, read
from api.emission import Emitter
from api.responses import BadRequest, RequestError, SchemaViolation, UnsupportedMediaType
from eventstore.events import CloudEvent
from eventstore.records import NewEvent
from projections.sources import Definition, Sources, SourceVersion
from tests.api.admin_api import Api

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PAID = {
    "specversion": "1.0",
    "id": "A234",
    "source": "https://shop.example/orders",
    "type": "com.example.paid",
    "data": {"amount": 12.5},
}
NAME = "https:%2F%2Fshop.example%2Forders"


def structured(event: Mapping[str, Any]) -> Read:
    return read(msgspec.json.encode(event), STRUCTURED, STRUCTURED, ())[""]


def binary(body: bytes = b"{}", content_type: str = JSON, **attributes: str) -> Read:
    given = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"} | attributes
    headers = [(f"ce-{key}".encode(), value.encode()) for key, value in given.items() if value]
    kind = content_type.partition(";")[0]
    return read(body, content_type, kind, headers)[""]


def attributes(read: Read) -> Mapping[str, Any]:
    assert read.origin is not None
    return read.origin.attributes


@pytest.mark.parametrize(
    ("media_type", "headers", "held"),
    [
        (STRUCTURED, [], True),
        (BATCH, [], True),
        (JSON, [(b"ce-id", b"1")], True),
        ("", [(b"host", b"x"), (b"ce-specversion", b"1.0")], True),
        (JSON, [(b"host", b"x")], False),
        ("application/x-ndjson", [], False),
    ],
)
def test_cloudevents_are_known_by_type_or_headers(
    media_type: str, headers: list[tuple[bytes, bytes]], held: bool
) -> None:
    """The content type decides first, then any header of theirs."""
    assert is_cloudevent(media_type, headers) is held


def test_an_event_is_put_in_our_terms() -> None:
    """Source and type become names, the data is ours, and the attributes are kept as sent."""
    event = structured(PAID | {"subject": "7", "sampled": 1, "test": True})

    assert (event.source, event.event, event.id) == (NAME, "com.example.paid", "A234")
    assert event.data == {"amount": 12.5}
    assert event.origin == CloudEvent(
        attributes={
            "sampled": 1,
            "source": "https://shop.example/orders",
            "subject": "7",
            "test": True,
            "type": "com.example.paid",
        }
    )


def test_both_modes_say_the_same() -> None:
    """The same event is the same, however it comes, so that a repetition is known as one."""
    body = msgspec.json.encode(PAID["data"])
    sent = {key: str(value) for key, value in PAID.items() if key != "data"}

    assert binary(body, **sent) == structured(PAID)
    assert structured(PAID | {"datacontenttype": JSON, "time": None}) == structured(PAID)


@given(st.text(min_size=1, max_size=40))
def test_a_name_tells_the_attribute(text: str) -> None:
    """No two attributes have the same name, and no name has a slash."""
    escaped = name(text)

    assert "/" not in escaped
    assert escaped.replace("%2F", "/").replace("%25", "%") == text


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("a%2525b", "a%25b"),
        ("€", "€"),
        ('"quoted \\"text\\" %41"', 'quoted "text" A'),
        ('"', '"'),
    ],
)
def test_header_values_are_decoded(sent: str, value: str) -> None:
    """Percent-decoding happens once, quotation marks go, UTF-8 may come as it is."""
    assert attributes(binary(subject=sent))["subject"] == value


@pytest.mark.parametrize(
    ("body", "content_type", "data", "wrapped"),
    [
        (b'{"a":1}', JSON, {"a": 1}, ""),
        (b'{"a":1}', "", {"a": 1}, ""),
        (b'{"a":1}', "application/vnd.x+json; charset=utf-8", {"a": 1}, ""),
        (b"[1]", JSON, {"data": [1]}, "data"),
        (b"null", JSON, {"data": None}, "data"),
        (b"", JSON, {}, "none"),
        (b"", "", {}, "none"),
        ("zażółć".encode(), "text/plain", {"data": "zażółć"}, "data"),
        (b"<a/>", "application/xml", {"data": "<a/>"}, "data"),
        (b"\xff", "text/plain", {"data_base64": "/w=="}, "data_base64"),
        (b"abc", "text/plain; charset=utf-16", {"data_base64": "YWJj"}, "data_base64"),
        (b"abc", "image/png", {"data_base64": "YWJj"}, "data_base64"),
        (b"abc", "", {"data_base64": "YWJj"}, "data_base64"),
    ],
)
def test_data_of_any_type_is_held(
    body: bytes, content_type: str, data: dict[str, Any], wrapped: str
) -> None:
    """Our data is an object: what is none becomes its only member, and nothing is lost."""
    event = binary(body, content_type)

    assert event.data == data
    assert event.origin is not None
    assert event.origin.wrapped == wrapped


@pytest.mark.parametrize(
    ("more", "data", "wrapped"),
    [
        ({"data": "text", "datacontenttype": "text/plain"}, {"data": "text"}, "data"),
        ({"data": [1]}, {"data": [1]}, "data"),
        ({"data": None}, {}, "none"),
        ({"data_base64": base64.b64encode(b'{"a":1}').decode()}, {"a": 1}, ""),
        ({"data_base64": "/w==", "datacontenttype": "x/y"}, {"data_base64": "/w=="}, "data_base64"),
    ],
)
def test_data_within_json(more: dict[str, Any], data: dict[str, Any], wrapped: str) -> None:
    """The same rules hold for the JSON format; bytes that are JSON are read as such."""
    event = structured({key: PAID[key] for key in PAID if key != "data"} | more)

    assert event.data == data
    assert event.origin is not None
    assert event.origin.wrapped == wrapped


@pytest.mark.parametrize(
    ("change", "attribute", "text"),
    [
        ({"specversion": None}, "specversion", "required field missing"),
        ({"specversion": "0.3"}, "specversion", "expected one of: 1.0"),
        ({"id": None}, "id", "required field missing"),
        ({"id": ""}, "id", "expected 1 to 255 characters"),
        ({"id": "x" * 256}, "id", "expected 1 to 255 characters"),
        ({"id": 7}, "id", "expected a string"),
        ({"id": "a\nb"}, "id", "must not contain control characters"),
        ({"source": ""}, "source", "expected a URI-reference"),
        ({"source": "a b"}, "source", "expected a URI-reference"),
        ({"source": "http://[x"}, "source", "expected a URI-reference"),
        ({"type": ""}, "type", "length must be at least 1"),
        ({"subject": ""}, "subject", "length must be at least 1"),
        ({"time": "yesterday"}, "time", "expected a timestamp like 2026-01-31T12:00:00Z"),
        (
            {"time": "2026-01-31T12:00:00"},
            "time",
            "expected a timestamp like 2026-01-31T12:00:00Z",
        ),
        ({"dataschema": "/relative"}, "dataschema", "expected a URI"),
        ({"datacontenttype": "json"}, "datacontenttype", "expected a media type"),
        ({"my_ext": "x"}, "my_ext", "attribute names have lower-case letters and digits only"),
        ({"ext": 1.5}, "ext", "expected a string, a 32-bit integer or a boolean"),
        ({"ext": 2**31}, "ext", "expected a string, a 32-bit integer or a boolean"),
        ({"ext": {}}, "ext", "expected a string, a 32-bit integer or a boolean"),
        ({"data_base64": "x"}, "data_base64", "cannot be sent together with data"),
        ({"data": None, "data_base64": "!"}, "data_base64", "expected base64"),
        ({"data": None, "data_base64": 1}, "data_base64", "expected a string"),
    ],
)
def test_a_faulty_attribute_is_named(change: dict[str, Any], attribute: str, text: str) -> None:
    """Each rule of the specification has a sentence of its own."""
    assert structured(PAID | change).faults == {attribute: text}


def test_all_faults_are_told_at_once() -> None:
    """One answer for everything that is wrong with an event."""
    event = binary(b"{", id="", time="x", **{"my-ext": "x"})

    assert set(event.faults) == {"id", "time", "my-ext", "data"}


def test_data_has_an_end() -> None:
    """It is nested no deeper than any other body."""
    data: Any = {}
    for _ in range(70):
        data = [data]

    assert structured(PAID | {"data": data}).faults == {
        "data": "must not be nested deeper than 64 levels"
    }


@pytest.mark.parametrize(
    ("headers", "attribute"),
    [
        ([(b"ce-id", b"1"), (b"ce-id", b"2")], "id"),
        ([(b"ce-subject", b"%FF")], "subject"),
        ([(b"ce-datacontenttype", b"text/plain")], "datacontenttype"),
        ([(b"ce-data", b"x")], "data"),
    ],
)
def test_faulty_headers_are_named(headers: list[tuple[bytes, bytes]], attribute: str) -> None:
    """What no sender that keeps to the binding sends."""
    faults = read(b"", JSON, JSON, headers)[""].faults

    assert isinstance(faults, Mapping)
    assert attribute in faults


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"{}"])
def test_a_batch_that_is_none_is_refused(body: bytes) -> None:
    """Anything but an array."""
    with pytest.raises(BadRequest):
        read(body, BATCH, BATCH, ())


@pytest.mark.parametrize("kind", ["application/cloudevents+avro", "application/cloudevents"])
def test_other_formats_are_unknown(kind: str) -> None:
    """415, before anything is looked at."""
    with pytest.raises(UnsupportedMediaType):
        read(b"{}", kind, kind, [(b"ce-id", b"1")])


def emitter(**options: Any) -> Emitter:
    sources = Sources([])
    paid = Definition(subject="user.id")
    sources.apply({f"{NAME}/com.example.paid": [SourceVersion(1, paid)]})
    return Emitter(sources.current, **options)


def emit(*events: Mapping[str, Any], **options: Any) -> list[NewEvent]:
    received = read(msgspec.json.encode(events), BATCH, BATCH, ())
    return emitter(**options).cloudevents(received, "w")


def refusal(*events: Mapping[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        emit(*events)
    return caught.value


def test_an_event_is_ready_to_be_appended() -> None:
    """Stream and identity have the names; the person it is about is found in the data."""
    (event,) = emit(PAID | {"data": {"user": {"id": 7}}})

    assert event.stream == f"emitted/{NAME}/com.example.paid"
    assert event.identity == f"event\0w\0{NAME}\0A234"
    assert event.subject == "7"
    assert msgspec.json.decode(event.body) == {
        "data": {"user": {"id": 7}},
        "id": "A234",
        "cloudevent": {"attributes": {"source": PAID["source"], "type": PAID["type"]}},
    }


def test_faults_of_a_batch_are_told_by_place() -> None:
    """As in an array of our own events; a value that is no event has one text."""
    problem = refusal(PAID, PAID | {"id": ""}, 5)  # type: ignore[arg-type]

    assert isinstance(problem, SchemaViolation)
    assert problem.fields == {
        "[1]": {"id": "expected 1 to 255 characters"},
        "[2]": "expected a record",
    }


@pytest.mark.parametrize(
    ("change", "attribute", "text"),
    [
        ({"source": "lambda"}, "source", "'lambda' is reserved"),
        ({"source": "x" * 129}, "source", "1 to 128 printable characters"),
        ({"type": "/" * 43}, "type", "1 to 128 printable characters"),
        ({"type": "com.example.lost"}, "type", "publish it with PUT /event-hooks/sources/"),
    ],
)
def test_names_that_cannot_be_emitted(change: dict[str, str], attribute: str, text: str) -> None:
    """What is wrong with a name is told of the attribute that it was made from."""
    problem = refusal(PAID | change)

    assert problem.fields is not None
    assert list(problem.fields["[0]"]) == [attribute]
    assert text in problem.fields["[0]"][attribute]


def test_the_message_says_how_to_publish() -> None:
    """The path in it can be copied: it has the names, escaped once more."""
    problem = refusal(PAID | {"type": "a/b"})

    assert "/event-hooks/sources/https%3A%252F%252Fshop.example%252Forders/a%252Fb" in str(problem)
    assert emit(PAID | {"type": "a/b"}, allow_unpublished=True)


@given(st.binary(max_size=200), st.sampled_from([JSON, "", STRUCTURED, BATCH, "text/plain"]))
def test_hostile_bodies_are_refused_or_read(body: bytes, kind: str) -> None:
    """No body whatsoever is an unexpected error."""
    try:
        read(body, kind, kind, [(b"ce-id", body)])
    except RequestError:
        return


HEALTH = {"specversion": "1.0", "id": "h1", "source": "balancer", "type": "health"}


async def test_the_api_takes_every_mode(api: Api) -> None:
    """One event each, 202, and the feed shows it with its attributes."""
    as_json = {"content-type": f"{STRUCTURED}; charset=utf-8"}
    one = await api.client.post("/events", content=msgspec.json.encode(HEALTH), headers=as_json)
    batch = msgspec.json.encode([HEALTH | {"id": "h2", "subject": "s"}])
    two = await api.client.post("/events", content=batch, headers={"content-type": BATCH})
    headers = {f"ce-{key}": value for key, value in HEALTH.items()} | {"ce-id": "h3"}
    three = await api.client.post("/events", json={"ip": "10.0.0.5"}, headers=headers)
    shown = (await api.client.get("/events")).json()["data"]

    assert [each.status_code for each in (one, two, three)] == [202, 202, 202]
    assert three.json() == {"positions": [3], "ids": ["h3"], "repeated": False}
    assert [event["source"] for event in shown] == ["balancer"] * 3
    assert shown[1]["cloudevent"] == {"source": "balancer", "subject": "s", "type": "health"}
    assert shown[2]["data"] == {"ip": "10.0.0.5"}


async def test_a_source_and_id_count_once(api: Api) -> None:
    """CloudEvents' own rule, whatever the mode; the same id for something else is a conflict."""
    headers = {"content-type": STRUCTURED}
    for expected in (False, True):
        body = msgspec.json.encode(HEALTH)
        answer = await api.client.post("/events", content=body, headers=headers)
        assert answer.json() == {"positions": [1], "ids": ["h1"], "repeated": expected}
    body = msgspec.json.encode(HEALTH | {"subject": "other"})

    assert (await api.client.post("/events", content=body, headers=headers)).status_code == 409
    assert api.log.head == 1


async def test_an_event_is_found_by_source_and_id(api: Api) -> None:
    """The source may be given as the sender knows it, or by our name for it."""
    path = "/event-hooks/sources/%252Fshop/paid"
    assert (await api.client.put(path, json={})).status_code == 200
    body = msgspec.json.encode(PAID | {"source": "/shop", "type": "paid"})
    await api.client.post("/events", content=body, headers={"content-type": STRUCTURED})

    for source in ("/shop", "%2Fshop"):
        found = await api.client.get("/events/A234", params={"source": source})
        assert found.json()["data"] == {"amount": 12.5}


async def test_an_empty_batch_is_nothing(api: Api) -> None:
    """Allowed by the specification, and stores nothing."""
    answer = await api.client.post("/events", content=b"[]", headers={"content-type": BATCH})

    assert (answer.status_code, answer.json()["positions"]) == (202, [])
    assert api.log.head == 0


async def test_headers_belong_to_the_content_of_a_request(api: Api) -> None:
    """Under one idempotency key, another event in the headers is another request."""
    headers = {f"ce-{key}": value for key, value in HEALTH.items()} | {"idempotency-key": "k"}
    first = await api.client.post("/events", json={}, headers=headers)
    again = await api.client.post("/events", json={}, headers=headers)
    other = await api.client.post("/events", json={}, headers=headers | {"ce-id": "h2"})

    assert (first.status_code, again.json()["repeated"], other.status_code) == (202, True, 409)
    assert api.log.head == 1


async def test_a_refusal_names_the_attribute(api: Api) -> None:
    """In Kong's form."""
    body = msgspec.json.encode(HEALTH | {"time": "x"})
    answer = await api.client.post("/events", content=body, headers={"content-type": STRUCTURED})

    assert answer.status_code == 400
    assert answer.json() == {
        "message": "schema violation (time: expected a timestamp like 2026-01-31T12:00:00Z)",
        "name": "schema violation",
        "fields": {"time": "expected a timestamp like 2026-01-31T12:00:00Z"},
        "code": 2,
    }

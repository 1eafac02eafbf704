"""CloudEvents out, as the official SDK reads them from a real request."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from delivery.address import AddressPolicy
from delivery.cloudevents import origin
from delivery.egress import Egress
from delivery.outcome import Delivery
from delivery.signing import kong_signature
from delivery.webhook import Webhook, validate
from eventstore.codec import encode
from eventstore.events import CloudEvent, EventEmitted
from eventstore.records import Kind, RecordedEvent
from projections.hooks import Hook
from tests.receiver import Received, Receiver

FORMATS = ["cloudevents", "cloudevents-binary"]
NOW = 1_700_000_000.0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    policy = AddressPolicy.parse([], allow_loopback=True)
    async with Egress(policy, timeout=5, user_agent="hooktape/1.2.3") as egress:
        yield Webhook(egress, clock=lambda: NOW)


def hook(**config: Any) -> Hook:
    return Hook(
        id="h-1",
        workspace="w",
        version=1,
        source="crud",
        event=None,
        handler="webhook",
        on_change=False,
        snooze=None,
        created_at=0,
        updated_at=0,
        config=config,
    )


def delivery(of: Hook, data: dict[str, Any], **more: Any) -> Delivery:
    known: dict[str, Any] = {
        "id": "d-1",
        "hook": of,
        "seq": 1,
        "event_id": "e-1",
        "source": "crud",
        "event": "consumers",
        "data": data,
        "time_us": 1_627_581_878_000_001,
    }
    return Delivery(**known | more)


def came(data: dict[str, Any], wrapped: Any = "", **attributes: str | int | bool) -> EventEmitted:
    """What came as a CloudEvent."""
    known: dict[str, str | int | bool] = {"source": "/orders", "type": "paid"}
    return EventEmitted(
        data=msgspec.Raw(msgspec.json.encode(data)),
        id="A 1",
        cloudevent=CloudEvent(attributes=known | attributes, wrapped=wrapped),
    )


def read(receiver: Receiver) -> tuple[BaseCloudEvent, Received]:
    [request] = receiver.requests
    return from_http_event(HTTPMessage(dict(request.headers), request.body)), request


@pytest.mark.parametrize("form", FORMATS)
async def test_any_event_is_a_cloudevent(receiver: Receiver, webhook: Webhook, form: str) -> None:
    """The names under which the hook knows it, the log's id and time, and the payload as data."""
    data = {"operation": "create", "entity": {"username": "Zażółć"}}
    outcome = await webhook(delivery(hook(url=receiver.url, format=form), data))
    event, request = read(receiver)

    assert outcome.ok
    assert (event.get_id(), event.get_source(), event.get_type()) == ("e-1", "crud", "consumers")
    assert event.get_time() == datetime(2021, 7, 29, 18, 4, 38, 1, tzinfo=UTC)
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == data
    assert request.header("webhook-id") == "d-1"


@pytest.mark.parametrize("form", FORMATS)
async def test_names_are_escaped_where_they_must(
    receiver: Receiver, webhook: Webhook, form: str
) -> None:
    """A source is a URI-reference, and a type may be any text."""
    named = {"source": "my source", "event": 'zażółć "100%"'}
    await webhook(delivery(hook(url=receiver.url, format=form), {}, **named))
    event, _ = read(receiver)

    assert (event.get_source(), event.get_type()) == ("my%20source", 'zażółć "100%"')


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("data", "wrapped", "attributes", "expected"),
    [
        ({"a": 1}, "", {"subject": "ż 1", "sampled": 1}, {"a": 1}),
        ({"data": [1, 2]}, "data", {}, [1, 2]),
        ({"data": "text"}, "data", {}, "text"),
        ({"data": "<a/>"}, "data", {"datacontenttype": "application/xml"}, "<a/>"),
        ({"data_base64": "/wA="}, "data_base64", {"datacontenttype": "a/b"}, b"\xff\0"),
        ({"data_base64": "/wA="}, "data_base64", {}, b"\xff\0"),
        ({}, "none", {"dataschema": "urn:x"}, None),
    ],
)
async def test_what_came_as_a_cloudevent_goes_out_as_it_came(
    receiver: Receiver,
    webhook: Webhook,
    form: str,
    data: dict[str, Any],
    wrapped: str,
    attributes: dict[str, str | int | bool],
    expected: Any,
) -> None:
    """Every attribute and the data, whatever their types; binary headers know text only."""
    emitted = came(data, wrapped, **attributes)
    await webhook(delivery(hook(url=receiver.url, format=form), data, origin=emitted))
    event, _ = read(receiver)
    got = event.get_attributes()

    assert (event.get_id(), event.get_source(), event.get_type()) == ("A 1", "/orders", "paid")
    assert {key: str(got[key]) for key in attributes} == {k: str(v) for k, v in attributes.items()}
    assert event.get_data() == expected


@pytest.mark.parametrize("form", FORMATS)
async def test_the_exact_body_is_signed(receiver: Receiver, webhook: Webhook, form: str) -> None:
    """As in Kong's own format."""
    await webhook(delivery(hook(url=receiver.url, format=form, secret="s"), {"a": 1}))
    _, request = read(receiver)

    assert request.header("x-kong-signature") == kong_signature("s", request.body)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_hooks_headers_do_not_change_the_event(
    receiver: Receiver, webhook: Webhook, form: str
) -> None:
    """They are added; the content type and the attributes are those of the event.

    Such a hook is refused; one that got through does no harm.
    """
    headers = {"Content-Type": "text/plain", "CE-Id": "forged", "X-Team": "a"}
    await webhook(delivery(hook(url=receiver.url, format=form, headers=headers), {"a": 1}))
    event, request = read(receiver)

    config = {"url": receiver.url, "format": form, "headers": headers}
    assert list(validate(config)) == ["config.headers.Content-Type", "config.headers.CE-Id"]
    assert validate(config | {"format": "kong"}) == {}
    assert (request.header("x-team"), event.get_datacontenttype()) == ("a", "application/json")
    assert form == "cloudevents" or request.header("ce-id") == "e-1"


@pytest.mark.parametrize("form", FORMATS)
async def test_what_is_sent_by_hand_has_an_id_and_a_time(
    receiver: Receiver, webhook: Webhook, form: str
) -> None:
    """`/test` and `/ping` are no events of the log: the delivery's id and the present."""
    by_hand = {"seq": 0, "event_id": "0", "time_us": 0}
    await webhook(delivery(hook(url=receiver.url, format=form), {}, **by_hand))
    event, _ = read(receiver)

    assert event.get_id() == "d-1"
    assert event.get_time() == datetime.fromtimestamp(NOW, tz=UTC)


def test_only_cloudevents_for_such_hooks_are_looked_into() -> None:
    """Kong's format never needs more than the payload."""
    event = came({"a": 1})
    plain = EventEmitted(data=msgspec.Raw(b"{}"), id="1")

    assert origin(recorded(event), hook(format="cloudevents")) == event
    assert origin(recorded(event), hook()) is None
    assert origin(recorded(plain), hook(format="cloudevents")) is None


def recorded(body: EventEmitted) -> RecordedEvent:
    type_, version, raw = encode(body)
    return RecordedEvent(
        seq=1,
        stream="emitted/a/b",
        version=0,
        event_id=bytes(16),
        type=type_,
        schema_version=version,
        kind=Kind.EMITTED,
        time_us=0,
        wall_us=0,
        workspace="w",
        actor=None,
        request_id=None,
        subject=None,
        body=raw,
    )

"""CloudEvents through the whole service, with the official SDK at both ends."""

from datetime import UTC, datetime
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_http_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from tests.receiver import Received, Receiver
from tests.service import Service

MOMENT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
ATTRIBUTES: dict[str, Any] = {
    "id": 'order "7" ż 100 %',
    "source": "https://shop.example/orders?region=eu%20west",
    "type": "com.example/order.paid",
    "time": MOMENT,
    "subject": "żółw",
    "dataschema": "https://shop.example/schemas/order",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
NAMES = ("https:%2F%2Fshop.example%2Forders?region=eu%2520west", "com.example%2Forder.paid")

FORMATS = ("cloudevents", "cloudevents-binary")
CONTENTS: list[tuple[str | None, Any]] = [
    ("application/json", {"order": {"amount": 12.5, "lines": [1, None, True]}}),
    ("text/plain", "just text: zażółć"),
    ("application/octet-stream", b"\x00\xff\xfe"),
    (None, {"order": 1}),
    ("application/json", None),
]


async def test_events_arrive_as_they_were_sent(service: Service, receiver: Receiver) -> None:
    """Attributes, extensions and data, from either mode to either mode."""
    sent: dict[str, CloudEvent] = {}
    for form in FORMATS:
        await subscribe(service, receiver, form)
    for sending in (to_binary_event, to_structured_event):
        for kind, data in CONTENTS:
            id_ = f"{ATTRIBUTES['id']} {len(sent)}"
            given = ATTRIBUTES | {"id": id_} | ({"datacontenttype": kind} if kind else {})
            sent[id_] = CloudEvent(given, data)
            await post(service, sending(sent[id_]))
    arrived = await receiver.wait_for(len(FORMATS) * (1 + len(sent)))

    for form in FORMATS:
        got = [event(each) for each in arrived if each.path == f"/{form}"]
        by_id = {each.get_id(): each for each in got if each.get_type() != "ping"}
        assert by_id.keys() == sent.keys()
        for id_, each in by_id.items():
            assert each.get_data() == sent[id_].get_data()
            assert each.get_attributes() == attributes(sent[id_])


def attributes(sent: CloudEvent) -> dict[str, Any]:
    """As sent; where no type was said, JSON is."""
    kept = sent.get_attributes()
    if sent.get_data() is None:
        return {name: value for name, value in kept.items() if name != "datacontenttype"}
    return {"datacontenttype": "application/json"} | kept


async def test_a_batch_is_taken_once(service: Service, receiver: Receiver) -> None:
    """The array of the JSON format; sent again, nothing more is stored."""
    events = [CloudEvent(ATTRIBUTES | {"id": str(n)}, {"n": n}) for n in range(3)]
    bodies = b",".join(to_structured_event(event).body for event in events)
    headers = {"content-type": "application/cloudevents-batch+json"}
    await subscribe(service, receiver, "cloudevents")
    for repeated in (False, True):
        answer = await service.client.post("/events", content=b"[%s]" % bodies, headers=headers)
        assert (answer.status_code, answer.json()["repeated"]) == (202, repeated)
    arrived = await receiver.wait_for(4)

    got = [event(each) for each in arrived]
    assert sorted(each.get_id() for each in got if each.get_type() != "ping") == ["0", "1", "2"]


async def test_kongs_own_events_go_out_as_cloudevents(service: Service, receiver: Receiver) -> None:
    """A crud event, its ping first; the id is that of the log, and the hook's view shows why."""
    config = {"url": receiver.url, "format": "cloudevents"}
    hook = {"source": "crud", "event": "consumers", "handler": "webhook", "config": config}
    created = await service.post("/event-hooks", hook)
    consumer = await service.post("/consumers", {"username": "Ada"})
    by_type = {event(each).get_type(): each for each in await receiver.wait_for(2)}
    arrived = event(by_type["consumers"])
    feed = await service.feed()

    assert created["config"]["format"] == "cloudevents"
    assert by_type.keys() == {"ping", "consumers"}
    assert by_type["ping"].header("content-type") == "application/cloudevents+json"
    assert (arrived.get_source(), arrived.get_id()) == ("crud", feed[-1]["id"])
    data: Any = arrived.get_data()
    assert data["entity"]["id"] == consumer["id"]


async def subscribe(service: Service, receiver: Receiver, form: str) -> None:
    source, name = NAMES
    path = f"/event-hooks/sources/{escaped(source)}/{escaped(name)}"
    (await service.client.put(path, json={})).raise_for_status()
    config = {"url": f"{receiver.url}/{form}", "format": form}
    hook = {"source": source, "event": name, "handler": "webhook", "config": config}
    await service.post("/event-hooks", hook)


async def post(service: Service, message: HTTPMessage) -> None:
    headers = dict(message.headers)
    answer = await service.client.post("/events", content=message.body, headers=headers)

    assert answer.status_code == 202, answer.text


def event(arrived: Received) -> BaseCloudEvent:
    """What the SDK makes of a request."""
    return from_http_event(HTTPMessage(dict(arrived.headers), arrived.body))


def escaped(name: str) -> str:
    return name.replace("%", "%25").replace("?", "%3F")

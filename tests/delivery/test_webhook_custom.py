"""The `webhook-custom` handler: requests made from templates, byte for byte."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from delivery.address import AddressPolicy
from delivery.breaker import Breaker
from delivery.egress import Egress
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.outcome import Delivery, Outgoing
from delivery.rendering import Renderer
from delivery.signing import kong_signature
from delivery.webhook_custom import MAX_TEMPLATES, WebhookCustom
from projections.hooks import Hook
from tests.receiver import Receiver

JSON = {"content-type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def handler() -> AsyncIterator[WebhookCustom]:
    async with (
        Egress(AddressPolicy.parse([], allow_loopback=True), timeout=1) as egress,
        WorkerPool.open(JailOptions(workers=1, spares=0)) as lua,
        WorkerPool.open(JailOptions(workers=1, spares=0, engine="jinja2")) as jinja,
    ):
        yield WebhookCustom(egress, Renderer(lua, jinja, Breaker()))


def delivery(data: dict[str, Any], *, dry_run: bool = False, **config: Any) -> Delivery:
    hook = Hook(
        id="h-1",
        workspace="w",
        version=1,
        source="crud",
        event="admins",
        handler="webhook-custom",
        on_change=False,
        snooze=None,
        created_at=0,
        updated_at=0,
        config={"method": "POST", **config},
    )
    return Delivery(
        id="d-1",
        hook=hook,
        seq=1,
        event_id="e-1",
        source="crud",
        event="admins",
        data=data,
        time_us=0,
        dry_run=dry_run,
    )


async def outgoing(
    handler: WebhookCustom, data: dict[str, Any] | None = None, **config: Any
) -> Outgoing:
    """What would be sent, without the headers that name and sign it."""
    config = {"url": "http://receiver.test/", **config}
    outcome = await handler(delivery(data or {}, dry_run=True, **config))
    assert outcome.request is not None, outcome.reason
    headers = outcome.request.headers
    own = {name: text for name, text in headers.items() if not name.startswith("webhook-")}
    return msgspec.structs.replace(outcome.request, headers=own)


async def test_the_slack_example_of_the_documentation(
    receiver: Receiver, handler: WebhookCustom
) -> None:
    """A new admin is announced with the published text, signed over what was sent."""
    text = (
        "Admin account `{{ entity.username }}` {{ operation}}d;"
        " email address set to `{{ entity.email }}`"
    )
    data = {
        "entity": {"username": "Arya Stark", "email": "arya@gameofthrones.com"},
        "operation": "create",
    }

    outcome = await handler(
        delivery(data, url=receiver.url, headers=JSON, payload={"text": text}, secret="s3")
    )

    [request] = receiver.requests
    assert outcome.ok
    assert request.method == "POST"
    assert request.header("content-type") == "application/json"
    assert request.header("x-kong-signature") == kong_signature("s3", request.body)
    assert msgspec.json.decode(request.body) == {
        "text": "Admin account `Arya Stark` created; email address set to `arya@gameofthrones.com`"
    }


async def test_templates_see_source_and_event(receiver: Receiver, handler: WebhookCustom) -> None:
    """They are in the context beside the data, as in a webhook's body."""
    await handler(delivery({}, url=receiver.url, body="{{ source }}/{{ event }}"))

    assert receiver.requests[0].body == b"crud/admins"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_payload_goes_out_as_json(handler: WebhookCustom, method: str) -> None:
    """Without a content type of its own it says so; nested templates are rendered."""
    payload = {"blocks": [{"text": "{{ a }}", "n": 1, "ok": True}], "x": None}

    assert await outgoing(handler, {"a": "<b>"}, method=method, payload=payload) == Outgoing(
        method,
        "http://receiver.test/",
        JSON,
        b'{"blocks":[{"text":"&lt;b&gt;","n":1,"ok":true}],"x":null}',
    )


async def test_a_payload_goes_out_as_a_form(handler: WebhookCustom) -> None:
    """When the content type says so; what is nested is spelled as Kong reads forms."""
    payload = {"text": "{* a *} & co", "list": ["x", {"y": 1.5}], "o": {"k": True}, "no": None}

    request = await outgoing(handler, {"a": "ż=1"}, headers=FORM, payload=payload)

    assert request.headers == {"content-type": FORM["Content-Type"]}
    assert request.body == b"text=%C5%BC%3D1+%26+co&list%5B1%5D=x&list%5B2%5D.y=1.5&o.k=true"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://receiver.test/x", "http://receiver.test/x?a=1&b=%26"),
        ("http://receiver.test/x?y=2#part", "http://receiver.test/x?y=2&a=1&b=%26#part"),
    ],
)
async def test_a_payload_goes_into_the_query(
    handler: WebhookCustom, method: str, url: str, target: str
) -> None:
    """For methods whose requests have no body."""
    request = await outgoing(
        handler, {"b": "&"}, method=method, url=url, payload={"a": 1, "b": "{* b *}"}
    )

    assert request == Outgoing(method, target, {}, b"")


async def test_a_get_with_a_payload(receiver: Receiver, handler: WebhookCustom) -> None:
    """The query arrives, and no body with it."""
    await handler(
        delivery({"ip": "10.0.0.5"}, url=receiver.url, method="GET", payload={"ip": "{{ ip }}"})
    )

    [request] = receiver.requests
    assert (request.method, request.target, request.body) == ("GET", "/?ip=10.0.0.5", b"")


async def test_the_body_wins(handler: WebhookCustom) -> None:
    """It is sent as it is, and no content type is invented for it."""
    request = await outgoing(
        handler, {"a": "żółw"}, body='{"t":"{{ a }}"}', payload={"ignored": "{{ a.b.c }}"}
    )

    assert (request.headers, request.body) == ({}, '{"t":"żółw"}'.encode())


async def test_neither_body_nor_payload(handler: WebhookCustom) -> None:
    """An empty request is a request."""
    assert await outgoing(handler) == Outgoing("POST", "http://receiver.test/", {}, b"")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"body": "{{ a }}", "body_format": False}, ({}, b"{{ a }}")),
        (
            {"payload": {"t": "{% if %}"}, "payload_format": False},
            (JSON, b'{"t":"{% if %}"}'),
        ),
        ({"headers": {"X-A": "{{ a }}"}}, ({"x-a": "{{ a }}"}, b"")),
        ({"headers": {"X-A": "{{ a }}"}, "headers_format": True}, ({"x-a": "v"}, b"")),
    ],
)
async def test_each_flag_switches_its_templates(
    handler: WebhookCustom, config: dict[str, Any], expected: tuple[dict[str, str], bytes]
) -> None:
    """Body and payload are templates unless told otherwise, headers the other way round."""
    request = await outgoing(handler, {"a": "v"}, **config)

    assert (request.headers, request.body) == expected


async def test_an_event_cannot_add_headers(receiver: Receiver, handler: WebhookCustom) -> None:
    """Line breaks are taken out of rendered headers; what remains unsendable is not sent."""
    config: dict[str, Any] = {
        "url": receiver.url,
        "headers": {"X-A": "{* a *}"},
        "headers_format": True,
    }

    split = await handler(delivery({"a": "1\r\nX-B: 2"}, **config))
    nul = await handler(delivery({"a": "1\0"}, **config))

    assert split.ok
    assert receiver.requests[0].header("x-a") == "1X-B: 2"
    assert (nul.ok, nul.retryable) == (False, False)
    assert nul.reason == "config.headers.x-a: control characters cannot be sent in a header"
    assert len(receiver.requests) == 1


async def test_a_template_that_fails_sends_nothing(
    receiver: Receiver, handler: WebhookCustom
) -> None:
    """The outcome has the line; another attempt would fail the same way."""
    config: dict[str, Any] = {
        "url": receiver.url,
        "body": "fine {{ source }}\n{{ entity.owner.name }}",
    }

    outcome = await handler(delivery({"entity": {}}, **config))

    assert (outcome.ok, outcome.retryable) == (False, False)
    assert (
        outcome.reason
        == "template config.body: line 2: `entity.owner.name` looks for 'name' in nothing"
    )
    assert receiver.accepted == 0


async def test_the_templates_of_a_request_share_one_budget(handler: WebhookCustom) -> None:
    """Many small templates cannot do what one large may not."""
    payload = {str(n): "{{ long }}" for n in range(20)}

    outcome = await handler(delivery({"long": "x" * 100_000}, url="http://a/", payload=payload))

    assert (outcome.ok, outcome.retryable) == (False, False)
    assert "too long" in str(outcome.reason)


async def test_validation_names_every_field(handler: WebhookCustom) -> None:
    """At creation all faulty templates, headers and the secret are reported by path."""
    config = {
        "url": "http://receiver.test/",
        "method": "POST",
        "body": "{% if a then %}",
        "payload": {"text": "ok {{ a }}", "bad": ["{{ a }}", {"x.y": "{{ a b }}"}]},
        "headers": {"X-A": "{{ or }}", "Host": "x"},
        "headers_format": True,
        "secret": "whsec_?",
    }

    assert {
        path: text.partition(":")[0] for path, text in (await handler.validate("w", config)).items()
    } == {
        "config.body": "line 1",
        "config.payload.bad.2.x%2Ey": "line 1",
        "config.headers.X-A": "line 1",
        "config.headers.Host": "this header cannot be set by a hook",
        "config.secret": "what follows whsec_ must be base64",
    }


async def test_what_is_not_a_template_is_not_compiled(handler: WebhookCustom) -> None:
    """Flags count at creation, too, with Kong's defaults."""
    text = "{% if a then %}"

    assert await handler.validate("w", {"headers": {"X-A": text}}) == {}
    assert await handler.validate("w", {"body": text, "body_format": False, "payload": None}) == {}
    assert await handler.validate("w", {"payload": {"t": text}, "payload_format": False}) == {}
    assert list(await handler.validate("w", {"payload": {"t": text}})) == ["config.payload.t"]


async def test_the_templates_of_a_hook_are_bounded_together(handler: WebhookCustom) -> None:
    """So that no configuration can make each delivery slow."""
    half = "x" * (MAX_TEMPLATES // 2)

    assert await handler.validate("w", {"payload": {"a": half, "b": half}}) == {}
    assert list(await handler.validate("w", {"payload": {"a": half, "b": half, "c": "x"}})) == [
        "config.payload.c"
    ]


async def test_a_body_that_is_not_the_json_it_claims_to_be_is_logged(
    receiver: Receiver, handler: WebhookCustom, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent as it is, for the receiver decides; and the operator can see why it complains."""
    body = '{"t":"{* a *}"}'
    for headers in (JSON, {"content-type": "text/plain"}):
        await handler(delivery({"a": '"'}, url=receiver.url, headers=headers, body=body))
    await handler(delivery({"a": "fine"}, url=receiver.url, headers=JSON, body=body))

    assert [request.body for request in receiver.requests[:2]] == [b'{"t":"""}'] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "hook h-1: the body is not the JSON that its headers promise"
    ]


async def test_a_dry_run_shows_and_sends_nothing(
    receiver: Receiver, handler: WebhookCustom
) -> None:
    """The request is complete, signature included."""
    config: dict[str, Any] = {"url": receiver.url, "body": "{{ a }}", "secret": "s3"}
    outcome = await handler(delivery({"a": "x"}, dry_run=True, **config))

    assert outcome.ok
    assert outcome.request is not None
    assert outcome.request.headers["x-kong-signature"] == kong_signature("s3", b"x")
    assert receiver.accepted == 0

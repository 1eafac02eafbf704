"""The `webhook` handler: what a receiver gets, over a real connection."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook as Verifier

from delivery.address import AddressPolicy
from delivery.egress import Egress
from delivery.outcome import Delivery
from delivery.signing import kong_signature
from delivery.webhook import PROTECTED_HEADERS, Webhook, validate
from projections.hooks import Hook
from tests.receiver import Received, Receiver, answer, hang

NOW = 1_700_000_000.0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    policy = AddressPolicy.parse([], allow_loopback=True)
    async with Egress(policy, timeout=0.5, user_agent="hooktape/1.2.3") as egress:
        yield Webhook(egress, clock=lambda: NOW)


def delivery(data: dict[str, Any], **config: Any) -> Delivery:
    hook = Hook(
        id="h-1",
        workspace="w",
        version=1,
        source="crud",
        event="consumers",
        handler="webhook",
        on_change=False,
        snooze=None,
        created_at=0,
        updated_at=0,
        config=config,
    )
    return Delivery(
        id="d-1",
        hook=hook,
        seq=1,
        event_id="e-1",
        source="crud",
        event="consumers",
        data=data,
        time_us=0,
    )


def sent(receiver: Receiver) -> tuple[Received, dict[str, str]]:
    """The only request, and its headers by lower-case name."""
    [request] = receiver.requests
    return request, {name.lower(): value for name, value in request.headers}


async def test_the_payload_is_posted_with_its_source_and_event(
    receiver: Receiver, webhook: Webhook
) -> None:
    """A consumer's creation arrives as in Kong's documentation, and says who sent it."""
    entity = {"id": "0fd2319f", "username": "Ada Lovelace", "type": 0, "created_at": 1627581878}
    data = {"operation": "create", "schema": "consumers", "entity": entity}

    outcome = await webhook(delivery(data, url=f"{receiver.url}/hook?x=1", headers={}))

    request, headers = sent(receiver)
    assert outcome.ok
    assert (request.method, request.target) == ("POST", "/hook?x=1")
    assert msgspec.json.decode(request.body) == {**data, "source": "crud", "event": "consumers"}
    assert headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": "hooktape/1.2.3",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(request.body)),
        "webhook-id": "d-1",
        "webhook-timestamp": "1700000000",
    }


async def test_a_ping_is_a_delivery_like_any_other(receiver: Receiver, webhook: Webhook) -> None:
    """Whoever prepares it gives the names and the data; the handler adds nothing else."""
    hook = {"id": "h-1", "source": "crud", "handler": "webhook"}
    ping = msgspec.structs.replace(
        delivery({"event_hooks": hook, "operation": "create"}, url=receiver.url),
        source="kong:event_hooks",
        event="ping",
    )

    await webhook(ping)

    request, _ = sent(receiver)
    assert msgspec.json.decode(request.body) == {
        "event_hooks": hook,
        "operation": "create",
        "source": "kong:event_hooks",
        "event": "ping",
    }


async def test_names_in_the_data_do_not_hide_the_event(
    receiver: Receiver, webhook: Webhook
) -> None:
    """`source` and `event` at the top level are always those of the delivery."""
    await webhook(delivery({"source": "forged", "event": "forged"}, url=receiver.url))

    request, _ = sent(receiver)
    assert msgspec.json.decode(request.body) == {"source": "crud", "event": "consumers"}


async def test_headers_of_the_hook(receiver: Receiver, webhook: Webhook) -> None:
    """They are added, and may replace the content type and the user agent in any spelling."""
    custom = {"Content-type": "application/vnd.x+json", "X-Team": "zażółć", "USER-AGENT": "ours"}

    await webhook(delivery({}, url=receiver.url, headers=custom))

    _, headers = sent(receiver)
    assert headers["content-type"] == "application/vnd.x+json"
    assert headers["x-team"].encode("latin-1").decode() == "zażółć"
    assert headers["user-agent"] == "ours"


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
async def test_signatures_cover_the_bytes_sent(
    receiver: Receiver, webhook: Webhook, algorithm: str
) -> None:
    """Kong's signature and that of Standard Webhooks both verify over the body as received."""
    secret = "whsec_" + base64.b64encode(b"sixteen byte key").decode()
    config = {"secret": secret, "signature_algorithm": algorithm}

    await webhook(delivery({"name": "żółw"}, url=receiver.url, **config))

    request, headers = sent(receiver)
    assert headers["x-kong-signature"] == kong_signature(secret, request.body, algorithm)  # type: ignore[arg-type]
    expected = Verifier(secret).sign("d-1", _moment(), request.body.decode())
    assert headers["webhook-signature"] == expected


@pytest.mark.parametrize(
    ("headers", "secret", "path"),
    [
        ({"X-A": "one\r\nX-B: two"}, None, "config.headers.X-A"),
        ({"X-A": "nul\0"}, None, "config.headers.X-A"),
        ({"X A": "1"}, None, "config.headers.X A"),
        ({"": "1"}, None, "config.headers."),
        ({"żółw": "1"}, None, "config.headers.żółw"),
        ({"Host": "elsewhere"}, None, "config.headers.Host"),
        ({"Webhook-Id": "forged"}, None, "config.headers.Webhook-Id"),
        ({}, "whsec_?", "config.secret"),
    ],
)
async def test_what_cannot_be_sent_is_refused(
    receiver: Receiver, webhook: Webhook, headers: dict[str, str], secret: str | None, path: str
) -> None:
    """At creation with the field's path, and should it get through, at delivery without a retry."""
    config = {"url": receiver.url, "headers": headers, "secret": secret}

    outcome = await webhook(delivery({}, **config))

    assert list(validate(config)) == [path]
    assert (outcome.ok, outcome.retryable) == (False, False)
    assert str(outcome.reason).startswith(f"{path.lower()}: ")
    assert receiver.accepted == 0


async def test_a_dry_run_shows_the_signed_request(receiver: Receiver, webhook: Webhook) -> None:
    """Nothing is sent."""
    planned = delivery({"a": 1}, url=receiver.url, secret="s3")
    outcome = await webhook(msgspec.structs.replace(planned, dry_run=True))

    assert receiver.accepted == 0
    assert outcome.ok
    assert outcome.request is not None
    assert "x-kong-signature" in outcome.request.headers
    assert msgspec.json.decode(outcome.request.body)["a"] == 1


def test_all_problems_are_reported_at_once() -> None:
    """Every protected header is named, and a good configuration has no problems."""
    headers = dict.fromkeys(PROTECTED_HEADERS, "x")

    assert len(validate({"url": "http://x", "headers": headers, "secret": "whsec_?"})) == (
        len(PROTECTED_HEADERS) + 1
    )
    assert validate({"url": "http://x", "headers": {"X-A": "tab\tand ż"}, "secret": "s"}) == {}
    assert validate({"url": "http://x", "headers": None}) == {}


async def test_failures_are_outcomes(receiver: Receiver, webhook: Webhook) -> None:
    """What the receiver does wrong comes back as a value with the answer, if there was one."""
    receiver.script("/bad", answer(500, body=b"broken"))
    receiver.script("/hang", hang)

    bad = await webhook(delivery({}, url=f"{receiver.url}/bad"))
    slow = await webhook(delivery({}, url=f"{receiver.url}/hang"))

    assert bad.response is not None
    assert (bad.ok, bad.status, bad.response.body) == (False, 500, "broken")
    assert (slow.ok, slow.reason) == (False, "no complete answer within 0.5 s")


def _moment() -> datetime:
    return datetime.fromtimestamp(NOW, tz=UTC)

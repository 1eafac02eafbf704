"""What the Admin API answers and what receivers can check, as documented."""

import hmac

import pytest
from standardwebhooks import Webhook

from tests.e2e.documents.lines import ADA, Curl, arrived
from tests.receiver import Receiver
from tests.service import Service


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
async def test_a_secret_signs_the_bytes_that_arrive(
    curl: Curl, service: Service, receiver: Receiver, algorithm: str
) -> None:
    """`x-kong-signature` in both its algorithms, and the headers of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    await curl(
        r"""
        curl -i -X POST http://localhost:8001/event-hooks \
          -d source=crud -d event=consumers -d handler=webhook -d config.url=$URL \
        """
        f"-d config.secret={secret} -d config.signature_algorithm={algorithm}"
    )
    await curl(ADA)
    bodies = await arrived(receiver, 2)

    for request, body in zip(receiver.at("/hook"), bodies, strict=True):
        headers = {name.lower(): value for name, value in request.headers}
        signature = hmac.new(secret.encode(), request.body, algorithm).hexdigest()
        assert headers["x-kong-signature"] == f"{algorithm}={signature}"
        assert Webhook(secret).verify(request.body, headers) == body
        assert secret.encode() not in request.body
    assert len({request.header("webhook-id") for request in receiver.at("/hook")}) == 2


async def test_the_documented_test_of_a_hook(curl: Curl, receiver: Receiver) -> None:
    """`/test` sends any payload with the hook's names merged in, and shows the target's answer."""
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud -d event=consumers -d handler=webhook -d config.url={WEBHOOK_URL}
        """
    )
    answer = await curl(
        rf"""
        curl -i -X POST http://{{HOSTNAME}}:8001/event-hooks/{hook["id"]}/test \
          -H 'content-type: application/json' -d '{{"consumer":{{"username":"Jane Austen"}}}}'
        """
    )
    bodies = await arrived(receiver, 2)

    sent = {"consumer": {"username": "Jane Austen"}, "event": "consumers", "source": "crud"}
    assert answer == {
        "data": sent,
        "result": {"body": "", "headers": {"Content-Length": "0"}, "status": 200},
    }
    assert sent in bodies


async def test_the_documented_ping(curl: Curl, receiver: Receiver) -> None:
    """`/ping` sends what it answers with: the hook, its nulls included."""
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud -d event=consumers -d handler=webhook -d config.url={WEBHOOK_URL}
        """
    )
    answer = await curl(f"curl -i http://{{HOSTNAME}}:8001/event-hooks/{hook['id']}/ping")
    bodies = await arrived(receiver, 2)

    shown = hook | {"config": hook["config"] | {"headers": {"content-type": "application/json"}}}
    assert answer == {"source": "kong:event_hooks", "event": "ping", "event_hooks": shown}
    assert answer in bodies


@pytest.mark.parametrize(
    ("algorithm", "signature"),
    [
        ("sha1", "73a2ad9339361271db02ce089327f912cbc4d3f2"),
        ("sha256", "4f4bb3a54e99c4a20e243485229f9b08c66e09104ba6f79c23ce647242a4ce84"),
    ],
)
async def test_a_known_body_has_its_known_signature(
    service: Service, receiver: Receiver, algorithm: str, signature: str
) -> None:
    """Computed elsewhere: the HMACs of one body with the secret `secret`."""
    config = {
        "url": f"{receiver.url}/hook",
        "method": "POST",
        "body": '{"event":"ping"}',
        "secret": "secret",
        "signature_algorithm": algorithm,
    }
    body = {"source": "crud", "handler": "webhook-custom", "config": config}
    hook = await service.post("/event-hooks", body)
    await service.post(f"/event-hooks/{hook['id']}/test", {})

    [request] = receiver.requests
    assert request.body == b'{"event":"ping"}'
    assert request.header("x-kong-signature") == f"{algorithm}={signature}"

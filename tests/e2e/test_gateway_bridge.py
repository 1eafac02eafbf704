"""A plain gateway's reports become event hooks: the recipe, from the plugin's body to a message."""

from pathlib import Path

import msgspec

from tests.api.kong_records import CONSUMER, MINUTE, SECRETS, failed, limited, record
from tests.receiver import Receiver
from tests.service import serving

EVERYTHING = "http-log/log,rate-limiting-advanced/rate-limit-exceeded,balancer/health"
TEXTS = {
    "rate-limiting-advanced": "{{ consumer.username }} exceeded {{ limit }} a {{ window }}",
    "balancer": "{{ hostname }} ({{ ip }}:{{ port }}) is {{ health }}",
}


async def test_reports_become_messages(tmp_path: Path, receiver: Receiver) -> None:
    """Hooks fire on what was derived, once however often it is reported, and no secret is kept."""
    directory = tmp_path / "data"
    batch = [
        record("a"),
        limited(MINUTE, consumer=CONSUMER, request={"id": "b"}),
        record("c", tries=[failed("10.0.0.5", 8080), failed("10.0.0.5", 8080)]),
    ]
    async with serving(directory, ingest_events=EVERYTHING) as service:
        for source, text in TEXTS.items():
            config = {"url": receiver.url, "method": "POST", "payload": {"text": text}}
            hook = {"source": source, "handler": "webhook-custom", "config": config}
            await service.post("/event-hooks", hook)
        first = await service.post("/ingest/kong-http-log", batch)
        again = await service.post("/ingest/kong-http-log", batch)
        arrived = await receiver.wait_for(2)
        assert await service.stop() == 0

    assert first | {"repeated": True} == again
    assert (first["records"], len(first["positions"])) == (3, 5)
    assert {msgspec.json.decode(each.body)["text"] for each in arrived} == {
        "Ada exceeded 3 a minute",
        "httpbin.konghq.com (10.0.0.5:8080) is unhealthy",
    }
    assert len(receiver.requests) == 2
    stored = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert CONSUMER["id"].encode() in stored
    assert [secret for secret in SECRETS if secret.encode() in stored] == []

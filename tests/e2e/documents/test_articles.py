"""Lines from articles about event hooks, cited at each, and two made up from what these describe.

Rendered text is compared byte for byte, JSON as parsed values.
"""
# ruff: noqa: E501 -- a line stays as it was published

from tests.e2e.documents.lines import Curl, arrived
from tests.receiver import Receiver
from tests.service import Service, until

RATE_LIMIT = {
    "consumer": {"username": "Joe", "id": "0e6f4a2c-0f0a-4c55-a3a5-3c2e7e3f7b1d"},
    "ip": "10.42.0.1",
    "limit": 3,
    "rate": 4,
    "service": {"name": "test", "host": "httpbin.org", "port": 80, "enabled": True},
    "window": "minute",
}


async def test_slack_hears_of_an_exceeded_rate_limit(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """xibuka's article: quotes untouched, the blank at the end kept, nobody is an empty name."""
    await curl(
        r"""
        curl -k -X POST 'http://localhost:31001/event-hooks' \
            -H 'Kong-Admin-Token: kong' \
            --data "source=rate-limiting-advanced" \
            --data "event=rate-limit-exceeded" \
            --data "handler=webhook-custom" \
            --data "config.method=POST" \
            --data "config.headers.content-type=application/json" \
            --data "config.payload.text=Rate limit exceeded by username '{{ consumer.username }}' on service ' {{ service.name }}' (on server owned by $USER) " \
            --data "config.url=https://hooks.slack.com/services/TTTTTTTTT/YYYYYYYYYYY/xxxxxxxxxxxxxxxxxx"
        """
    )
    await service.emit("rate-limiting-advanced", "rate-limit-exceeded", RATE_LIMIT)
    [joe] = await arrived(receiver, 1)
    nobody = RATE_LIMIT | {"consumer": {}}
    await service.emit("rate-limiting-advanced", "rate-limit-exceeded", nobody)
    [_, anonymous] = await arrived(receiver, 2)

    text = "Rate limit exceeded by username '%s' on service ' test' (on server owned by ubuntu) "
    assert joe == {"text": text % "Joe"}
    assert anonymous == {"text": text % ""}


async def test_an_exceeded_rate_limit_is_logged(curl: Curl, service: Service) -> None:
    """The same article's second line: the handler `log` with the whole event."""
    await curl(
        r"""
        curl -k -X POST 'http://localhost:31001/event-hooks' \
            -H 'Kong-Admin-Token: kong' \
            --data "source=rate-limiting-advanced" \
            --data "event=rate-limit-exceeded" \
            --data "handler=log"
        """
    )
    nobody = RATE_LIMIT | {"consumer": {}}
    await service.emit("rate-limiting-advanced", "rate-limit-exceeded", nobody)
    [record] = await until(lambda: service.records("log callback"))

    assert record["data"] == nobody
    rows = [row[1:-1].rstrip() for row in record["message"].split("\n")[1:-1]]
    assert rows[:5] == [
        '"log callback: " { "rate-limit-exceeded", "rate-limiting-advanced", {',
        "    consumer = {},",
        '    ip = "10.42.0.1",',
        "    limit = 3,",
        "    rate = 4,",
    ]
    assert rows[-2:] == ['    window = "minute"', f"  }}, {service.process.pid} }}"]


async def test_a_login_is_seen_as_a_session(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """Kong's support article: one text for the creation, the update and the end of a session."""
    await curl(
        r"""
        curl -s -X POST https://api.kong.lan:8444/event-hooks -H 'content-type: application/json' -H 'Kong-Admin-Token: password' --data-raw '{"source":"crud","event":"sessions","handler":"webhook-custom","config":{"body_format":true,"method":"POST","payload_format":true,"headers_format":false,"payload":{"text":"webhook-custom for sessions : operation {{ operation }}, entity.session_id {{ entity.session_id }}, entity.expires {{ entity.expires }}, entity.data {{ entity.data }}, entity.created_at {{ entity.created_at }} schema {{ schema }}"},"url":"<endpoint>","headers":{"content-type":"application/json"},"ssl_verify":false}}'
        """
    )
    session = {"session_id": "abc", "expires": 1700000000, "data": "eyJ-_w|1"}
    created = await service.post("/sessions", session)
    await arrived(receiver, 1)
    await service.client.patch("/sessions/abc", json={"expires": 1700000600})
    await arrived(receiver, 2)
    await service.client.delete("/sessions/abc")
    bodies = await arrived(receiver, 3)

    text = (
        "webhook-custom for sessions : operation {}, entity.session_id abc, entity.expires {}, "
        "entity.data eyJ-_w|1, entity.created_at {} schema sessions"
    )
    at = created["created_at"]
    assert bodies == [
        {"text": text.format("create", 1700000000, at)},
        {"text": text.format("update", 1700000600, at)},
        {"text": text.format("delete", 1700000600, at)},
    ]


async def test_a_workspace_warns_of_spent_tokens_once_a_minute(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """A Korean article on AI rate limits: a raw body, in a workspace, snoozed for 60 seconds."""
    await curl("curl -i -X POST http://localhost:8001/workspaces -d name=team-a")
    hook = await curl(
        r"""
        curl -s -X POST $ADMIN/$WORKSPACE/event-hooks -H 'content-type: application/json' -d '{"source":"ai-rate-limiting-advanced","event":"rate-limit-exceeded","handler":"webhook-custom","snooze":60,"config":{"method":"POST","url":"$URL","ssl_verify":true,"headers":{"content-type":"application/json"},"body":"{\"text\":\"{{ username }}의 임계치 {{ threshold }}%에 도달했습니다. {{ remaining }} Token이 남았습니다.\"}","body_format":true}}'
        """
    )
    event = {
        "source": "ai-rate-limiting-advanced",
        "event": "rate-limit-exceeded",
        "data": {"username": "demo", "threshold": 80, "remaining": 2},
    }
    elsewhere = (await service.post("/events", event))["positions"][0]
    first = (await service.post("/team-a/events", event))["positions"][0]
    await arrived(receiver, 1)
    second = (await service.post("/team-a/events", event))["positions"][0]

    async def decided() -> str | None:
        state = (await service.states(second))[hook["id"]]
        return None if state == "pending" else state

    assert await until(decided) == "snooze"
    assert (await service.states(first))[hook["id"]] == "delivered"
    assert (await service.states(elsewhere))[hook["id"]] == "not_matched"
    [request] = receiver.at("/hook")
    text = '{"text":"demo의 임계치 80%에 도달했습니다. 2 Token이 남았습니다."}'
    assert request.body == text.encode()


async def test_an_unhealthy_target_is_reported(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """What Kong's first article on event hooks describes: the balancer's health events."""
    await curl(
        r"""
        curl -i -X POST http://localhost:8001/event-hooks \
          -d source=balancer -d event=health -d handler=webhook-custom -d config.method=POST \
          -d config.url=$SLACK -d config.headers.content-type=application/json \
          -d config.payload.text="{{ hostname }} ({{ ip }}:{{ port }}) is {{ health }}"
        """
    )
    health = {
        "upstream_id": "5c8e3f0e-2f6d-4b6f-9a35-6a3cf1d3d9c0",
        "hostname": "backend",
        "ip": "10.0.0.5",
        "port": 8080,
        "health": "unhealthy",
    }
    await service.emit("balancer", "health", health)
    [body] = await arrived(receiver, 1)

    assert body == {"text": "backend (10.0.0.5:8080) is unhealthy"}


async def test_an_extended_plugin_publishes_and_emits(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """Kong's article on plugins: its publish and emit, here over HTTP, and a webhook on them."""
    definition = {
        "fields": ["consumer", "ip", "service", "route"],
        "unique": ["consumer", "ip", "service"],
        "description": "Run an event for a request",
    }
    request = {"consumer": {}, "ip": "10.0.0.9", "service": {"name": "a"}, "route": {}}
    path = "/event-hooks/sources/http-log-team/log"
    (await service.client.put(path, json=definition)).raise_for_status()
    await curl(
        r"""
        curl -i -X POST http://localhost:8001/event-hooks \
          -d source=http-log-team -d event=log -d handler=webhook -d config.url=$URL
        """
    )
    await service.emit("http-log-team", "log", request)
    [_, body] = await arrived(receiver, 2)

    sources = (await service.get("/event-hooks/sources"))["data"]
    assert sources["http-log-team"] == {"log": definition}
    assert sources["http-log-enterprise"] == {"log": definition}
    assert body == request | {"source": "http-log-team", "event": "log"}

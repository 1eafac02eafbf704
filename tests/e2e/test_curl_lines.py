"""Lines that people wrote for Kong, typed into a shell as they are, and what they must cause.

Only the two addresses differ, see `conftest`. The lines are from Kong's documentation of event
hooks in its old and new form, from the articles cited at each, and some are made up from what these
describe. Rendered text is compared byte for byte, JSON as parsed values.
"""
# ruff: noqa: E501 -- a line stays as it was published

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from standardwebhooks import Webhook

from tests.e2e.conftest import Curl, Type
from tests.receiver import Receiver
from tests.service import Service, serving, shell, until

RATE_LIMIT = {
    "consumer": {"username": "Joe", "id": "0e6f4a2c-0f0a-4c55-a3a5-3c2e7e3f7b1d"},
    "ip": "10.42.0.1",
    "limit": 3,
    "rate": 4,
    "service": {"name": "test", "host": "httpbin.org", "port": 80, "enabled": True},
    "window": "minute",
}

ADA = r"""
curl -i -X POST http://{HOSTNAME}:8001/consumers \
  -d username="Ada Lovelace"
"""


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Starting a service takes longer than any of these tests, so they share one."""
    async with serving(tmp_path_factory.mktemp("shared") / "data") as service:
        yield service


@pytest.fixture
async def service(running: Service) -> AsyncIterator[Service]:
    """The shared service, left without hooks and people, and with an empty log."""
    yield running
    for path in ("/event-hooks", "/consumers", "/admins"):
        for entity in (await running.get(path))["data"]:
            await running.client.delete(f"{path}/{entity['id']}")
    running.forget()


def without_nulls(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if value is not None}


async def arrived(receiver: Receiver, count: int) -> list[Any]:
    """The first `count` bodies at the hook's target, as JSON."""
    with anyio.fail_after(10):
        requests = await receiver.wait_for(count, "/hook")
    return [json.loads(request.body) for request in requests]


async def test_a_webhook_pings_and_then_tells_of_a_new_consumer(
    curl: Curl, receiver: Receiver
) -> None:
    """The first example of Kong's documentation."""
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud \
          -d event=consumers \
          -d handler=webhook \
          -d config.url={WEBHOOK_URL}
        """
    )
    [ping] = await arrived(receiver, 1)
    consumer = await curl(ADA)
    [_, change] = await arrived(receiver, 2)

    assert hook == {
        "id": hook["id"],
        "created_at": hook["created_at"],
        "updated_at": hook["created_at"],
        "source": "crud",
        "event": "consumers",
        "handler": "webhook",
        "on_change": None,
        "snooze": None,
        "config": hook["config"],
    }
    assert (
        hook["config"].items()
        >= {
            "url": f"{receiver.url}/hook",
            "headers": {},
            "secret": None,
            "ssl_verify": True,
        }.items()
    )
    assert ping == {
        "source": "kong:event_hooks",
        "event": "ping",
        "operation": "create",
        "event_hooks": {
            **without_nulls(hook),
            "config": {
                **without_nulls(hook["config"]),
                "headers": {"content-type": "application/json"},
            },
        },
    }
    assert change == {
        "source": "crud",
        "event": "consumers",
        "operation": "create",
        "schema": "consumers",
        "entity": without_nulls(consumer),
    }
    assert consumer.items() >= {"username": "Ada Lovelace", "type": 0}.items()
    for request in receiver.at("/hook"):
        assert request.method == "POST"
        assert request.header("content-type") == "application/json"
        assert request.header("x-kong-signature") is None


async def test_slack_hears_of_an_invited_admin(curl: Curl, receiver: Receiver) -> None:
    """The second example: a template in a form field, with uneven blanks within its tags."""
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud \
          -d event=admins \
          -d handler=webhook-custom \
          -d config.method=POST \
          -d config.url={WEBHOOK_URL} \
          -d config.headers.content-type="application/json" \
          -d config.payload.text="Admin account \`{{ entity.username }}\` {{ operation}}d; email address set to \`{{ entity.email }}\`"
        """
    )
    await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/admins \
        -d username="Arya Stark" \
        -d email=arya@gameofthrones.com \
        -H Kong-Admin-Token:{KONG_ADMIN_PASSWORD}
        """
    )
    [body] = await arrived(receiver, 1)

    assert (
        hook["config"].items()
        >= {
            "body": None,
            "body_format": True,
            "headers": {"content-type": "application/json"},
            "headers_format": False,
            "method": "POST",
            "payload": {
                "text": "Admin account `{{ entity.username }}` {{ operation}}d; "
                "email address set to `{{ entity.email }}`"
            },
            "payload_format": True,
            "secret": None,
        }.items()
    )
    assert body == {
        "text": "Admin account `Arya Stark` created; email address set to `arya@gameofthrones.com`"
    }
    [request] = receiver.at("/hook")
    assert (request.method, request.header("content-type")) == ("POST", "application/json")


LOG_HOOK = r"""
curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
  -d source=crud \
  -d event=consumers \
  -d handler=log
"""

ELIZABETH = r"""
curl -i -X POST http://{HOSTNAME}:8001/consumers \
-d username="Elizabeth Bennet"
"""


async def test_a_log_hook_writes_one_record(service: Service, curl: Curl) -> None:
    """The third example, in a log of JSON lines: the names and the data are fields."""
    hook = await curl(LOG_HOOK)
    consumer = await curl(ELIZABETH)
    [record] = await until(lambda: service.records("log callback"))

    assert hook["config"] == {}
    assert record["level"] == "notice"
    assert (record["event"], record["source"]) == ("consumers", "crud")
    assert record["pid"] == service.process.pid
    assert record["data"] == {
        "operation": "create",
        "schema": "consumers",
        "entity": without_nulls(consumer),
    }


async def test_a_log_hook_draws_kongs_box(tmp_path: Path) -> None:
    """The same in a log of text: line for line what Kong prints, each line with its own head."""
    async with serving(tmp_path / "data", log_format="text") as service:
        for line in (LOG_HOOK, ELIZABETH):
            await shell(line.replace("http://{HOSTNAME}:8001", service.url), tmp_path)
        await until(lambda: "}, " in service.output)
        [consumer] = (await service.get("/consumers"))["data"]

    heads, rows = zip(
        *(
            match.groups()
            for match in re.finditer(r"^(.*? \[notice\] \d+#0: )(.*)$", service.output, re.M)
        ),
        strict=True,
    )
    assert len(set(heads)) == 1
    assert rows[0] == "[kong] event_hooks.lua:?:452 [core]" + "-" * 86 + "+"
    assert rows[-1] == "+" + "-" * 120 + "+"
    assert [row[1:-1].rstrip() for row in rows[1:-1]] == [
        '"log callback: " { "consumers", "crud", {',
        "    entity = {",
        f"      created_at = {consumer['created_at']},",
        f'      id = "{consumer["id"]}",',
        "      type = 0,",
        f"      updated_at = {consumer['updated_at']},",
        '      username = "Elizabeth Bennet",',
        '      username_lower = "elizabeth bennet"',
        "    },",
        '    operation = "create",',
        '    schema = "consumers"',
        f"  }}, {service.process.pid} }}",
    ]


LOIS = r"""
curl -i -X POST http://{HOSTNAME}:8001/consumers \
  -d username="Lois Lane"
"""

LAMBDA_LUA = """\
return function (data, event, source, pid)
  local user = data.entity.username
  error("Event hook on consumer " .. user .. "")
end
"""


async def test_curl_itself_refuses_the_old_lambda_line(type_in: Type, service: Service) -> None:
    """The fourth example mixes -d and -F, which never reached any server."""
    done = await type_in(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud \
          -d event=consumers \
          -d handler=lambda \
          -F config.functions='return function (data, event, source, pid) local user = data.entity.username error("Event hook on consumer " .. user .. "")end'
        """
    )

    assert done.code == 2
    assert "You can only select one HTTP request method" in done.stderr
    assert await service.get("/event-hooks") == {"data": [], "next": None}


@pytest.mark.parametrize("option", ["-d", "-F"])
async def test_a_lambda_complains_about_lois_lane(
    curl: Curl, service: Service, option: str
) -> None:
    """The fourth example with either kind of form: Kong's error, word for word."""
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -d source=crud \
          -d event=consumers \
          -d handler=lambda \
          -d config.functions='return function (data, event, source, pid) local user = data.entity.username error("Event hook on consumer " .. user .. "")end'
        """.replace(" -d ", f" {option} ")
    )
    await curl(LOIS)
    [record] = await until(lambda: service.records("Event hook on consumer"))

    code = (
        "return function (data, event, source, pid) local user = data.entity.username "
        'error("Event hook on consumer " .. user .. "")end'
    )
    assert hook["config"] == {"functions": [code]}
    assert record["level"] == "error"
    assert record["message"].endswith(":1: Event hook on consumer Lois Lane")


async def test_a_lambda_from_a_file_is_named_in_its_error(
    curl: Curl, service: Service, tmp_path: Path
) -> None:
    """The documented lambda.lua, uploaded: the error names its first line and the line at fault."""
    (tmp_path / "lambda.lua").write_text(LAMBDA_LUA)
    hook = await curl(
        r"""
        curl -i -X POST http://{HOSTNAME}:8001/event-hooks \
          -F source=crud \
          -F event=consumers \
          -F handler=lambda \
          -F "config.functions[]=@lambda.lua"
        """
    )
    await curl(LOIS)
    [record] = await until(lambda: service.records("Event hook on consumer"))

    assert hook["config"] == {"functions": [LAMBDA_LUA]}
    assert record["message"] == (
        '[kong] event_hooks.lua:190 [string "return function (data, event, source, pid)..."]:3: '
        "Event hook on consumer Lois Lane"
    )


async def test_a_lambda_in_json(curl: Curl, service: Service) -> None:
    """The current documentation's form of the same, with a return that is never reached."""
    await curl(
        r"""
        curl -X POST "http://localhost:8001/event-hooks" \
          --no-progress-meter --fail-with-body \
          --json '{
            "source": "crud",
            "event": "consumers",
            "handler": "lambda",
            "config": {
              "functions": [
                "return function (data, event, source, pid) local user = data.entity.username error(\"Event Hook on consumer \" .. user .. \"\") return true end"
              ]
            }
          }'
        """
    )
    await curl(LOIS)
    [record] = await until(lambda: service.records("Event Hook on consumer"))

    assert record["level"] == "error"
    assert record["message"].endswith(":1: Event Hook on consumer Lois Lane")


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


async def test_on_change_lets_two_different_consumers_pass(curl: Curl, receiver: Receiver) -> None:
    """The current documentation's webhook: `on_change` compares whole changes, ids included."""
    hook = await curl(
        r"""
        curl -X POST "http://localhost:8001/event-hooks" \
          --no-progress-meter --fail-with-body \
          --json '{
            "source": "crud",
            "event": "consumers",
            "handler": "webhook",
            "on_change": true,
            "config": {
              "url": "https://webhook.site/…"
            }
          }'
        """
    )
    await curl(ADA)
    await curl(LOIS)
    [ping, *changes] = await arrived(receiver, 3)

    assert hook["on_change"] is True
    assert (ping["source"], ping["event"]) == ("kong:event_hooks", "ping")
    assert {change["entity"]["username"] for change in changes} == {"Ada Lovelace", "Lois Lane"}


async def test_a_fixed_text_for_slack(curl: Curl, receiver: Receiver) -> None:
    """The same page's Slack hook: the content type is found in any spelling of its name."""
    await curl(
        r"""
        curl -X POST "http://localhost:8001/event-hooks" \
          --no-progress-meter --fail-with-body \
          --json '{
            "source": "crud",
            "event": "consumers",
            "handler": "webhook-custom",
            "on_change": true,
            "config": {
              "method": "POST",
              "url": "'$SLACK'",
              "headers": {
                "Content-type": "application/json"
              },
              "payload": {
                "text": "new consumer added"
              }
            }
          }'
        """
    )
    await curl(ADA)
    body = await arrived(receiver, 1)

    assert body == [{"text": "new consumer added"}]
    [request] = receiver.at("/hook")
    assert request.header("content-type") == "application/json"


OAS_JSON = r"""
curl -i -X POST http://localhost:8001/event-hooks/ \
  --header "Content-Type: application/json" \
  --data '{
    "source": "oas-validation",
    "event": "validation-failed",
    "handler": "webhook",
    "on_change": true,
    "config": {
      "url": "$URL"
    }
  }'
"""
OAS_FORM = r"""
curl -i -X POST http://localhost:8001/event-hooks \
  -d source=oas-validation \
  -d event=validation-failed \
  -d handler=webhook \
  -d config.url=$URL
"""


@pytest.mark.parametrize("line", [OAS_JSON, OAS_FORM], ids=["json", "form"])
async def test_a_failed_validation_is_reported(
    curl: Curl, service: Service, receiver: Receiver, line: str
) -> None:
    """The OAS validation plugin's page, in JSON (to a path that ends in a slash) and as a form."""
    failure = {
        "ip": "10.0.2.2",
        "err": "query 'status' validation failed with error: "
        "'required parameter value not found in request'",
        "service": {"name": "petstore-service", "host": "petstore.swagger.io", "port": 443},
        "consumer": {},
    }
    await curl(line)
    await service.emit("oas-validation", "validation-failed", failure)
    [_, body] = await arrived(receiver, 2)

    assert body == failure | {"source": "oas-validation", "event": "validation-failed"}


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


async def test_only_creations_of_admins(curl: Curl, service: Service, receiver: Receiver) -> None:
    """A draft of Kong's pages: `admins:create` is the event's name on the wire, too."""
    await curl(
        r"""
        curl -i -X POST http://localhost:8001/event-hooks \
          -H 'Kong-Admin-Token: password' -H 'content-type: application/json' \
          -d '{"source":"crud","event":"admins:create","handler":"webhook","config":{"url":"http://<host>/admin-1created"}}'
        """
    )
    for name in ("arya", "sansa"):
        await service.post("/admins", {"username": name, "email": f"{name}@example.com"})
        await service.client.patch(f"/admins/{name}", json={"custom_id": f"{name}-1"})
    [_, *changes] = await arrived(receiver, 3)

    assert {(change["event"], change["operation"]) for change in changes} == {
        ("admins:create", "create")
    }
    assert {change["entity"]["username"] for change in changes} == {"arya", "sansa"}
    (await service.client.delete("/admins/arya")).raise_for_status()
    states = await service.states((await service.get("/status"))["log"]["head"])
    assert set(states.values()) == {"not_matched"}


async def test_only_updates_of_consumers(curl: Curl, service: Service, receiver: Receiver) -> None:
    """The same as a form: `on_change=true` becomes a boolean, an update carries what was before."""
    hook = await curl(
        r"""
        curl -i -X POST http://localhost:8001/event-hooks \
          -d source=crud -d event=consumers:update -d handler=webhook -d on_change=true \
          -d config.url=$URL
        """
    )
    before = await curl(ADA)
    after = (
        await service.client.patch(f"/consumers/{before['id']}", json={"custom_id": "a"})
    ).json()
    [_, change] = await arrived(receiver, 2)

    assert hook["on_change"] is True
    assert change == {
        "source": "crud",
        "event": "consumers:update",
        "operation": "update",
        "schema": "consumers",
        "entity": without_nulls(after),
        "old_entity": without_nulls(before),
    }


async def test_a_workspace_warns_of_spent_tokens_once_a_minute(
    curl: Curl, service: Service, receiver: Receiver
) -> None:
    """A Korean article on AI rate limits: a raw body, in a workspace, snoozed for 60 seconds."""
    await curl("curl -i -X POST http://localhost:8001/workspaces -d name=team-a")
    hook = await curl(
        r"""
        curl -s -X POST $ADMIN/$WORKSPACE/event-hooks -H 'content-type: application/json' -d '{
          "source": "ai-rate-limiting-advanced",
          "event": "rate-limit-exceeded",
          "handler": "webhook-custom",
          "snooze": 60,
          "config": {
            "method": "POST",
            "url": "$URL",
            "ssl_verify": true,
            "headers": {"content-type": "application/json"},
            "body": "{\"text\":\"{{ username }}의 임계치 {{ threshold }}%에 도달했습니다. {{ remaining }} Token이 남았습니다.\"}",
            "body_format": true
          }
        }'
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


def test_kongs_test_vector() -> None:
    """The HMACs that any receiver written for Kong computes, over a known body."""
    body, secret = b'{"event":"ping"}', b"secret"

    assert hmac.new(secret, body, hashlib.sha1).hexdigest() == (
        "73a2ad9339361271db02ce089327f912cbc4d3f2"
    )
    assert hmac.new(secret, body, hashlib.sha256).hexdigest() == (
        "4f4bb3a54e99c4a20e243485229f9b08c66e09104ba6f79c23ce647242a4ce84"
    )

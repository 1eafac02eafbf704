"""The examples of Kong's documentation, in its old and its new form, and what they must cause.

Rendered text is compared byte for byte, JSON as parsed values.
"""
# ruff: noqa: E501 -- a line stays as it was published

import re
from pathlib import Path

import pytest

from tests.e2e.documents.lines import ADA, LOIS, Curl, Type, addressed, arrived, without_nulls
from tests.receiver import Receiver
from tests.service import Service, serving, shell, until


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
            await shell(addressed(line, service.url, target=""), tmp_path)
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
          --json '{"source":"crud","event":"consumers","handler":"lambda","config":{"functions":["return function (data, event, source, pid) local user = data.entity.username error(\"Event Hook on consumer \" .. user .. \"\") return true end"]}}'
        """
    )
    await curl(LOIS)
    [record] = await until(lambda: service.records("Event Hook on consumer"))

    assert record["level"] == "error"
    assert record["message"].endswith(":1: Event Hook on consumer Lois Lane")


async def test_on_change_lets_two_different_consumers_pass(curl: Curl, receiver: Receiver) -> None:
    """The current documentation's webhook: `on_change` compares whole changes, ids included."""
    hook = await curl(
        r"""
        curl -X POST "http://localhost:8001/event-hooks" \
          --no-progress-meter --fail-with-body \
          --json '{"source":"crud","event":"consumers","handler":"webhook","on_change":true,"config":{"url":"https://webhook.site/…"}}'
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
          --json '{"source":"crud","event":"consumers","handler":"webhook-custom","on_change":true,"config":{"method":"POST","url":"$SLACK","headers":{"Content-type":"application/json"},"payload":{"text":"new consumer added"}}}'
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
  --data '{"source":"oas-validation","event":"validation-failed","handler":"webhook","on_change":true,"config":{"url":"$URL"}}'
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

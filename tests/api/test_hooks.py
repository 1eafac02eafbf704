"""Event hooks: what they are answered as, and firing them by hand."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from projections.hooks import Hook
from projections.tables import DEFAULT_WORKSPACE
from tests.api.entity_api import Answer, Attempt, EntityApi, Sent, serving_entities

URL = "https://webhook.site/x"
SLACK = "https://hooks.slack.com/services/foo/bar/baz"
TEXT = (
    "Admin account `{{ entity.username }}` {{ operation}}d;"
    " email address set to `{{ entity.email }}`"
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def create(api: EntityApi, **args: Any) -> dict[str, Any]:
    answer = await api.client.post("/event-hooks", json={"source": "crud", **args})
    assert answer.status_code == 201, answer.text
    hook: dict[str, Any] = answer.json()
    return hook


async def test_a_webhook_is_answered_as_documented(api: EntityApi) -> None:
    """Kong's literal example, from the curl line of its documentation."""
    answer = await api.client.post(
        "/event-hooks",
        data={
            "source": "crud",
            "event": "consumers",
            "handler": "webhook",
            "config.url": URL,
        },
    )
    hook = answer.json()

    assert answer.status_code == 201
    assert hook == {
        "config": {"headers": {}, "secret": None, "ssl_verify": True, "url": URL},
        "created_at": hook["created_at"],
        "updated_at": hook["created_at"],
        "event": "consumers",
        "handler": "webhook",
        "id": hook["id"],
        "on_change": None,
        "snooze": None,
        "source": "crud",
    }
    assert isinstance(hook["created_at"], int)


async def test_a_webhook_custom_is_answered_as_documented(api: EntityApi) -> None:
    """Defaults and nulls of every field; texts exactly as they were sent."""
    answer = await api.client.post(
        "/event-hooks",
        data={
            "source": "crud",
            "event": "admins",
            "handler": "webhook-custom",
            "config.method": "POST",
            "config.url": SLACK,
            "config.headers.content-type": "application/json",
            "config.payload.text": TEXT,
        },
    )

    assert answer.json()["config"] == {
        "body": None,
        "body_format": True,
        "headers": {"content-type": "application/json"},
        "headers_format": False,
        "method": "POST",
        "payload": {"text": TEXT},
        "payload_format": True,
        "secret": None,
        "ssl_verify": True,
        "url": SLACK,
    }


async def test_a_log_hook_has_an_empty_config(api: EntityApi) -> None:
    """It may be left out, and is shown as `{}`."""
    form = {"source": "crud", "event": "routes", "handler": "log"}
    answer = await api.client.post("/event-hooks", data=form)

    assert (answer.status_code, answer.json()["config"]) == (201, {})


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"config.functions": "return function () end"}},
        {"data": {"config.functions[]": "return function () end"}},
        {"data": {"config.functions[1]": "return function () end"}},
        {"files": {"config.functions[]": ("lambda.lua", b"return function () end")}},
        {"json": {"config": {"functions": ["return function () end"]}}},
    ],
    ids=["form", "append", "place", "file", "json"],
)
async def test_a_function_may_come_in_any_form(api: EntityApi, sent: dict[str, Any]) -> None:
    """One function is an array of one, however it was sent."""
    fields = {"source": "crud", "handler": "lambda"}
    key = "json" if "json" in sent else "data"
    answer = await api.client.post("/event-hooks", **{**sent, key: sent.get(key, {}) | fields})

    assert answer.json()["config"] == {"functions": ["return function () end"]}


async def test_numbers_and_booleans_of_a_form(api: EntityApi) -> None:
    """`on_change=true` and `snooze=60` are stored as what they mean."""
    answer = await api.client.post(
        "/event-hooks",
        data={
            "source": "crud",
            "event": "consumers:update",
            "handler": "webhook",
            "on_change": "true",
            "snooze": "60",
            "config.url": URL,
            "config.ssl_verify": "false",
            "config.secret": "",
        },
    )
    hook = answer.json()

    assert (hook["on_change"], hook["snooze"]) == (True, 60)
    assert (hook["config"]["ssl_verify"], hook["config"]["secret"]) == (False, None)


async def test_a_hook_is_stored_without_its_secret(api: EntityApi) -> None:
    """The API shows the secret to whoever may configure hooks; the event's entity does not."""
    hook = await create(api, handler="webhook", config={"url": URL, "secret": "s3"})
    ((table, type_, body),) = await api.bodies()

    assert hook["config"]["secret"] == "s3"
    assert (table, type_, body["secrets"]) == (
        "event_hooks",
        "entity_created",
        {"config.secret": "s3"},
    )
    assert body["entity"] == {
        "id": hook["id"],
        "created_at": hook["created_at"],
        "updated_at": hook["updated_at"],
        "source": "crud",
        "handler": "webhook",
        "config": {"url": URL, "headers": {}, "ssl_verify": True},
    }


async def test_a_hook_is_patched_key_by_key(api: EntityApi) -> None:
    """The config keeps what was not sent, its secret included; null clears."""
    config = {"url": URL, "secret": "s3", "headers": {"a": "1"}}
    hook = await create(api, handler="webhook", snooze=5, config=config)
    path = f"/event-hooks/{hook['id']}"

    patched = await api.client.patch(path, json={"snooze": None, "config": {"url": SLACK}})
    cleared = await api.client.patch(path, data={"config.secret": ""})
    switched = await api.client.patch(
        path, json={"handler": "lambda", "config": {"functions": ["return f"]}}
    )

    assert patched.json()["config"] == {
        "url": SLACK,
        "secret": "s3",
        "headers": {"a": "1"},
        "ssl_verify": True,
    }
    assert patched.json()["snooze"] is None
    assert cleared.json()["config"]["secret"] is None
    assert switched.json()["config"] == {"functions": ["return f"]}


async def test_put_replaces_a_hook(api: EntityApi) -> None:
    """What was not sent goes back to its default."""
    hook = await create(api, handler="webhook", on_change=True, config={"url": URL, "secret": "s"})
    answer = await api.client.put(
        f"/event-hooks/{hook['id']}", json={"source": "dao:crud", "handler": "log"}
    )

    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ("id", "source", "on_change", "config")} == {
        "id": hook["id"],
        "source": "dao:crud",
        "on_change": None,
        "config": {},
    }


async def test_a_hook_that_does_not_compile_is_refused(api: EntityApi) -> None:
    """The fault is told at its place in the config, and nothing is stored."""
    api.delivery.faults = {"functions": ["Error parsing function: x"]}
    answer = await api.client.post(
        "/event-hooks",
        json={"source": "crud", "handler": "lambda", "config": {"functions": ["x"]}},
    )

    assert answer.status_code == 400
    assert answer.json() == {
        "message": 'schema violation (config.functions: {"Error parsing function: x"})',
        "name": "schema violation",
        "fields": {"config": {"functions": ["Error parsing function: x"]}},
        "code": 2,
    }
    assert api.delivery.checked == [(DEFAULT_WORKSPACE, "lambda", {"functions": ["x"]})]
    assert await api.events() == []


async def test_a_test_shows_the_receivers_answer(api: EntityApi) -> None:
    """Any object is a payload; the hook's names go into it; the answer is shown as it came."""
    hook = await create(
        api, handler="webhook", event="consumers", config={"url": URL, "secret": "s"}
    )
    headers = {"Content-Type": "text/plain; charset=UTF-8"}
    api.delivery.attempt = Attempt(response=Answer(500, headers, "oops"), ok=False)

    answer = await api.client.post(
        f"/event-hooks/{hook['id']}/test",
        json={"consumer": {"username": "Jane Austen"}, "source": "forged"},
    )

    assert answer.status_code == 200
    assert answer.json() == {
        "data": {
            "consumer": {"username": "Jane Austen"},
            "event": "consumers",
            "source": "crud",
        },
        "result": {"body": "oops", "headers": headers, "status": 500},
    }
    ((fired, source, event, data),) = api.delivery.dispatched
    assert isinstance(fired, Hook)
    assert (fired.config["secret"], source, event) == ("s", "crud", "consumers")
    assert data == {"consumer": {"username": "Jane Austen"}}


async def test_a_wildcard_hook_is_tested_with_the_payloads_event(api: EntityApi) -> None:
    """A hook on all events of a source has no name of its own to put in."""
    hook = await create(api, handler="log")
    path = f"/event-hooks/{hook['id']}/test"
    api.delivery.attempt = Attempt(result=True)

    named = await api.client.post(path, data={"event": "routes", "a.b": "1"})
    unnamed = await api.client.post(path)

    assert named.json() == {
        "data": {"event": "routes", "a": {"b": "1"}, "source": "crud"},
        "result": True,
    }
    assert unnamed.json() == {"data": {"event": None, "source": "crud"}, "result": True}
    assert [event for _, _, event, _ in api.delivery.dispatched] == ["routes", ""]


LAMBDA = {"handler": "lambda", "config": {"functions": ["x"]}}
CUSTOM = {"handler": "webhook-custom", "config": {"url": URL, "method": "POST", "body": "b"}}


async def test_a_test_tells_what_functions_did(api: EntityApi) -> None:
    """Their result, their logs in Kong's levels, what they want done, and how long it took."""
    hook = await create(api, **LAMBDA)
    api.delivery.attempt = Attempt(
        result={"n": 1}, logs=((20, "one"), (40, "two")), effects=({"skip": "no"},)
    )
    shown = (await api.client.post(f"/event-hooks/{hook['id']}/test", json={"a": 1})).json()

    assert shown.pop("duration_ms") >= 0
    assert shown == {
        "data": {"a": 1, "source": "crud", "event": None},
        "result": {"n": 1},
        "request": None,
        "logs": [{"level": "info", "text": "one"}, {"level": "err", "text": "two"}],
        "effects": [{"skip": "no"}],
    }
    assert api.delivery.dry_runs == [False]


async def test_a_test_that_fails_tells_as_much(api: EntityApi) -> None:
    """502 with the reason, and with what was logged on the way."""
    hook = await create(api, **LAMBDA)
    api.delivery.attempt = Attempt(ok=False, reason="it broke", logs=((30, "careful"),))
    answer = await api.client.post(f"/event-hooks/{hook['id']}/test", json={})

    assert answer.status_code == 502
    assert answer.json()["message"] == "it broke"
    assert answer.json()["logs"] == [{"level": "warn", "text": "careful"}]


@pytest.mark.parametrize("handler", ["webhook-custom", "webhook"])
async def test_a_dry_run_shows_the_request(api: EntityApi, handler: str) -> None:
    """Delivery is told to send nothing; a webhook is told about too, when asked this way."""
    args = CUSTOM if handler == "webhook-custom" else {"handler": handler, "config": {"url": URL}}
    hook = await create(api, **args)
    api.delivery.attempt = Attempt(request=Sent("POST", URL, {"a": "b"}, "ż".encode()))
    path = f"/event-hooks/{hook['id']}/test?dry_run=true"
    shown = (await api.client.post(path, json={})).json()

    assert api.delivery.dry_runs == [True]
    assert (shown["result"], shown["request"]) == (
        None,
        {"method": "POST", "url": URL, "headers": {"a": "b"}, "body": "ż"},
    )


async def test_a_dry_run_is_a_boolean(api: EntityApi) -> None:
    """Anything else is refused rather than taken for a real run."""
    hook = await create(api, **LAMBDA)
    answer = await api.client.post(f"/event-hooks/{hook['id']}/test?dry_run=yes", json={})

    assert (answer.status_code, api.delivery.dispatched) == (400, [])


async def test_a_test_that_reaches_nobody_says_why(api: EntityApi) -> None:
    """502 with the reason, as there is no answer to show."""
    hook = await create(api, handler="webhook", config={"url": URL})
    api.delivery.attempt = Attempt(ok=False, reason="connection refused")

    answer = await api.client.post(f"/event-hooks/{hook['id']}/test", json={})

    assert (answer.status_code, answer.json()) == (502, {"message": "connection refused"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_ping_shows_the_hook_without_its_secret(api: EntityApi, method: str) -> None:
    """The answer is what the receiver was sent."""
    hook = await create(
        api, handler="webhook", event="consumers", config={"url": URL, "secret": "s3"}
    )

    answer = await api.client.request(method, f"/event-hooks/{hook['id']}/ping")

    shown = hook | {
        "config": hook["config"] | {"secret": None, "headers": {"content-type": "application/json"}}
    }
    assert answer.status_code == 200
    assert answer.json() == {
        "source": "kong:event_hooks",
        "event": "ping",
        "event_hooks": shown,
    }
    ((fired, source, event, data),) = api.delivery.dispatched
    assert (fired.config["secret"], source, event) == ("s3", "kong:event_hooks", "ping")
    assert data == {"event_hooks": shown}


async def test_a_ping_keeps_the_users_content_type(api: EntityApi) -> None:
    """Whatever its spelling."""
    config = {"url": URL, "headers": {"Content-Type": "text/x"}}
    hook = await create(api, handler="webhook", config=config)

    answer = await api.client.get(f"/event-hooks/{hook['id']}/ping")

    assert answer.json()["event_hooks"]["config"]["headers"] == {"Content-Type": "text/x"}


async def test_a_ping_that_fails_says_why(api: EntityApi) -> None:
    """502 with the reason, also when the receiver answered but not with success."""
    hook = await create(api, handler="webhook", config={"url": URL})
    api.delivery.attempt = Attempt(ok=False, reason="status 500", response=Answer(500, {}, ""))

    answer = await api.client.get(f"/event-hooks/{hook['id']}/ping")

    assert (answer.status_code, answer.json()) == (502, {"message": "status 500"})


async def test_only_webhooks_are_pinged(api: EntityApi) -> None:
    """The others have nobody to greet."""
    hook = await create(api, handler="log")

    answer = await api.client.get(f"/event-hooks/{hook['id']}/ping")

    assert answer.status_code == 400
    assert answer.json() == {"message": "only hooks with handler webhook can be pinged, not log"}


@pytest.mark.parametrize("action", ["test", "ping"])
async def test_a_hook_that_is_not_there_cannot_be_fired(api: EntityApi, action: str) -> None:
    """404 for an unknown id, Kong's code 1 for what is no id at all."""
    unknown = await api.client.post(
        f"/event-hooks/c57340ab-9fed-40fd-bb7e-1cef8d37c2df/{action}", json={}
    )
    invalid = await api.client.post(f"/event-hooks/nope/{action}", json={})

    assert (unknown.status_code, unknown.json()) == (404, {"message": "Not found"})
    assert (invalid.status_code, invalid.json()["code"]) == (400, 1)


async def test_an_erased_hook_is_not_fired(api: EntityApi) -> None:
    """Its id is still shown, but there is nothing left to send to."""
    hook = await create(api, handler="log")
    erased = msgspec.structs.replace((await api.events())[0], body=None)
    api.view.apply(api.view.evolve(erased))
    path = f"/event-hooks/{hook['id']}"

    shown = await api.client.get(path)
    fired = await api.client.post(f"{path}/test", json={})

    assert (shown.status_code, shown.json()["id"]) == (200, hook["id"])
    assert shown.json()["handler"] is None
    assert (fired.status_code, api.delivery.dispatched) == (404, [])


async def test_a_hook_belongs_to_the_workspace_of_its_path(api: EntityApi) -> None:
    """It is listed there and nowhere else, and its event says so."""
    workspace = (await api.client.post("/workspaces", data={"name": "team"})).json()
    created = await api.client.post("/team/event-hooks", data={"source": "crud", "handler": "log"})

    ours = (await api.client.get("/team/event-hooks")).json()
    theirs = (await api.client.get("/event-hooks")).json()
    hidden = await api.client.post(f"/event-hooks/{created.json()['id']}/test", json={})
    fired = await api.client.post(f"/team/event-hooks/{created.json()['id']}/test", json={})

    assert (ours["data"], theirs["data"]) == ([created.json()], [])
    assert (hidden.status_code, fired.status_code) == (404, 200)
    assert api.delivery.dispatched[0][0].workspace == workspace["id"]
    assert (await api.events())[-1].workspace == workspace["id"]


async def test_a_hook_carries_its_version(api: EntityApi) -> None:
    """`ETag` is the version of its stream: it grows by one with every change."""
    form = {"source": "crud", "handler": "log"}
    created = await api.client.post("/event-hooks", data=form)
    path = f"/event-hooks/{created.json()['id']}"

    shown = await api.client.get(path)
    head = await api.client.head(path)
    patched = await api.client.patch(path, json={"snooze": 5})
    replaced = await api.client.put(path, json=form)

    assert created.headers["etag"] == shown.headers["etag"] == head.headers["etag"] == '"0"'
    assert (patched.headers["etag"], replaced.headers["etag"]) == ('"1"', '"2"')


@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
async def test_a_hook_is_changed_only_as_it_was_seen(api: EntityApi, method: str) -> None:
    """412 when somebody else was faster, and nothing is stored; with the version it is done."""
    hook = await create(api, handler="log")
    path = f"/event-hooks/{hook['id']}"
    await api.client.patch(path, json={"snooze": 5})
    body: Any = {} if method == "DELETE" else {"json": {"source": "crud", "handler": "log"}}

    async def request(condition: str) -> Any:
        return await api.client.request(method, path, headers={"If-Match": condition}, **body)

    stale, listed = await request('"0"'), await request('"0", "7"')
    weak, garbage = await request('W/"1"'), await request("1")
    before = len(await api.events())
    done = await request('"0", "1"')

    assert {answer.status_code for answer in (stale, listed, weak, garbage)} == {412}
    assert stale.json() == {"message": 'the entity has changed: its version is "1"'}
    assert before == 2
    assert done.status_code == (204 if method == "DELETE" else 200)


async def test_a_condition_on_what_is_not_there_fails(api: EntityApi) -> None:
    """`*` stands for any version of what exists."""
    hook = await create(api, handler="log")
    path = f"/event-hooks/{hook['id']}"
    condition = {"If-Match": "*"}

    deleted = await api.client.delete(path, headers=condition)
    again = await api.client.delete(path, headers=condition)
    replaced = await api.client.put(
        path, json={"source": "crud", "handler": "log"}, headers=condition
    )
    patched = await api.client.patch(path, json={}, headers=condition)

    assert (deleted.status_code, again.status_code, replaced.status_code) == (204, 412, 412)
    assert (patched.status_code, patched.json()["code"]) == (404, 6)
    assert again.json() == {"message": "there is no such entity"}


async def test_a_conditional_request_can_be_repeated(api: EntityApi) -> None:
    """The retry finds the version that it made itself, and is answered as the first time."""
    hook = await create(api, handler="log")
    path, headers = f"/event-hooks/{hook['id']}", {"If-Match": '"0"', "Idempotency-Key": "k"}

    first = await api.client.patch(path, json={"snooze": 5}, headers=headers)
    again = await api.client.patch(path, json={"snooze": 5}, headers=headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert (again.json(), again.headers["etag"]) == (first.json(), '"1"')

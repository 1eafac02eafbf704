"""The catalogue over HTTP, and publishing."""

from typing import Any

import anyio
import pytest

from tests.api.admin_api import Api

CHANGE = {"fields": ["operation", "entity", "old_entity", "schema"]}
RATE_LIMIT = {
    "fields": ["consumer", "ip", "service", "rate", "limit", "window"],
    "unique": ["consumer", "ip", "service"],
    "description": "Run an event when a rate limit has been exceeded",
}
DOCUMENTED = {
    "crud/consumers": CHANGE,
    "crud/consumers:create": CHANGE,
    "crud/consumers:update": CHANGE,
    "crud/consumers:delete": CHANGE,
    "dao:crud/create": CHANGE,
    "dao:crud/update": CHANGE,
    "dao:crud/delete": CHANGE,
    "balancer/health": {"fields": ["upstream_id", "ip", "port", "hostname", "health"]},
    "rate-limiting-advanced/rate-limit-exceeded": RATE_LIMIT,
    "ai-rate-limiting-advanced/rate-limit-exceeded": RATE_LIMIT,
    "service-protection/rate-limit-exceeded": RATE_LIMIT,
    "http-log-enterprise/log": {
        "fields": ["consumer", "ip", "service", "route"],
        "unique": ["consumer", "ip", "service"],
        "description": "Run an event for a request",
    },
}
"""What Kong documents about its sources, key by key."""

PAID = "/event-hooks/sources/app/paid"


async def test_the_catalogue_is_shown_by_source_and_event(api: Api) -> None:
    """The shapes that Kong documents, without keys for what is not known."""
    health = {"fields": ["upstream_id", "ip", "port", "hostname", "health"]}
    whole = (await api.client.get("/event-hooks/sources/")).json()
    source = await api.client.get("/event-hooks/sources/balancer")
    event = await api.client.get("/event-hooks/sources/balancer/health")

    assert whole["data"]["balancer"] == {"health": health}
    assert set(whole["data"]["crud"]) >= {"consumers", "consumers:create"}
    assert source.json() == {"data": {"health": health}}
    assert event.json() == {"data": health}


@pytest.mark.parametrize("path", ["nothing", "balancer/nothing", "nothing/health", "a/b/c"])
async def test_what_nobody_published_is_not_found(api: Api, path: str) -> None:
    """404 in Kong's form."""
    response = await api.client.get(f"/event-hooks/sources/{path}")

    assert (response.status_code, response.json()) == (404, {"message": "Not found"})


async def test_a_published_event_can_be_emitted_at_once(api: Api) -> None:
    """The answer to PUT means that the definition is in force."""
    definition = {"fields": ["a", "b"], "unique": ["b"], "description": "d", "subject": "a.id"}
    event = {"source": "app", "event": "paid", "data": {"a": {"id": "ada"}}}
    before = await api.client.post("/events", json=event)
    published = await api.client.put(PAID, json=definition)
    after = await api.client.post("/events", json=event)

    assert (before.status_code, published.status_code, after.status_code) == (400, 200, 202)
    assert published.json() == {"data": definition}
    assert (await api.client.get(PAID)).json() == {"data": definition}
    assert (await api.log.read(1))[0].subject is not None


async def test_publishing_again_changes_nothing(api: Api) -> None:
    """The same definition is not stored twice; another one is a new version."""
    for fields in (["a"], ["a"], ["b"]):
        await api.client.put(PAID, json={"fields": fields})

    assert api.log.head == 2
    assert (await api.client.get(PAID)).json() == {"data": {"fields": ["b"]}}


async def test_concurrent_publishing_stores_one(api: Api) -> None:
    """Of many equal requests at once, the first one counts."""
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(lambda: api.client.put(PAID, json={"fields": ["a"]}))

    assert api.log.head == 1


async def test_publishing_takes_forms(api: Api) -> None:
    """Types come from the definition: a single value is an array of one, empty is null."""
    form = {"fields[]": "a", "unique": "a", "description": "", "subject": "a.b"}
    response = await api.client.put(PAID, data=form)

    assert response.json() == {"data": {"fields": ["a"], "unique": ["a"], "subject": "a.b"}}


async def test_publishing_needs_no_body(api: Api) -> None:
    """An event may be known by name alone."""
    assert (await api.client.put(PAID)).json() == {"data": {}}


@pytest.mark.parametrize(
    ("definition", "fields"),
    [
        ({"fields": "a"}, {"fields": "expected an array"}),
        ({"fields": [1]}, {"fields": ["expected a string"]}),
        ({"fields": ["a"], "unique": ["a", "b"]}, {"unique": "not in fields: b"}),
        (
            {"description": 1, "more": 2},
            {"description": "expected a string", "more": "unknown field"},
        ),
        ({"subject": "\0"}, {"subject": "must not contain NUL"}),
    ],
)
async def test_a_faulty_definition_is_refused(
    api: Api, definition: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Every fault at once, in Kong's form."""
    response = await api.client.put(PAID, json=definition)

    assert (response.status_code, response.json()["fields"]) == (400, fields)
    assert api.log.head == 0


@pytest.mark.parametrize("name", ["x" * 129, "%00", "a%0Ab"])
async def test_a_faulty_name_is_refused(api: Api, name: str) -> None:
    """Both names of the path are looked at."""
    response = await api.client.put(f"/event-hooks/sources/{name}/{name}", json={})

    assert response.status_code == 400
    assert response.json()["fields"].keys() == {"source", "event"}


@pytest.mark.parametrize(
    "path", ["crud/consumers", "crud/mine", "dao:crud/x", "kong:event_hooks/x"]
)
async def test_our_own_sources_take_no_events(api: Api, path: str) -> None:
    """Nobody can publish under the names of the service's own facts."""
    response = await api.client.put(f"/event-hooks/sources/{path}", json={})

    assert response.status_code == 403
    assert "reserved" in response.json()["message"]


async def test_a_built_in_event_cannot_be_redefined(api: Api) -> None:
    """409 with the reason; its own definition is accepted and changes nothing."""
    path = "/event-hooks/sources/balancer/health"
    own = (await api.client.get(path)).json()["data"]
    other = await api.client.put(path, json={"fields": ["ip"]})

    assert other.status_code == 409
    assert "built in" in other.json()["message"]
    assert (await api.client.put(path, json=own)).status_code == 200
    assert api.log.head == 0


async def test_a_known_source_takes_further_events(api: Api) -> None:
    """Kong's plugins emit more than Kong publishes."""
    path = "/event-hooks/sources/ai-rate-limiting-advanced/rate-limit-exceeded-provider-openai"

    assert (await api.client.put(path, json={})).status_code == 200


async def test_a_retry_with_the_key_is_the_first_answer(api: Api) -> None:
    """Even when somebody redefined the event in between; other content is a conflict."""
    headers = {"Idempotency-Key": "k"}
    await api.client.put(PAID, json={"fields": ["a"]}, headers=headers)
    await api.client.put(PAID, json={"fields": ["b"]})
    retry = await api.client.put(PAID, json={"fields": ["a"]}, headers=headers)
    other = await api.client.put(PAID, json={"fields": ["c"]}, headers=headers)

    assert (retry.status_code, retry.json()) == (200, {"data": {"fields": ["a"]}})
    assert other.status_code == 409
    assert api.log.head == 2
    assert (await api.client.get(PAID)).json() == {"data": {"fields": ["b"]}}


@pytest.mark.parametrize("path", DOCUMENTED)
async def test_every_documented_source_is_there(api: Api, path: str) -> None:
    """With its fields, what is unique, and its description; keys without a value are left out."""
    source, _, event = path.partition("/")
    alone = await api.client.get(f"/event-hooks/sources/{path}/")
    beside = (await api.client.get(f"/event-hooks/sources/{source}/")).json()["data"]
    whole = (await api.client.get("/event-hooks/sources")).json()["data"]

    assert alone.json() == {"data": DOCUMENTED[path]}
    assert beside[event] == whole[source][event] == DOCUMENTED[path]


@pytest.mark.parametrize("source", ["oas-validation", "validation"])
async def test_validations_report_what_was_wrong(api: Api, source: str) -> None:
    """The fields are those of the documented payload; the rest is not documented."""
    shown = await api.client.get(f"/event-hooks/sources/{source}/validation-failed")

    assert shown.json()["data"]["fields"] == ["consumer", "ip", "service", "err"]

"""Emitting, and reading the log."""

import json

import anyio
import httpx
import pytest

from eventstore.codec import new_event
from eventstore.events import (
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    Event,
    HookPaused,
    SourcePublished,
)
from eventstore.records import Append, Kind
from projections.tables import DEFAULT_WORKSPACE
from tests.api.admin_api import OTHER_WORKSPACE, Api

HEALTH = {"source": "balancer", "event": "health", "data": {"ip": "10.0.0.5"}}


async def emit(
    api: Api, body: object = HEALTH, path: str = "/events", **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.client.post(path, json=body, headers=named)


async def store(api: Api, stream: str, body: Event, kind: Kind = Kind.CONFIG) -> None:
    await api.log.append(Append(events=(new_event(body, stream=stream, kind=kind),)))


async def test_an_event_is_stored_before_the_answer(api: Api) -> None:
    """202 names the position, and the log has the event there with its circumstances."""
    response = await emit(api, x_request_id="r-1")

    assert response.status_code == 202
    assert response.json() == {"positions": [1], "ids": [None], "repeated": False}
    (event,) = await api.log.read(0)
    assert (event.workspace, event.request_id, event.actor) == (DEFAULT_WORKSPACE, "r-1", None)


async def test_a_batch_is_stored_in_order(api: Api) -> None:
    """An array and lines of JSON both give one position per event."""
    array = await emit(api, [HEALTH, HEALTH | {"id": "a"}])
    lines = "\n".join(json.dumps(HEALTH | {"id": id_}) for id_ in "bc")
    headers = {"content-type": "application/x-ndjson"}
    ndjson = await api.client.post("/events", content=lines, headers=headers)

    assert array.json() == {"positions": [1, 2], "ids": [None, "a"], "repeated": False}
    assert ndjson.json() == {"positions": [3, 4], "ids": ["b", "c"], "repeated": False}


async def test_a_batch_with_a_fault_stores_nothing(api: Api) -> None:
    """All or nothing, and the answer names the line."""
    headers = {"content-type": "application/jsonl"}
    content = json.dumps(HEALTH) + '\n{"source":"balancer"}'
    response = await api.client.post("/events", content=content, headers=headers)

    assert response.status_code == 400
    assert "line 2.data: required field missing" in response.json()["message"]
    assert api.log.head == 0


async def test_a_retry_with_the_key_is_answered_with_the_first_positions(api: Api) -> None:
    """Nothing is stored twice; other content under the same key is a conflict."""
    first = await emit(api, idempotency_key="k")
    again = await emit(api, idempotency_key="k")
    other = await emit(api, HEALTH | {"data": {}}, idempotency_key="k")
    elsewhere = await emit(api, path="/team/events", idempotency_key="k")

    assert first.json()["positions"] == again.json()["positions"] == [1]
    assert (again.status_code, again.json()["repeated"]) == (202, True)
    assert (other.status_code, elsewhere.status_code) == (409, 202)
    assert api.log.head == 2


async def test_a_known_id_is_not_stored_again(api: Api) -> None:
    """Ids are per workspace and source; reuse for something else names the event."""
    await emit(api, HEALTH | {"id": "a"})
    again = await emit(api, HEALTH | {"id": "a"})
    mixed = await emit(api, [HEALTH | {"id": "a"}, HEALTH | {"id": "b"}])
    reused = await emit(api, [HEALTH, HEALTH | {"id": "a", "data": {}}])

    assert again.json() == {"positions": [1], "ids": ["a"], "repeated": True}
    assert mixed.json() == {"positions": [1, 2], "ids": ["a", "b"], "repeated": False}
    assert reused.status_code == 409
    assert "event 1" in reused.json()["message"]
    assert api.log.head == 2


async def test_the_feed_is_paged(api: Api) -> None:
    """Following `next` to its end shows every event once, in order."""
    await emit(api, [HEALTH | {"data": {"n": n}} for n in range(5)])
    path, seen = "/events?size=2", []
    while path:
        page = (await api.client.get(path)).json()
        assert page["head"] == 5
        seen += page["data"]
        path = page["next"]

    assert [event["position"] for event in seen] == [1, 2, 3, 4, 5]
    assert [event["data"]["n"] for event in seen] == [0, 1, 2, 3, 4]


async def test_a_workspaces_feed_holds_its_own_events(api: Api) -> None:
    """With a prefix, by workspace; without, everything."""
    await emit(api)
    await emit(api, path="/team/events")
    await emit(api)

    of_team = (await api.client.get("/team/events?size=1")).json()
    assert of_team == {"data": [], "next": "/team/events?after=1&size=1", "head": 3}
    page = (await api.client.get(of_team["next"])).json()
    assert [event["workspace"] for event in page["data"]] == [OTHER_WORKSPACE]
    everything = (await api.client.get("/events")).json()["data"]
    assert len(everything) == 3


async def test_an_emitted_event_is_shown_with_its_data(api: Api) -> None:
    """Flat, with names, times and the caller's own id."""
    await emit(api, HEALTH | {"id": "a"}, x_request_id="r")
    shown = (await api.client.get("/events/1")).json()

    assert shown.pop("time").endswith("Z")
    assert len(shown.pop("id")) == 36
    assert shown == {
        "position": 1,
        "type": "event_emitted",
        "workspace": DEFAULT_WORKSPACE,
        "actor": None,
        "request_id": "r",
        "source": "balancer",
        "event": "health",
        "data": {"ip": "10.0.0.5"},
        "caller_id": "a",
    }


async def test_an_event_is_found_by_any_of_its_names(api: Api) -> None:
    """Position, id, and the caller's own id within workspace and source."""
    await emit(api)
    await emit(api, HEALTH | {"id": "7"})
    await emit(api, HEALTH | {"id": "7"}, "/team/events")
    event = (await api.client.get("/events/2")).json()

    for path in (f"/events/{event['id']}", "/events/7?source=balancer", "/events/2/"):
        assert (await api.client.get(path)).json() == event
    theirs = await api.client.get("/team/events/7?source=balancer")
    assert theirs.json()["position"] == 3


@pytest.mark.parametrize(
    "path",
    [
        "/events/0",
        "/events/2",
        "/events/99999999999999999999",
        "/events/-1",
        "/events/x",
        "/events/01a1fe23-a842-7b43-acaa-7084d081e1d3",
        "/events/1?source=balancer",
    ],
)
async def test_an_unknown_event_is_not_found(api: Api, path: str) -> None:
    """404 whatever the name looks like."""
    await emit(api)

    assert (await api.client.get(path)).status_code == 404


async def test_no_secret_is_ever_shown(api: Api) -> None:
    """A change of an entity is shown with its public part only."""
    stream, public = "consumers/1", {"id": "1"}
    await store(api, stream, EntityCreated(entity=public, secrets={"key": "hush"}))
    updated = EntityUpdated(entity=public, old_entity={"id": "0"}, secrets={"key": "hush"})
    await store(api, stream, updated)
    await store(api, stream, EntityDeleted(entity=public))
    response = await api.client.get("/events")
    created, changed, deleted = response.json()["data"]

    assert "hush" not in response.text
    assert (created["table"], created["operation"], created["entity"]) == (
        "consumers",
        "create",
        public,
    )
    assert (changed["operation"], changed["old_entity"]) == ("update", {"id": "0"})
    assert (deleted["operation"], "old_entity" in deleted) == ("delete", False)


async def test_other_facts_are_shown_with_their_body(api: Api) -> None:
    """Published sources and what became of deliveries."""
    await store(api, "event_hook_sources/a/b", SourcePublished(source="a", event="b", fields=["x"]))
    await store(api, "deliveries/h", HookPaused(reason="why"), Kind.DELIVERY)
    published, paused = (await api.client.get("/events")).json()["data"]

    assert (published["source"], published["event"]) == ("a", "b")
    assert published["definition"]["fields"] == ["x"]
    assert (paused["hook"], paused["fact"]) == ("h", {"reason": "why"})


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("size=0", 9),
        ("size=1001", 9),
        ("size=x", 9),
        ("size=", 9),
        ("size=1000000000000", 9),
        ("after=-1", 7),
        ("after=x", 7),
        ("after=9999999999999999999", 7),
        ("wait=-1", 11),
        ("wait=61", 11),
        ("wait=x", 11),
        ("wait=nan", 11),
    ],
)
async def test_a_faulty_query_is_refused(api: Api, query: str, code: int) -> None:
    """400 in Kong's numbering: size 9, offset 7, options 11."""
    response = await api.client.get(f"/events?{query}")

    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_reading_beyond_the_end_gives_nothing(api: Api) -> None:
    """No error: the events may come yet."""
    response = await api.client.get("/events?after=1000")

    assert response.json() == {"data": [], "next": None, "head": 0}


async def test_a_waiting_reader_is_woken(api: Api) -> None:
    """A request at the end of the log is answered when something is stored."""
    answers = []

    async def read() -> None:
        answers.append(await api.client.get("/events?wait=60"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await emit(api)

    (answer,) = answers
    assert [event["position"] for event in answer.json()["data"]] == [1]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        ("{", "application/json", 400),
        ("[]", "application/json", 400),
        ("source=a", "application/x-www-form-urlencoded", 415),
        ("{}", "text/plain", 415),
    ],
)
async def test_a_body_that_is_no_event_is_refused(
    api: Api, content: str, content_type: str, status: int
) -> None:
    """Refused before anything is stored."""
    headers = {"content-type": content_type}
    response = await api.client.post("/events", content=content, headers=headers)

    assert response.status_code == status
    assert api.log.head == 0

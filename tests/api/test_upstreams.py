"""The health of targets: said by hand, shown again, and reported to hooks."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.records import Kind
from tests.api.entity_api import NODE, EntityApi, serving_entities

BACKEND = "/upstreams/u/targets/backend:8080"
CHECKED = {"active": {"healthy": {"interval": 5}, "unhealthy": {"interval": 5}}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log, with one upstream of two targets."""
    async with serving_entities(tmp_path) as served:
        await served.client.post("/upstreams", json={"name": "u"})
        for target in ("backend:8080", "10.0.0.5:80"):
            await served.client.post("/upstreams/u/targets", json={"target": target})
        yield served


async def facts(api: EntityApi) -> list[dict[str, Any]]:
    """The data of what was emitted as `balancer`/`health`."""
    events = await api.log.read(0, kinds=[Kind.EMITTED])
    assert {event.stream for event in events} <= {"emitted/balancer/health"}
    return [msgspec.json.decode(event.body or b"")["data"] for event in events]


async def health(api: EntityApi) -> dict[str, str]:
    """The health of each target."""
    shown = (await api.client.get("/upstreams/u/health")).json()["data"]
    return {target["target"]: target["health"] for target in shown}


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("state", ["healthy", "unhealthy"])
async def test_health_is_said_by_hand(api: EntityApi, method: str, state: str) -> None:
    """204, and one event with the fields that Kong documents, stored together with the state."""
    upstream = (await api.client.get("/upstreams/u")).json()
    before = api.log.head

    answer = await api.client.request(method, f"/upstreams/u/targets/10.0.0.5:80/{state}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert await facts(api) == [
        {
            "upstream_id": upstream["id"],
            "ip": "10.0.0.5",
            "port": 80,
            "hostname": "10.0.0.5",
            "health": state,
        }
    ]
    assert api.log.head == before + 2
    assert await health(api) == {"10.0.0.5:80": state.upper(), "backend:8080": "HEALTHCHECKS_OFF"}


async def test_an_address_of_a_target_has_its_own_health(api: EntityApi) -> None:
    """A name can stand for several addresses; the target is healthy while one of them is."""
    await api.client.put(f"{BACKEND}/10.0.0.7:8080/unhealthy")
    await api.client.put(f"{BACKEND}/10.0.0.8:8080/healthy")
    mixed = await health(api)
    await api.client.put(f"{BACKEND}/unhealthy")

    assert mixed["backend:8080"] == "HEALTHY"
    assert (await health(api))["backend:8080"] == "UNHEALTHY"
    assert [(f["hostname"], f["ip"], f["health"]) for f in await facts(api)] == [
        ("backend", "10.0.0.7", "unhealthy"),
        ("backend", "10.0.0.8", "healthy"),
        ("backend", "10.0.0.7", "unhealthy"),
        ("backend", "10.0.0.8", "unhealthy"),
    ]


async def test_a_name_of_which_no_address_is_known_has_none_in_its_event(api: EntityApi) -> None:
    """Names are not resolved here."""
    await api.client.put(f"{BACKEND}/unhealthy")

    ((fact),) = await facts(api)
    assert (fact["hostname"], fact["port"], "ip" in fact) == ("backend", 8080, False)


async def test_health_is_shown_as_kong_shows_it(api: EntityApi) -> None:
    """The target, its addresses, and the weight that takes part."""
    await api.client.put("/upstreams/u/targets/10.0.0.5:80/unhealthy")

    shown = (await api.client.get("/upstreams/u/health")).json()
    (target,) = (each for each in shown["data"] if each["target"] == "10.0.0.5:80")

    assert (shown["total"], shown["next"], shown["node_id"]) == (2, None, NODE)
    assert (target["health"], target["weight"]) == ("UNHEALTHY", 100)
    assert target["data"] == {
        "addresses": [{"ip": "10.0.0.5", "port": 80, "weight": 100, "health": "UNHEALTHY"}],
        "host": "10.0.0.5",
        "port": 80,
        "nodeWeight": 100,
        "weight": {"total": 100, "available": 0, "unavailable": 100},
    }


async def test_an_upstream_is_as_healthy_as_its_targets(api: EntityApi) -> None:
    """Its threshold is the percentage of the weight that must be left."""

    async def overall() -> str:
        answer = (await api.client.get("/upstreams/u/health?balancer_health=1")).json()
        assert answer.keys() == {"data", "next", "node_id"}
        state: str = answer["data"]["health"]
        return state

    off = await overall()
    await api.client.patch("/upstreams/u", json={"healthchecks": {**CHECKED, "threshold": 60}})
    checked = await overall()
    await api.client.put(f"{BACKEND}/unhealthy")
    half = await overall()
    await api.client.patch("/upstreams/u", json={"healthchecks": {"threshold": 50}})

    assert (off, checked, half, await overall()) == (
        "HEALTHCHECKS_OFF",
        "HEALTHY",
        "UNHEALTHY",
        "HEALTHY",
    )


async def test_all_targets_are_listed_at_once(api: EntityApi) -> None:
    """Without pages, and with their number."""
    shown = (await api.client.get("/upstreams/u/targets/all")).json()

    assert (shown["total"], shown["next"]) == (2, None)
    assert {target["target"] for target in shown["data"]} == {"backend:8080", "10.0.0.5:80"}


@pytest.mark.parametrize(
    "path",
    [
        "/upstreams/x/targets/backend:8080/healthy",
        "/upstreams/u/targets/x:1/healthy",
        f"{BACKEND}/nonsense/healthy",
        f"{BACKEND}/10.0.0.7/healthy",
        f"{BACKEND}/name:80/healthy",
        f"{BACKEND}/10.0.0.7:0/healthy",
        f"{BACKEND}/10.0.0.7:99999/healthy",
        f"{BACKEND}/10.0.0.7:{'9' * 5000}/healthy",
        f"{BACKEND}/%00/healthy",
        "/upstreams/x/health",
        "/upstreams/x/targets/all",
    ],
)
async def test_what_is_not_there_has_no_health(api: EntityApi, path: str) -> None:
    """404, and nothing is stored."""
    before = api.log.head
    method = "PUT" if path.endswith("healthy") else "GET"

    answer = await api.client.request(method, path)

    assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})
    assert api.log.head == before


async def test_health_is_forgotten_with_its_target(api: EntityApi) -> None:
    """A new target of the same name starts anew; other workspaces never saw the old one."""
    await api.client.post("/workspaces", json={"name": "team"})
    await api.client.put(f"{BACKEND}/unhealthy")
    elsewhere = await api.client.put(f"/team{BACKEND}/healthy")
    await api.client.delete(BACKEND)
    await api.client.post("/upstreams/u/targets", json={"target": "backend:8080"})

    assert elsewhere.status_code == 404
    assert (await health(api))["backend:8080"] == "HEALTHCHECKS_OFF"


async def test_a_retry_reports_nothing_twice(api: EntityApi) -> None:
    """With its key, the same request is stored once."""
    key = {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = await api.client.put(f"{BACKEND}/unhealthy", headers=key)
        assert answer.status_code == 204

    assert len(await facts(api)) == 1


async def test_the_times_of_a_target_have_milliseconds(api: EntityApi) -> None:
    """As in Kong, and unlike those of other entities."""
    target = (await api.client.get(BACKEND)).json()

    assert isinstance(target["created_at"], float)
    assert round(target["created_at"], 3) == target["created_at"]
    assert target["updated_at"] == target["created_at"]

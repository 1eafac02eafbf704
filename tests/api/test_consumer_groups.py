"""Consumers in groups, from both sides."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.entity_api import EntityApi, serving_entities


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log, with two consumers and two groups."""
    async with serving_entities(tmp_path) as served:
        for name in ("ada", "bob"):
            await served.client.post("/consumers", json={"username": name})
        for name in ("gold", "silver"):
            await served.client.post("/consumer_groups", json={"name": name})
        yield served


async def consumers(api: EntityApi, group: str) -> set[str]:
    shown = (await api.client.get(f"/consumer_groups/{group}/consumers")).json()
    return {consumer["username"] for consumer in shown["consumers"]}


async def groups(api: EntityApi, consumer: str) -> set[str]:
    shown = (await api.client.get(f"/consumers/{consumer}/consumer_groups")).json()
    return {group["name"] for group in shown["consumer_groups"]}


async def test_a_consumer_is_added_to_a_group(api: EntityApi) -> None:
    """By name or id, from either side; the answer shows both, as documented."""
    ada = (await api.client.get("/consumers/ada")).json()
    gold = (await api.client.get("/consumer_groups/gold")).json()["consumer_group"]

    first = await api.client.post("/consumer_groups/gold/consumers", data={"consumer": "ada"})
    second = await api.client.post("/consumers/bob/consumer_groups", json={"group": gold["id"]})

    assert (first.status_code, first.json()) == (201, {"consumer_group": gold, "consumers": [ada]})
    assert second.status_code == 201
    assert second.json()["consumer"]["username"] == "bob"
    assert second.json()["consumer_groups"] == [gold]
    assert await consumers(api, "gold") == {"ada", "bob"}
    assert await groups(api, "ada") == {"gold"}
    assert (await api.client.get("/consumer_groups/gold/consumers/ada")).json() == {"consumer": ada}


async def test_a_membership_is_an_entity_of_its_own(api: EntityApi) -> None:
    """It has an event, is there once, and goes with either end."""
    await api.client.post("/consumer_groups/gold/consumers", json={"consumer": "ada"})
    again = await api.client.post("/consumer_groups/gold/consumers", json={"consumer": "ada"})
    await api.client.delete("/consumers/ada")

    assert (again.status_code, again.json()["code"]) == (409, 5)
    assert [(table, type_) for table, type_, _ in (await api.bodies())[4:]] == [
        ("consumer_group_consumers", "entity_created"),
        ("consumer_group_consumers", "entity_deleted"),
        ("consumers", "entity_deleted"),
    ]
    assert await consumers(api, "gold") == set()


async def test_members_are_removed(api: EntityApi) -> None:
    """One or all, from either side; the consumers and groups themselves stay."""
    for group in ("gold", "silver"):
        for consumer in ("ada", "bob"):
            path = f"/consumer_groups/{group}/consumers"
            await api.client.post(path, json={"consumer": consumer})

    one = await api.client.delete("/consumer_groups/gold/consumers/ada")
    left = (await consumers(api, "gold"), await groups(api, "ada"))
    other = await api.client.delete("/consumers/bob/consumer_groups/gold")
    all_of_one = await api.client.delete("/consumers/ada/consumer_groups")
    all_of_other = await api.client.delete("/consumer_groups/silver/consumers")

    assert left == ({"bob"}, {"silver"})
    assert {a.status_code for a in (one, other, all_of_one, all_of_other)} == {204}
    assert await consumers(api, "gold") | await consumers(api, "silver") == set()
    assert len((await api.client.get("/consumers")).json()["data"]) == 2


async def test_members_come_in_pages(api: EntityApi) -> None:
    """`next` leads through all of them, as everywhere."""
    path: str | None = "/consumer_groups/gold/consumers?size=1"
    for consumer in ("ada", "bob"):
        await api.client.post("/consumer_groups/gold/consumers", json={"consumer": consumer})

    seen: list[str] = []
    while path:
        page = (await api.client.get(path)).json()
        assert page["data"] == page["consumers"]
        seen += [consumer["username"] for consumer in page["data"]]
        path = page["next"]

    assert sorted(seen) == ["ada", "bob"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/consumer_groups/x/consumers", None, 404),
        ("GET", "/consumer_groups/gold/consumers/ada", None, 404),
        ("POST", "/consumer_groups/gold/consumers", {"consumer": "x"}, 404),
        ("POST", "/consumer_groups/gold/consumers", {}, 400),
        ("POST", "/consumer_groups/gold/consumers", {"consumer": 5}, 400),
        ("POST", "/consumers/x/consumer_groups", {"group": "gold"}, 404),
        ("DELETE", "/consumer_groups/gold/consumers/ada", None, 204),
    ],
)
async def test_what_does_not_belong_together(
    api: EntityApi, method: str, path: str, body: Any, status: int
) -> None:
    """Unknown ends are 404, missing arguments 400; what is not there needs no removing."""
    sent = {} if body is None else {"json": body}

    assert (await api.client.request(method, path, **sent)).status_code == status


async def test_a_plugin_can_be_for_a_group(api: EntityApi) -> None:
    """Under the group's own path."""
    made = await api.client.post("/consumer_groups/gold/plugins", json={"name": "cors"})

    gold = (await api.client.get("/consumer_groups/gold")).json()["consumer_group"]
    assert (made.status_code, made.json()["consumer_group"]) == (201, {"id": gold["id"]})

"""`/tags`: which entities have which tags."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.entity_api import EntityApi, serving_entities


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log, with three tagged entities in two workspaces."""
    async with serving_entities(tmp_path) as served:
        client = served.client
        await client.post("/workspaces", json={"name": "team"})
        await client.post("/services", json={"name": "s", "host": "a", "tags": ["t2", "t1"]})
        await client.post("/consumers", json={"username": "ada", "tags": ["t1"]})
        await client.post("/consumers", json={"username": "bob"})
        await client.post("/team/consumers", json={"username": "eve", "tags": ["t1", "secret"]})
        yield served


async def pages(api: EntityApi, path: str | None) -> list[dict[str, Any]]:
    """All entries from `path` on."""
    entries: list[dict[str, Any]] = []
    while path:
        page = (await api.client.get(path)).json()
        assert ("offset" in page) == (page["next"] is not None)
        entries += page["data"]
        path = page["next"]
    return entries


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_every_tag_of_every_entity_is_listed(api: EntityApi, size: int) -> None:
    """One entry each, by table, id and tag, over as many pages as it takes."""
    service = (await api.client.get("/services/s")).json()["id"]
    ada = (await api.client.get("/consumers/ada")).json()["id"]

    assert await pages(api, f"/tags?size={size}") == [
        {"entity_name": "consumers", "entity_id": ada, "tag": "t1"},
        {"entity_name": "services", "entity_id": service, "tag": "t1"},
        {"entity_name": "services", "entity_id": service, "tag": "t2"},
    ]


async def test_the_entities_of_a_tag_are_listed(api: EntityApi) -> None:
    """Over all tables; a tag that nobody has is no error."""
    names = [entry["entity_name"] for entry in await pages(api, "/tags/t1?size=1")]

    assert names == ["consumers", "services"]
    assert (await api.client.get("/tags/none")).json() == {"data": [], "next": None}


async def test_tags_are_those_of_the_workspace(api: EntityApi) -> None:
    """Nothing of another one shows."""
    ours = {entry["tag"] for entry in await pages(api, "/tags")}
    theirs = await pages(api, "/team/tags?size=1")

    assert ours == {"t1", "t2"}
    assert [entry["tag"] for entry in theirs] == ["secret", "t1"]


@pytest.mark.parametrize("offset", ["x", "WyJhIl0="])
async def test_an_offset_that_is_none_is_refused(api: EntityApi, offset: str) -> None:
    """With Kong's code."""
    answer = await api.client.get(f"/tags?offset={offset}")

    assert (answer.status_code, answer.json()["code"]) == (400, 7)

"""Workspaces: names that are not free, and what there is in one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from projections.tables import TABLES
from tests.api.entity_api import EntityApi, serving_entities


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def test_no_workspace_is_named_like_a_path(api: EntityApi) -> None:
    """Every first segment of every path is taken, and so is the name of every table."""
    listed = (await api.client.get("/endpoints")).json()["data"]
    taken = ({path.split("/")[1] for path in listed} | set(TABLES)) - {""}

    for name in taken:
        answer = await api.client.post("/workspaces", json={"name": name})
        assert answer.status_code == 400, name
        assert answer.json()["fields"]["name"].startswith("must not be one of: acls, admins, ")
    assert {"key-auths", "keyauth_credentials", "tags", "endpoints", "event-hooks"} <= taken
    assert await api.events() == []


async def test_a_workspace_cannot_get_such_a_name_either(api: EntityApi) -> None:
    """PATCH and PUT are held to the same."""
    await api.client.post("/workspaces", json={"name": "team"})

    for method, path in (("PATCH", "/workspaces/team"), ("PUT", "/workspaces/services")):
        answer = await api.client.request(method, path, json={"name": "services"})
        assert answer.status_code == 400, method


async def test_a_workspace_counts_what_is_in_it(api: EntityApi) -> None:
    """Kong's counts, for every table that belongs to workspaces."""
    await api.client.post("/workspaces", json={"name": "team"})
    for name in ("ada", "bob"):
        await api.client.post("/team/consumers", json={"username": name})
    await api.client.delete("/team/consumers/bob")

    counts = (await api.client.get("/workspaces/team/meta")).json()["counts"]
    elsewhere = (await api.client.get("/workspaces/default/meta")).json()["counts"]

    assert counts.keys() == {table.name for table in TABLES.values() if table.scoped}
    assert (counts["consumers"], counts["services"], elsewhere["consumers"]) == (1, 0, 0)
    assert (await api.client.get("/workspaces/x/meta")).status_code == 404

"""The list of all paths."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.entity_api import EntityApi, serving_entities


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def test_all_paths_are_listed_once(api: EntityApi) -> None:
    """In order, with Kong's names of parameters, nested ones and those of references included."""
    listed = (await api.client.get("/endpoints")).json()["data"]

    assert listed == sorted(set(listed))
    assert set(listed) >= {
        "/acls/{acls}/consumer",
        "/basic-auths/{basicauth_credentials}",
        "/certificates/{certificates}/snis/{snis}",
        "/consumers/{consumers}/key-auth/{keyauth_credentials}",
        "/endpoints",
        "/event-hooks",
        "/event-hooks/{event_hooks}",
        "/event-hooks/{event_hooks}/ping",
        "/event-hooks/{event_hooks}/test",
        "/routes/{routes}/service",
        "/services/{services}/plugins/{plugins}",
        "/services/{services}/routes",
        "/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy",
    }


async def test_every_path_tells_its_methods(api: EntityApi) -> None:
    """`OPTIONS` is answered everywhere, and any other method is refused with the same list."""
    listed = (await api.client.get("/endpoints")).json()["data"]

    for template in listed:
        path = template.replace("{", "").replace("}", "")
        allowed = await api.client.options(path)
        refused = await api.client.request("TRACE", path)
        assert allowed.status_code == 204, path
        assert "OPTIONS" in allowed.headers["allow"].split(", ")
        assert allowed.headers["access-control-allow-methods"] == allowed.headers["allow"]
        assert (refused.status_code, refused.json()) == (405, {"message": "Method not allowed"})
        assert refused.headers["allow"] == allowed.headers["allow"]

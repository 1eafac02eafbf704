"""The `snis` of a certificate: a list of names that stands for entities of their own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.entity_api import EntityApi, serving_entities

CERT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def create(api: EntityApi, **args: Any) -> dict[str, Any]:
    answer = await api.client.post("/certificates", json={"cert": CERT, "key": KEY, **args})
    assert answer.status_code == 201, answer.text
    entity: dict[str, Any] = answer.json()
    return entity


async def names(api: EntityApi) -> set[str]:
    return {sni["name"] for sni in (await api.client.get("/snis")).json()["data"]}


async def test_names_are_made_with_their_certificate(api: EntityApi) -> None:
    """One event each behind the certificate's, which holds no list; answers always do."""
    made = await create(api, snis=["b.example", "a.example"])
    without = await create(api)

    assert made["snis"] == ["a.example", "b.example"]
    assert without["snis"] == []
    events = await api.bodies()
    assert [table for table, _, _ in events] == ["certificates", "snis", "snis", "certificates"]
    assert "snis" not in events[0][2]["entity"]
    for _, _, body in events[1:3]:
        assert body["entity"]["certificate"] == {"id": made["id"]}
    listed = (await api.client.get(f"/certificates/{made['id']}/snis")).json()["data"]
    assert {sni["name"] for sni in listed} == set(made["snis"])
    assert len({sni["id"] for sni in listed} | {made["id"]}) == 3


async def test_a_new_list_replaces_the_old_one(api: EntityApi) -> None:
    """PATCH and PUT delete and make names; without a list they leave them alone."""
    made = await create(api, snis=["a.example", "b.example"])
    path = f"/certificates/{made['id']}"

    patched = (await api.client.patch(path, data={"snis[]": ["b.example", "c.example"]})).json()
    untouched = (await api.client.patch(path, json={"tags": ["x"]})).json()
    replaced = (await api.client.put(path, json={"cert": CERT, "key": KEY})).json()
    emptied = (await api.client.patch(path, json={"snis": []})).json()

    assert patched["snis"] == untouched["snis"] == replaced["snis"] == ["b.example", "c.example"]
    assert (emptied["snis"], await names(api)) == ([], set())


async def test_a_name_of_another_certificate_is_refused(api: EntityApi) -> None:
    """With the certificate that has it, in Kong's form; nothing is stored."""
    first = await create(api, snis=["a.example"])
    answer = await api.client.post(
        "/certificates", json={"cert": CERT, "key": KEY, "snis": ["a.example"]}
    )

    text = f"a.example already associated with existing certificate '{first['id']}'"
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "message": f"schema violation (snis: {text})",
            "name": "schema violation",
            "fields": {"snis": text},
            "code": 2,
        },
    )
    assert len(await api.events()) == 2


async def test_a_certificate_is_found_by_a_name(api: EntityApi) -> None:
    """As with names of other entities; PUT makes a certificate with that name."""
    made = await create(api, snis=["a.example"])

    shown = await api.client.get("/certificates/a.example")
    put = await api.client.put("/certificates/new.example", json={"cert": CERT, "key": KEY})
    again = await api.client.put(
        "/certificates/new.example", json={"cert": CERT, "key": KEY, "tags": ["x"]}
    )

    assert shown.json() == made
    assert (put.status_code, put.json()["snis"]) == (200, ["new.example"])
    assert (again.json()["id"], again.json()["tags"]) == (put.json()["id"], ["x"])
    assert (await api.client.get("/certificates/x.example")).status_code == 404
    assert (await api.client.delete("/certificates/a.example")).status_code == 204
    assert await names(api) == {"new.example"}


async def test_names_belong_to_a_workspace(api: EntityApi) -> None:
    """Nothing of one can be seen or inferred from another."""
    await api.client.post("/workspaces", json={"name": "team"})
    made = await create(api, snis=["a.example"])

    theirs = await api.client.post(
        "/team/certificates", json={"cert": CERT, "key": KEY, "snis": ["a.example"]}
    )

    assert theirs.status_code == 201
    assert theirs.json()["id"] != made["id"]
    assert (await api.client.get("/team/snis/a.example")).json()["certificate"] == {
        "id": theirs.json()["id"]
    }


async def test_a_retry_is_answered_with_the_certificate(api: EntityApi) -> None:
    """Although its event is not the last one of its request."""
    body = {"cert": CERT, "key": KEY, "snis": ["a.example"]}
    key = {"Idempotency-Key": "k"}
    first = await api.client.post("/certificates", json=body, headers=key)
    again = await api.client.post("/certificates", json=body, headers=key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert len(await api.events()) == 2

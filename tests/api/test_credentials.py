"""The credentials of consumers, under Kong's paths, and what nobody gets to see of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.entity_api import EntityApi, serving_entities

ADA = "/consumers/ada"

KINDS = {
    "keyauth_credentials": ("key-auth", "key-auths", {}, "key"),
    "basicauth_credentials": (
        "basic-auth",
        "basic-auths",
        {"username": "ada", "password": "pa55"},
        "username",
    ),
    "hmacauth_credentials": ("hmac-auth", "hmac-auths", {"username": "ada"}, "username"),
    "jwt_secrets": ("jwt", "jwts", {}, "key"),
    "oauth2_credentials": ("oauth2", "oauth2", {"name": "app"}, "client_id"),
}

EVERY_KIND = pytest.mark.parametrize(
    ("table", "nested", "path", "args", "key"),
    [(table, *rest) for table, rest in KINDS.items()],
    ids=KINDS,
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log, with the consumers `ada` and `bob`."""
    async with serving_entities(tmp_path) as served:
        for name in ("ada", "bob"):
            await served.client.post("/consumers", json={"username": name})
        yield served


async def create(api: EntityApi, path: str, **args: Any) -> dict[str, Any]:
    answer = await api.client.post(path, json=args)
    assert answer.status_code == 201, answer.text
    entity: dict[str, Any] = answer.json()
    return entity


@EVERY_KIND
async def test_a_credential_belongs_to_its_consumer(
    api: EntityApi, table: str, nested: str, path: str, args: Any, key: str
) -> None:
    """Created under the consumer, found there by id and key, and under the path of its kind."""
    made = await create(api, f"{ADA}/{nested}", **args)
    ada = (await api.client.get(ADA)).json()

    assert made["consumer"] == {"id": ada["id"]}
    for place in (f"{ADA}/{nested}", f"/{path}"):
        assert (await api.client.get(f"{place}/{made['id']}")).json() == made
        assert (await api.client.get(f"{place}/{made[key]}")).json() == made
        assert (await api.client.get(place)).json()["data"] == [made]
    assert (await api.client.get(f"/consumers/bob/{nested}/{made['id']}")).status_code == 404
    assert (await api.client.get(f"/{path}/{made['id']}/consumer")).json() == ada
    assert (await api.events())[-1].stream == f"{table}/{made['id']}"


@EVERY_KIND
async def test_a_key_is_taken_for_everybody(
    api: EntityApi, table: str, nested: str, path: str, args: Any, key: str
) -> None:
    """409 with Kong's code for what another consumer has."""
    made = await create(api, f"{ADA}/{nested}", **args)

    again = await api.client.post(f"/consumers/bob/{nested}", json=args | {key: made[key]})

    assert (again.status_code, again.json()["code"]) == (409, 5)
    assert again.json()["fields"] == {key: made[key]}


@pytest.mark.parametrize(
    ("nested", "args", "secret"),
    [
        ("key-auth", {}, "key"),
        ("hmac-auth", {"username": "ada"}, "secret"),
        ("jwt", {}, "secret"),
        ("oauth2", {"name": "app"}, "client_secret"),
    ],
)
async def test_a_secret_is_made_up_and_shown_by_the_api_alone(
    api: EntityApi, nested: str, args: Any, secret: str
) -> None:
    """32 characters, another one each time, and never in what hooks and feeds see."""
    one = await create(api, f"{ADA}/{nested}", **args)
    other = await create(api, f"/consumers/bob/{nested}", **args | _other(args))
    item = f"/consumers/ada/{nested}/{one['id']}"
    kept = (await api.client.patch(item, json={"tags": ["x"]})).json()
    given = (await api.client.patch(item, json={secret: "my own"})).json()
    await api.client.delete(item)

    assert len(one[secret]) == 32
    assert len({one[secret], other[secret], one["id"].replace("-", "")}) == 3
    assert (kept[secret], given[secret]) == (one[secret], "my own")
    bodies = [body for _, _, body in await api.bodies()]
    assert bodies[2]["secrets"][secret] == one[secret]
    for body in bodies:
        visible = {name: value for name, value in body.items() if name != "secrets"}
        assert one[secret] not in str(visible)
        assert "my own" not in str(visible)


def _other(args: Any) -> Any:
    return {"username": "bob"} if "username" in args else {}


async def test_a_password_is_never_shown_nor_stored(api: EntityApi) -> None:
    """Only its digest is kept, and that is shown to nobody."""
    args = {"username": "ada", "password": "correct horse"}
    made = await create(api, f"{ADA}/basic-auth", **args)
    shown = await api.client.get(f"{ADA}/basic-auth/ada")
    without = await api.client.post(f"{ADA}/basic-auth", json={"username": "x"})

    assert "password" not in made
    assert shown.json() == made
    assert without.json()["fields"] == {"password": "required field missing"}
    (*_, (_, _, body)) = await api.bodies()
    assert body["secrets"].keys() == {"password"}
    assert "correct horse" not in str(body)


@pytest.mark.parametrize(
    ("path", "args", "secret"),
    [
        ("/vaults", {"prefix": "v", "name": "hcv", "config": {"token": "hush"}}, "config"),
        ("/keys", {"kid": "1", "jwk": '{"d":"hush"}'}, "jwk"),
        ("/keys", {"kid": "1", "pem": {"private_key": "hush", "public_key": "p"}}, "pem"),
        ("/licenses", {"payload": '{"license":"hush"}'}, "payload"),
    ],
)
async def test_what_opens_something_is_kept_apart(
    api: EntityApi, path: str, args: Any, secret: str
) -> None:
    """Shown as it was given by the Admin API's own answers, and in no entity of an event."""
    made = await create(api, path, **args)
    patched = await api.client.patch(f"{path}/{made['id']}", json={})
    await api.client.delete(f"{path}/{made['id']}")

    assert made[secret] == patched.json()[secret] == args[secret]
    for _, _, body in (await api.bodies())[2:]:
        assert "hush" not in str({name: body[name] for name in body if name != "secrets"})


async def test_an_asymmetric_token_needs_a_public_key(api: EntityApi) -> None:
    """The key that tokens are verified with; its condition is told in Kong's words."""
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
    without = await api.client.post(f"{ADA}/jwt", json={"algorithm": "RS256"})
    wrong = await api.client.post(f"{ADA}/jwt", json={"algorithm": "RS256", "rsa_public_key": "x"})
    made = await create(api, f"{ADA}/jwt", algorithm="RS256", rsa_public_key=pem)

    assert without.json()["fields"] == {
        "@entity": ["failed conditional validation given value of field 'algorithm'"],
        "rsa_public_key": "required field missing",
    }
    assert wrong.json()["fields"] == {"rsa_public_key": "invalid key"}
    assert made["rsa_public_key"] == pem


async def test_a_consumer_is_once_in_a_group_of_an_acl(api: EntityApi) -> None:
    """The group is the key below the consumer, and nothing by itself."""
    made = await create(api, f"{ADA}/acls", group="admins")
    again = await api.client.post(f"{ADA}/acls", json={"group": "admins"})
    await create(api, "/consumers/bob/acls", group="admins")

    assert again.status_code == 409
    assert (await api.client.get(f"{ADA}/acls/admins")).json() == made
    assert (await api.client.get("/acls/admins")).status_code == 404
    assert len((await api.client.get("/acls")).json()["data"]) == 2


async def test_credentials_go_with_their_consumer(api: EntityApi) -> None:
    """One event per credential, and then the consumer's."""
    for nested, _, args, _ in KINDS.values():
        await create(api, f"{ADA}/{nested}", **args)
    await create(api, f"{ADA}/acls", group="g")
    count = len(await api.events())

    await api.client.delete(ADA)

    gone = (await api.bodies())[count:]
    assert {type_ for _, type_, _ in gone} == {"entity_deleted"}
    assert sorted(table for table, _, _ in gone) == sorted([*KINDS, "acls", "consumers"])
    assert gone[-1][0] == "consumers"


async def test_a_credential_has_kongs_fields(api: EntityApi) -> None:
    """Credentials have no `updated_at`."""
    made = await create(api, f"{ADA}/key-auth", key="k", tags=["a"])

    assert made == {
        "id": made["id"],
        "created_at": made["created_at"],
        "consumer": made["consumer"],
        "key": "k",
        "ttl": None,
        "tags": ["a"],
    }

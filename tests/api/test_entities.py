# ruff: noqa: E501 - texts are compared whole
"""The endpoints of entities, as Kong's users know them."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import anyio
import pytest

from projections.tables import TABLES
from tests.api.entity_api import EntityApi, serving_entities

ID = "0fd2319f-4f4f-4f4f-8f8f-0123456789ab"
CERT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n"

VALID: dict[str, dict[str, Any]] = {
    "consumers": {"username": "ada"},
    "consumer_groups": {"name": "g"},
    "services": {"host": "a"},
    "routes": {"paths": ["/a"]},
    "plugins": {"name": "cors"},
    "upstreams": {"name": "u"},
    "targets": {"target": "a:1", "upstream": {"name": "up"}},
    "certificates": {"cert": CERT, "key": KEY},
    "ca_certificates": {"cert": CERT},
    "snis": {"name": "a.example", "certificate": {"id": ID}},
    "admins": {"username": "Arya", "email": "arya@gameofthrones.com"},
    "rbac_roles": {"name": "r"},
    "rbac_users": {"name": "u", "user_token": "t"},
    "sessions": {"session_id": "s"},
    "event_hooks": {"source": "crud", "handler": "log"},
    "workspaces": {"name": "w"},
    "keyauth_credentials": {"consumer": {"username": "owner"}},
    "basicauth_credentials": {
        "consumer": {"username": "owner"},
        "username": "u",
        "password": "p",
    },
    "hmacauth_credentials": {"consumer": {"username": "owner"}, "username": "u"},
    "jwt_secrets": {"consumer": {"username": "owner"}},
    "acls": {"consumer": {"username": "owner"}, "group": "g"},
    "oauth2_credentials": {"consumer": {"username": "owner"}, "name": "app"},
    "vaults": {"prefix": "env", "name": "env"},
    "key_sets": {"name": "k"},
    "keys": {"kid": "1", "jwk": "{}"},
    "filter_chains": {"service": {"name": "owned"}, "filters": [{"name": "f"}]},
    "licenses": {"payload": "{}"},
}
"""The least that makes an entity of each table."""

OWN_PATHS = pytest.mark.parametrize(
    "table",
    [table for table in TABLES.values() if table.endpoints],
    ids=lambda table: table.name,
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def create(api: EntityApi, path: str, **args: Any) -> dict[str, Any]:
    answer = await api.client.post(path, json=args)
    assert answer.status_code == 201, answer.text
    entity: dict[str, Any] = answer.json()
    return entity


async def with_parents(api: EntityApi) -> None:
    """What the entities of `VALID` refer to."""
    await create(api, "/upstreams", name="up")
    await create(api, "/certificates", id=ID, cert=CERT, key=KEY)
    await create(api, "/consumers", username="owner")
    await create(api, "/services", name="owned", host="a")


@OWN_PATHS
async def test_every_table_has_kongs_endpoints(api: EntityApi, table: Any) -> None:
    """Created, listed, shown, replaced, changed and deleted, each with Kong's status."""
    await with_parents(api)
    path = f"/{table.path}"

    created = await api.client.post(path, json=VALID[table.name])
    assert created.status_code == (200 if table.wrapped else 201)
    entity = created.json()[table.wrapped] if table.wrapped else created.json()
    item = f"{path}/{entity['id']}"
    listed = await api.client.get(path)
    shown = await api.client.get(item)
    changed = await api.client.patch(item, json={})
    replaced = await api.client.put(item, json=VALID[table.name])
    deleted = await api.client.delete(item)
    gone = await api.client.get(item)

    expected = {table.shown_as: entity} if table.shown_as else entity
    assert entity in listed.json()["data"]
    assert (shown.status_code, shown.json()) == (200, expected)
    assert (changed.status_code, changed.json()["id"]) == (200, entity["id"])
    assert replaced.status_code == 200
    made_up = [name for name, field in table.record.fields.items() if field.auto or field.generated]
    assert replaced.json() | dict.fromkeys(made_up) == entity | dict.fromkeys(made_up)
    assert replaced.json()["id"] == entity["id"]
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (gone.status_code, gone.json()) == (404, {"message": "Not found"})
    assert (await api.client.delete(item)).status_code == 204


async def test_a_consumer_is_shown_as_kong_shows_it(api: EntityApi) -> None:
    """Kong's fields, nulls included, and times in whole seconds."""
    answer = await api.client.post("/consumers", data={"username": "Ada Lovelace"})
    entity = answer.json()

    assert isinstance(entity["created_at"], int)
    assert entity == {
        "id": entity["id"],
        "created_at": entity["created_at"],
        "updated_at": entity["created_at"],
        "username": "Ada Lovelace",
        "username_lower": "ada lovelace",
        "custom_id": None,
        "type": 0,
        "tags": None,
    }


async def test_an_admin_is_invited(api: EntityApi) -> None:
    """POST /admins answers 200, with the admin under its own name and status 4."""
    answer = await api.client.post(
        "/admins", data={"username": "Arya Stark", "email": "arya@gameofthrones.com"}
    )

    assert answer.status_code == 200
    assert answer.json()["admin"]["status"] == 4
    assert answer.json()["admin"]["rbac_token_enabled"] is True


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        (
            "POST",
            "/event-hooks",
            {"source": "crud", "handler": "webhook", "config": {}},
            400,
            {
                "message": "schema violation (config.url: required field missing)",
                "name": "schema violation",
                "fields": {"config": {"url": "required field missing"}},
                "code": 2,
            },
        ),
        (
            "POST",
            "/event-hooks",
            {},
            400,
            {
                "message": "2 schema violations (handler: required field missing; source: required field missing)",
                "name": "schema violation",
                "fields": {
                    "handler": "required field missing",
                    "source": "required field missing",
                },
                "code": 2,
            },
        ),
        (
            "POST",
            "/consumers",
            {"username": "x", "foo": 1},
            400,
            {
                "message": "schema violation (foo: unknown field)",
                "name": "schema violation",
                "fields": {"foo": "unknown field"},
                "code": 2,
            },
        ),
        (
            "POST",
            "/plugins",
            {"name": "cors", "config": 5},
            400,
            {
                "message": "schema violation (config: expected a record)",
                "name": "schema violation",
                "fields": {"config": "expected a record"},
                "code": 2,
            },
        ),
        (
            "POST",
            "/consumers",
            {},
            400,
            {
                "message": "schema violation (at least one of these fields must be non-empty: 'custom_id', 'username')",
                "name": "schema violation",
                "fields": {
                    "@entity": [
                        "at least one of these fields must be non-empty: 'custom_id', 'username'"
                    ]
                },
                "code": 2,
            },
        ),
        (
            "POST",
            "/consumers",
            {"username": "bob"},
            409,
            {
                "message": "UNIQUE violation detected on '{username=\"bob\"}'",
                "name": "unique constraint violation",
                "fields": {"username": "bob"},
                "code": 5,
            },
        ),
        (
            "PATCH",
            f"/consumers/{ID}",
            {"username": "x"},
            404,
            {
                "message": f"could not find the entity with primary key '{{id=\"{ID}\"}}'",
                "name": "not found",
                "fields": {"id": ID},
                "code": 6,
            },
        ),
        (
            "PATCH",
            "/consumers/carol",
            {},
            404,
            {
                "message": "could not find the entity with '{username=\"carol\"}'",
                "name": "not found",
                "fields": {"username": "carol"},
                "code": 6,
            },
        ),
        ("GET", f"/consumers/{ID}", None, 404, {"message": "Not found"}),
        ("GET", "/consumers/carol", None, 404, {"message": "Not found"}),
        ("GET", f"/services/{ID}/routes", None, 404, {"message": "Not found"}),
        (
            "GET",
            "/event-hooks/nope",
            None,
            400,
            {
                "message": "invalid primary key: '{id=\"expected a valid UUID\"}'",
                "name": "invalid primary key",
                "fields": {"id": "expected a valid UUID"},
                "code": 1,
            },
        ),
        (
            "GET",
            "/event-hooks?tags=a",
            None,
            400,
            {
                "message": "invalid option (tags: cannot be used with 'event_hooks')",
                "name": "invalid options",
                "options": {"tags": "cannot be used with 'event_hooks'"},
                "code": 11,
            },
        ),
        (
            "GET",
            "/consumers?tags=",
            None,
            400,
            {
                "message": "invalid option (tags: cannot be null)",
                "name": "invalid options",
                "options": {"tags": "cannot be null"},
                "code": 11,
            },
        ),
        (
            "GET",
            "/consumers?tags=a,b/c",
            None,
            400,
            {
                "message": "invalid option (tags: invalid filter syntax)",
                "name": "invalid options",
                "options": {"tags": "invalid filter syntax"},
                "code": 11,
            },
        ),
        (
            "GET",
            "/consumers?tags=a,b,c,d,e,f",
            None,
            400,
            {
                "message": "invalid option (tags: cannot query more than 5 tags)",
                "name": "invalid options",
                "options": {"tags": "cannot query more than 5 tags"},
                "code": 11,
            },
        ),
        (
            "GET",
            "/consumers?size=1001",
            None,
            400,
            {
                "message": "size must be an integer between 1 and 1000",
                "name": "invalid size",
                "code": 9,
            },
        ),
        (
            "GET",
            "/consumers?offset=xyz",
            None,
            400,
            {
                "message": "'xyz' is not a valid offset: bad base64 encoding",
                "name": "invalid offset",
                "code": 7,
            },
        ),
        (
            "GET",
            "/consumers?offset=eHl6",
            None,
            400,
            {
                "message": "'eHl6' is not a valid offset: bad json encoding",
                "name": "invalid offset",
                "code": 7,
            },
        ),
        (
            "POST",
            "/routes",
            {"hosts": ["a"], "service": {"id": ID}},
            400,
            {
                "message": f"the foreign key '{{id=\"{ID}\"}}' does not reference an existing 'services' entity.",
                "name": "foreign key violation",
                "fields": {"service": {"id": ID}},
                "code": 4,
            },
        ),
        ("DELETE", "/consumers", None, 405, {"message": "Method not allowed"}),
        ("PATCH", "/consumers", {}, 405, {"message": "Method not allowed"}),
        ("POST", f"/consumers/{ID}", {}, 405, {"message": "Method not allowed"}),
        ("GET", "/nowhere/consumers", None, 404, {"message": "Not found"}),
    ],
)  # fmt: skip
async def test_refusals_are_kongs(
    api: EntityApi, method: str, path: str, body: Any, status: int, expected: Any
) -> None:
    """Status and body of each refusal, word for word."""
    await create(api, "/consumers", username="bob")
    sent = {} if body is None else {"json": body}

    answer = await api.client.request(method, path, **sent)

    assert (answer.status_code, answer.json()) == (status, expected)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_a_taken_id_is_refused(api: EntityApi) -> None:
    """Kong's code 3."""
    await create(api, "/consumers", id=ID, username="a")

    answer = await api.client.post("/consumers", json={"id": ID, "username": "b"})

    assert (answer.status_code, answer.json()["code"]) == (400, 3)


async def test_a_path_tells_its_methods(api: EntityApi) -> None:
    """`Allow` is complete, on OPTIONS and on refusals; HEAD is GET without a body."""
    options = await api.client.options("/consumers")
    refused = await api.client.delete("/consumers")
    head = await api.client.head("/consumers")

    assert options.status_code == 204
    assert options.headers["allow"] == refused.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await api.client.options("/consumers/x")).headers["allow"] == (
        "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    )
    assert head.status_code == 200


async def test_a_closing_slash_makes_no_difference(api: EntityApi) -> None:
    """Kong's documentation has both."""
    await create(api, "/consumers/", username="a")

    assert (await api.client.get("/consumers/a/")).status_code == 200


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_pages_follow_each_other(api: EntityApi, size: int) -> None:
    """`next` and `offset` lead through all entities in order of their ids."""
    ids = [(await create(api, "/consumers", username=str(n), tags=["t"]))["id"] for n in range(7)]

    seen: list[str] = []
    path: str | None = f"/consumers?size={size}&tags=t"
    page: dict[str, Any] = {}
    while path:
        page = (await api.client.get(path)).json()
        seen += [entity["id"] for entity in page["data"]]
        path = page["next"]
        if path:
            query = parse_qs(urlsplit(path).query)
            assert query == {"offset": [page["offset"]], "tags": ["t"], "size": [str(size)]}
            assert base64.b64decode(page["offset"]).decode() == f'["{seen[-1]}"]'

    assert seen == sorted(ids)
    assert "offset" not in page


async def test_an_empty_list_has_no_next_page(api: EntityApi) -> None:
    """The keys of an answer do not depend on there being anything."""
    assert (await api.client.get("/consumers")).json() == {"data": [], "next": None}


async def test_tags_filter_lists(api: EntityApi) -> None:
    """A comma asks for all tags, a slash for any."""
    for name, tags in (("a", ["x"]), ("b", ["x", "y"]), ("c", None)):
        await create(api, "/consumers", username=name, tags=tags)

    async def names(tags: str) -> list[str]:
        page = (await api.client.get("/consumers", params={"tags": tags})).json()
        return sorted(entity["username"] for entity in page["data"])

    assert (await names("x"), await names("x,y"), await names("y/x")) == (
        ["a", "b"],
        ["b"],
        ["a", "b"],
    )


async def test_consumers_are_found_by_their_custom_id(api: EntityApi) -> None:
    """Kong's `?custom_id=`; the answer is a list."""
    ada = await create(api, "/consumers", username="ada", custom_id="42")
    await create(api, "/consumers", username="bob", custom_id="43")

    found = (await api.client.get("/consumers?custom_id=42")).json()
    nobody = (await api.client.get("/consumers?custom_id=44")).json()

    assert (found, nobody["data"]) == ({"data": [ada], "next": None}, [])


async def test_hooks_have_no_tags(api: EntityApi) -> None:
    """Asking for them is an invalid option, as with any entity without tags."""
    answer = await api.client.get("/event-hooks?tags=a")

    assert (answer.status_code, answer.json()) == (
        400,
        {
            "message": "invalid option (tags: cannot be used with 'event_hooks')",
            "name": "invalid options",
            "options": {"tags": "cannot be used with 'event_hooks'"},
            "code": 11,
        },
    )


async def test_nested_paths_see_the_children_of_their_parent(api: EntityApi) -> None:
    """Listed, paged, created, shown and deleted below the parent, by name or id."""
    await create(api, "/upstreams", name="u")
    await create(api, "/upstreams", name="v")
    for target in ("a:1", "b:1", "c:1"):
        await create(api, "/upstreams/u/targets", target=target)
    other = await create(api, "/upstreams/v/targets", target="a:1")

    first = (await api.client.get("/upstreams/u/targets?size=2")).json()
    rest = (await api.client.get(first["next"])).json()
    shown = await api.client.get("/upstreams/v/targets/a:1")
    hidden = await api.client.get(f"/upstreams/u/targets/{other['id']}")
    patched = await api.client.patch("/upstreams/u/targets/b:1", json={"weight": 5})
    deleted = await api.client.delete("/upstreams/u/targets/c:1")
    replaced = await api.client.put("/upstreams/u/targets/c:1", json={"weight": 7})

    targets = [target["target"] for target in first["data"] + rest["data"]]
    assert (len(first["data"]), sorted(targets)) == (2, ["a:1", "b:1", "c:1"])
    assert first["next"].startswith("/upstreams/u/targets?offset=")
    assert shown.json() == other
    assert hidden.status_code == 404
    assert patched.json()["weight"] == 5
    assert deleted.status_code == 204
    assert (replaced.json()["target"], replaced.json()["weight"]) == ("c:1", 7)


async def test_what_an_entity_refers_to_is_found_below_it(api: EntityApi) -> None:
    """Shown, changed, replaced and deleted as under its own path."""
    service = await create(api, "/services", name="s", host="a")
    await create(api, "/services/s/routes", name="r", paths=["/a"])
    await create(api, "/routes", name="alone", paths=["/b"])
    path = "/routes/r/service"

    shown = await api.client.get(path)
    patched = await api.client.patch(path, json={"host": "b"})
    replaced = await api.client.put(path, json={"name": "renamed", "host": "c"})
    held = await api.client.delete(path)
    nobody = await api.client.get("/routes/alone/service")
    nowhere = await api.client.get("/routes/x/service")

    assert (shown.json(), patched.json()["host"]) == (service, "b")
    assert (replaced.json()["id"], replaced.json()["name"]) == (service["id"], "renamed")
    assert (held.status_code, held.json()["code"]) == (400, 4)
    assert nobody.json() == nowhere.json() == {"message": "Not found"}
    assert (nobody.status_code, nowhere.status_code) == (404, 404)


async def test_deleting_a_parent_deletes_its_children(api: EntityApi) -> None:
    """One event per child, and then the parent's."""
    await create(api, "/upstreams", name="u")
    await create(api, "/upstreams/u/targets", target="a:1")

    answer = await api.client.delete("/upstreams/u")

    assert answer.status_code == 204
    assert [(table, type_) for table, type_, _ in (await api.bodies())[2:]] == [
        ("targets", "entity_deleted"),
        ("upstreams", "entity_deleted"),
    ]
    assert (await api.client.get("/targets")).json()["data"] == []


async def test_a_workspace_has_its_own_entities(api: EntityApi) -> None:
    """The same name exists once per workspace; the prefix is a name or an id."""
    workspace = await create(api, "/workspaces", name="team")
    await create(api, "/consumers", username="ada")
    ours = await create(api, "/team/consumers", username="ada")

    by_id = await api.client.get(f"/{workspace['id']}/consumers/ada")
    from_outside = await api.client.get(f"/consumers/{ours['id']}")
    page = (await api.client.get("/team/consumers?size=1")).json()
    more = await create(api, "/team/consumers", username="bob")
    next_page = (await api.client.get("/team/consumers?size=1")).json()["next"]

    assert by_id.json() == ours
    assert from_outside.status_code == 404
    assert page["data"] == [ours]
    assert (await api.client.get(next_page)).json()["data"] == [max(ours, more, key=_id)]
    assert {event.workspace for event in await api.events() if "consumers" in event.stream} == {
        workspace["id"],
        (await api.client.get("/workspaces/default")).json()["id"],
    }


def _id(entity: dict[str, Any]) -> str:
    identity: str = entity["id"]
    return identity


async def test_an_occupied_workspace_stays(api: EntityApi) -> None:
    """It goes when its last entity has gone; the default one never does."""
    await create(api, "/workspaces", name="team")
    await create(api, "/team/event-hooks", source="crud", handler="log")

    occupied = await api.client.delete("/workspaces/team")
    hook = (await api.client.get("/team/event-hooks")).json()["data"][0]
    await api.client.delete(f"/team/event-hooks/{hook['id']}")

    assert (occupied.status_code, occupied.json()) == (400, {"message": "Workspace is not empty"})
    assert (await api.client.delete("/workspaces/team")).status_code == 204
    assert (await api.client.delete("/workspaces/default")).status_code == 400


async def test_of_two_creations_of_one_name_one_wins(api: EntityApi) -> None:
    """However they interleave: one 201, the others 409 with Kong's body."""
    answers: list[Any] = []

    async def post() -> None:
        answers.append(await api.client.post("/consumers", json={"username": "ada"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(post)

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {5}
    assert len(await api.events()) == 1


async def test_writes_of_many_clients_are_all_stored(api: EntityApi) -> None:
    """Writers that do not collide never see each other."""
    statuses: list[int] = []

    async def post(name: str) -> None:
        answer = await api.client.post("/consumers", json={"username": name})
        statuses.append(answer.status_code)
        assert (await api.client.get(f"/consumers/{name}")).status_code == 200

    async with anyio.create_task_group() as tasks:
        for n in range(30):
            tasks.start_soon(post, f"c{n}")

    assert statuses == [201] * 30


async def test_a_repeated_creation_gets_the_first_answer(api: EntityApi) -> None:
    """With its key, the same request is stored once and answered alike, even after a change."""
    key = {"Idempotency-Key": "k1"}
    first = await api.client.post("/consumers", json={"username": "ada"}, headers=key)
    await api.client.patch("/consumers/ada", json={"tags": ["x"]})
    again = await api.client.post("/consumers", json={"username": "ada"}, headers=key)
    other = await api.client.post("/consumers", json={"username": "bob"}, headers=key)

    assert (again.status_code, again.json()) == (201, first.json())
    assert other.status_code == 409
    assert len(await api.events()) == 2


async def test_any_write_can_be_repeated(api: EntityApi) -> None:
    """PATCH, PUT and DELETE too, also when the entity has gone since."""
    await create(api, "/consumers", username="ada", id=ID)
    path = f"/consumers/{ID}"

    def request(method: str, key: str, body: Any = None) -> Any:
        sent = {} if body is None else {"json": body}
        return api.client.request(method, path, headers={"Idempotency-Key": key}, **sent)

    patched = await request("PATCH", "a", {"tags": ["x"]})
    replaced = await request("PUT", "b", {"username": "bob"})
    deleted = await request("DELETE", "c")
    count = len(await api.events())

    for first, again in (
        (patched, await request("PATCH", "a", {"tags": ["x"]})),
        (replaced, await request("PUT", "b", {"username": "bob"})),
        (deleted, await request("DELETE", "c")),
    ):
        assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (await request("PATCH", "a", {"tags": ["y"]})).status_code == 409
    assert (await request("PATCH", "new", {})).status_code == 404
    assert len(await api.events()) == count


async def test_a_form_of_a_known_plugin_has_types(api: EntityApi) -> None:
    """What is documented about the plugins that events come from; the rest stays as it is sent."""
    answer = await api.client.post(
        "/plugins",
        data={
            "name": "rate-limiting-advanced",
            "config.limit": "5",
            "config.window_size[]": "60",
            "config.sync_rate": "-1",
            "config.unheard_of.a": "1",
        },
    )
    config = answer.json()["config"]
    changed = await api.client.patch(
        f"/plugins/{answer.json()['id']}",
        json={"config": {"limit": [6], "unheard_of": {"b": "2"}}},
    )

    assert answer.status_code == 201
    assert (config["limit"], config["window_size"], config["sync_rate"]) == ([5], [60], -1)
    assert (config["unheard_of"], config["window_type"]) == ({"a": "1"}, "sliding")
    assert changed.json()["config"] == config | {
        "limit": [6],
        "unheard_of": {"a": "1", "b": "2"},
    }


async def test_the_secrets_of_a_known_plugin_stay_with_the_api(api: EntityApi) -> None:
    """At any depth, beside fields that nothing is known about."""
    redis = {"host": "r", "password": "pa55", "unheard_of": 1}
    limit = {"limit": [5], "window_size": [60], "redis": redis}
    plugin = await create(api, "/plugins", name="rate-limiting-advanced", config=limit)
    log = {"http_endpoint": "http://a", "headers": {"Kong-Admin-Token": "t0ken"}}
    other = await create(api, "/plugins", name="http-log", config=log)
    patched = await api.client.patch(
        f"/plugins/{plugin['id']}", json={"config": {"redis": {"host": "s"}}}
    )

    assert plugin["config"]["redis"]["password"] == "pa55"
    assert other["config"]["headers"] == {"Kong-Admin-Token": "t0ken"}
    assert patched.json()["config"]["redis"] == plugin["config"]["redis"] | {"host": "s"}
    for _, _, body in await api.bodies():
        assert body["secrets"].keys() <= {"config.redis.password", "config.headers"}
        assert "pa55" not in str(body["entity"])
        assert "t0ken" not in str(body["entity"])


async def test_a_known_plugin_is_checked(api: EntityApi) -> None:
    """All that is missing or wrong in its configuration is named at once."""
    answer = await api.client.post(
        "/plugins", json={"name": "rate-limiting-advanced", "config": {"limit": "x", "mine": [1]}}
    )

    assert answer.json()["fields"] == {
        "config": {"limit": "expected an array", "window_size": "required field missing"}
    }


async def test_a_write_says_who_made_it(api: EntityApi) -> None:
    """The event carries the request's id and workspace."""
    await api.client.post("/consumers", json={"username": "a"}, headers={"X-Request-Id": "r-1"})

    (event,) = await api.events()
    assert (event.request_id, event.type) == ("r-1", "entity_created")


async def test_secrets_are_shown_by_the_api_alone(api: EntityApi) -> None:
    """A private key is in the answer and among the event's secrets, not in its entity."""
    certificate = await create(api, "/certificates", cert=CERT, key=KEY)
    user = await create(api, "/rbac/users", name="ada", user_token="t0ken")
    await api.client.patch(f"/certificates/{certificate['id']}", json={"tags": ["x"]})

    bodies = [body for _, _, body in await api.bodies()]
    assert certificate["key"] == KEY
    assert "user_token" not in user
    assert [KEY in str(body["entity"]) for body in bodies] == [False] * 3
    assert "key" not in bodies[2]["old_entity"]
    assert bodies[2]["secrets"] == {"key": KEY}
    assert "t0ken" not in str(bodies)


HOSTILE: list[Any] = [
    [],
    None,
    "x",
    {"id": []},
    {"id": {}},
    {"id": "\x00"},
    {"created_at": -1},
    {"created_at": "x"},
    {"name": {"a": {"b": []}}},
    {"": ""},
    {"tags": [[]]},
    {"config": []},
    {"service": []},
    {"service": {"name": 5}},
    {"upstream": {"name": "\udfff"}},
    {"url": "http://[", "host": 1},
    {"protocols": {"a": 1}},
    {"handler": [], "source": {}},
]


@OWN_PATHS
async def test_hostile_bodies_are_refused(api: EntityApi, table: Any) -> None:
    """Whatever is sent, the answer is a 4xx that says what is wrong with it.

    But for the id in the body of a PUT, which that of the path overrules.
    """
    for body in HOSTILE:
        for method, path in (
            ("POST", f"/{table.path}"),
            ("PUT", f"/{table.path}/{uuid4()}"),
            ("PATCH", f"/{table.path}/{ID}"),
            ("POST", f"/schemas/{table.name}/validate"),
        ):
            raw = str(body).replace("'", '"').replace("None", "null").encode()
            answer = await api.client.request(
                method, path, content=raw, headers={"Content-Type": "application/json"}
            )
            overruled = method == "PUT" and body is not None and "id" in body
            assert answer.status_code < 500, (method, body, answer.text)
            assert answer.status_code >= 400 or overruled, (method, body, answer.text)
            assert answer.status_code < 400 or answer.json()["message"]

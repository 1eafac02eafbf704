"""Users, roles and permissions as Kong documents them, and what they come to at once."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from projections.built_in import role_id
from tests.api.rbac_api import ALPHA, DEFAULT, READER, SUPER, RbacApi, serving_rbac, teams

UNAUTHORIZED = {"message": "Invalid RBAC credentials"}
HOOK = "b5f1e9c0-2a53-4a9c-9d9e-4c6fca1a7d11"
ALL = ["delete", "create", "update", "read"]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RbacApi]:
    async with serving_rbac(tmp_path) as served:
        yield served


async def shown(api: RbacApi, path: str) -> Any:
    answer = await api.ask(SUPER, "GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def given(api: RbacApi, *permissions: dict[str, Any]) -> str:
    """The token of a user `bob` of the default workspace with one role that has these."""
    await api.done("/rbac/roles", {"name": "bobs"})
    for permission in permissions:
        await api.done("/rbac/roles/bobs/endpoints", permission)
    await api.done("/rbac/users", {"name": "bob", "user_token": "bobs-token"})
    await api.done("/rbac/users/bob/roles", {"roles": "bobs"})
    return "bobs-token"


async def status(api: RbacApi, token: str, method: str, path: str, **options: Any) -> int:
    return (await api.ask(token, method, path, **options)).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Kong-Admin-Token": ""},
        {"Kong-Admin-Token": "wrong"},
        {"Kong-Admin-Token": "wrong", "Authorization": f"Bearer {SUPER}"},
        {"Authorization": SUPER},
        {"Authorization": f"Basic {SUPER}"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer"},
        {"Kong-Admin-Token": SUPER.upper()},
        {"Kong-Admin-Token": "\xfc\xff".encode("latin-1")},
    ],
)
async def test_a_missing_and_a_wrong_token_look_the_same(api: RbacApi, headers: Any) -> None:
    """Kong's 401, and the way to authenticate."""
    answer = await api.ask(None, "GET", "/consumers", headers=headers)

    assert (answer.status_code, answer.json()) == (401, UNAUTHORIZED)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Kong-Admin-Token": SUPER},
        {"Authorization": f"Bearer {SUPER}"},
        {"Authorization": f"bearer  {SUPER}"},
        {"Authorization": "Basic eA==", "Kong-Admin-Token": SUPER},
    ],
)
async def test_a_token_comes_in_either_header(api: RbacApi, headers: Any) -> None:
    """Kong's own wins."""
    assert (await api.ask(None, "GET", "/consumers", headers=headers)).status_code == 200


async def test_a_token_may_hold_any_letters(api: RbacApi) -> None:
    """As curl sends them, in UTF-8."""
    await api.done("/rbac/users", {"name": "super-admin-2", "user_token": "schlüssel"})
    await api.done("/rbac/users/super-admin-2/roles", {"roles": "super-admin"})
    headers = {"Kong-Admin-Token": "schlüssel".encode()}

    assert (await api.ask(None, "GET", "/", headers=headers)).status_code == 200


async def test_a_refusal_says_what_for(api: RbacApi) -> None:
    """Kong's sentence, with the name of the user and the verb."""
    token = await given(api, {"endpoint": "/consumers", "actions": "read"})
    said = {}
    for method in ("GET", "POST", "PATCH", "DELETE"):
        answer = await api.ask(token, method, "/services/x")
        assert answer.status_code == 403
        said[method] = answer.json()["message"]

    assert said == {
        method: f"bob, you do not have permissions to {verb} this resource"
        for method, verb in zip(said, ("read", "create", "update", "delete"), strict=True)
    }


async def test_what_concerns_all_workspaces_says_so(api: RbacApi) -> None:
    """A permission for everything in one workspace is too little for a hook that sees them all."""
    await teams(api)
    hook = {"source": "crud", "handler": "log"}
    refused = await api.ask(DEFAULT, "POST", "/event-hooks", json=hook)
    own = await api.ask(ALPHA, "POST", "/alpha/event-hooks", json=hook)

    assert refused.json() == {
        "message": "default-admin, you do not have permissions to create this resource:"
        " it concerns all workspaces, so a permission for workspace '*' is needed"
    }
    assert own.status_code == 201


async def test_permissions_are_in_force_at_once(api: RbacApi) -> None:
    """Given, taken away, disabled, renewed and deleted: the very next request knows."""
    token = await given(api)
    seen = [await status(api, token, "GET", "/consumers")]
    await api.done("/rbac/roles/bobs/endpoints", {"endpoint": "/consumers", "actions": "read"})
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.ask(SUPER, "DELETE", "/rbac/roles/bobs/endpoints/default/consumers")
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.done("/rbac/users/bob/roles", {"roles": "read-only"})
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.ask(SUPER, "DELETE", "/rbac/users/bob/roles", json={"roles": "read-only"})
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.ask(SUPER, "PATCH", "/rbac/users/bob", json={"enabled": False})
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.ask(SUPER, "PATCH", "/rbac/users/bob", json={"enabled": True})
    seen.append(await status(api, token, "GET", "/consumers"))
    await api.ask(SUPER, "PATCH", "/rbac/users/bob", json={"user_token": "another"})
    seen += [await status(api, each, "GET", "/consumers") for each in (token, "another")]
    await api.ask(SUPER, "DELETE", "/rbac/users/bob")
    seen.append(await status(api, "another", "GET", "/consumers"))

    assert seen == [403, 200, 403, 200, 403, 401, 403, 401, 403, 401]


async def test_a_token_is_made_up_and_shown_once(api: RbacApi) -> None:
    """As in Kong's guide: without one in the request, the answer has it, and no other answer."""
    made = await api.done("/rbac/users", {"name": "ada"})
    token = made.pop("user_token")

    assert await shown(api, "/rbac/users/ada") == made
    assert await status(api, token, "GET", "/consumers") == 403
    assert token.encode() not in b"".join(event.body or b"" for event in await api.log.read(0))


async def test_whoever_is_named_like_a_role_has_it(api: RbacApi) -> None:
    """As in Kong's guide, where the user super-admin becomes one by name."""
    await api.done("/rbac/users", {"name": "read-only", "user_token": "t"})
    answer = await shown(api, "/rbac/users/read-only/roles")

    assert [role["name"] for role in answer["roles"]] == ["read-only"]
    assert answer["user"]["name"] == "read-only"


async def test_roles_are_given_and_taken_by_name(api: RbacApi) -> None:
    """Separated by commas, as a list, or as a form; once is enough; Kong's answers."""
    await given(api)
    answer = await api.ask(
        SUPER, "POST", "/rbac/users/bob/roles", data={"roles": "read-only, admin"}
    )
    again = await api.ask(
        SUPER, "POST", "/rbac/users/bob/roles", json={"roles": ["admin", role_id("read-only")]}
    )
    before = await api.log.read(0)
    taken = await api.ask(SUPER, "DELETE", "/rbac/users/bob/roles", json={"roles": "admin,bobs"})
    left = await shown(api, "/rbac/users/bob/roles")

    assert answer.status_code == again.status_code == 201
    assert answer.json() == again.json()
    assert answer.json()["user"] == left["user"]
    assert [role["name"] for role in answer.json()["roles"]] == ["admin", "bobs", "read-only"]
    assert (taken.status_code, taken.content) == (204, b"")
    assert [role["name"] for role in left["roles"]] == ["read-only"]
    assert [event.type for event in (await api.log.read(0))[len(before) :]] == [
        "entity_deleted"
    ] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "schema violation (roles: required field missing)"),
        ({"roles": ""}, "schema violation (roles: required field missing)"),
        ({"roles": 5}, "schema violation (roles: expected names separated by commas)"),
        ({"roles": "a", "b": 1}, "schema violation (b: unknown field)"),
        ({"roles": "admin,ghost"}, "role not found with name 'ghost'"),
    ],
)
async def test_roles_that_cannot_be_given(api: RbacApi, body: Any, message: str) -> None:
    """Nothing is given then."""
    await given(api)
    answer = await api.ask(SUPER, "POST", "/rbac/users/bob/roles", json=body)

    assert (answer.status_code, answer.json()["message"]) == (400, message)
    assert len((await shown(api, "/rbac/users/bob/roles"))["roles"]) == 1


async def test_a_permission_has_kongs_form(api: RbacApi) -> None:
    """Created, shown, listed, changed and deleted, by workspace and endpoint."""
    await given(api)
    path = "/rbac/roles/bobs/endpoints"
    sent = {"endpoint": "/services/*/plugins/", "actions": "read,create"}
    made = await api.ask(SUPER, "POST", f"{path}/", data=sent)
    one = await shown(api, f"{path}/default/services/*/plugins")
    listed = await shown(api, path)
    change = {"actions": "*", "negative": True, "comment": "no"}
    changed = await api.ask(SUPER, "PATCH", f"{path}/default/services/*/plugins", json=change)
    twice = await api.ask(SUPER, "POST", path, json=sent)
    gone = [
        await status(api, SUPER, method, f"{path}/default/services/*/plugins")
        for method in ("DELETE", "DELETE", "GET", "PATCH")
    ]

    expected = {
        "actions": ["read", "create"],
        "comment": None,
        "endpoint": "/services/*/plugins",
        "negative": False,
        "role": one["role"],
        "workspace": "default",
    }
    assert (made.status_code, twice.status_code, gone) == (201, 409, [204, 204, 404, 404])
    assert made.json() == one == expected | {"created_at": one["created_at"]}
    assert listed == {"data": [one]}
    assert changed.json() == one | change | {"actions": ALL}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"endpoint": "/a"}, {"actions": "required field missing"}),
        ({"endpoint": "/a", "actions": []}, {"actions": "length must be at least 1"}),
        ({"endpoint": "a", "actions": "*"}, {"endpoint": "must be * or start with /"}),
        ({"actions": "*"}, {"endpoint": "required field missing"}),
        ({"endpoint": "*", "actions": "*", "workspace": 5}, {"workspace": "expected a string"}),
        (
            {"endpoint": "*", "actions": "*", "workspace": "nowhere"},
            {"workspace": "there is no workspace 'nowhere'"},
        ),
        (
            {"endpoint": "*", "actions": "read,write"},
            {"actions": [None, "expected one of: read, create, update, delete"]},
        ),
    ],
)
async def test_permissions_that_make_no_sense(api: RbacApi, body: Any, fields: Any) -> None:
    """Refused with what is wrong."""
    await given(api)
    answer = await api.ask(SUPER, "POST", "/rbac/roles/bobs/endpoints", json=body)

    assert (answer.status_code, answer.json()["fields"]) == (400, fields)


async def test_what_a_permission_is_about_stays(api: RbacApi) -> None:
    """For another endpoint there is another permission."""
    await given(api, {"endpoint": "/a", "actions": "*"})
    answer = await api.ask(
        SUPER, "PATCH", "/rbac/roles/bobs/endpoints/default/a", json={"endpoint": "/b"}
    )

    assert (answer.status_code, answer.json()["fields"]) == (400, {"endpoint": "cannot be changed"})


async def test_permissions_are_listed_together(api: RbacApi) -> None:
    """Kong's form: by workspace, then by endpoint with the workspace before it."""
    await given(
        api,
        {"endpoint": "*", "actions": "*", "workspace": "*"},
        {"endpoint": "/rbac/*", "actions": "*", "workspace": "*", "negative": True},
    )
    expected = {
        "endpoints": {
            "*": {
                "*": {"actions": ALL, "negative": False},
                "/*/rbac/*": {"actions": ALL, "negative": True},
            }
        },
        "entities": {},
    }

    assert await shown(api, "/rbac/roles/bobs/permissions") == expected
    assert await shown(api, "/rbac/users/bob/permissions") == expected


async def test_permissions_of_several_roles_are_put_together(api: RbacApi) -> None:
    """Actions add up, and what is denied to one role is shown as denied."""
    await given(
        api,
        {"endpoint": "/a", "actions": "read"},
        {"endpoint": "/b", "actions": "read"},
    )
    await api.done("/rbac/roles", {"name": "other"})
    for sent in (
        {"endpoint": "/a", "actions": "read,delete"},
        {"endpoint": "/b", "actions": "read", "negative": True},
    ):
        await api.done("/rbac/roles/other/endpoints", sent)
    await api.done("/rbac/users/bob/roles", {"roles": "other"})
    answer = await shown(api, "/rbac/users/bob/permissions")

    assert {
        endpoint: (sorted(said["actions"]), said["negative"])
        for endpoint, said in answer["endpoints"]["default"].items()
    } == {"/default/a": (["delete", "read"], False), "/default/b": (["read"], True)}


async def test_the_default_roles_are_there_and_stay(api: RbacApi) -> None:
    """Three, with Kong's names and comments; nobody can change them or lock everybody out."""
    roles = (await shown(api, "/rbac/roles"))["data"]
    path = "/rbac/roles/super-admin"
    grant = {"endpoint": "/a", "actions": "*", "negative": True}
    refused = [
        await api.ask(SUPER, "PATCH", path, json={"comment": "x"}),
        await api.ask(SUPER, "PUT", path, json={"name": "super-admin"}),
        await api.ask(SUPER, "DELETE", path),
        await api.ask(SUPER, "POST", f"{path}/endpoints", json=grant),
        await api.ask(SUPER, "PATCH", f"{path}/endpoints/*/*", json={"negative": True}),
        await api.ask(SUPER, "DELETE", f"{path}/endpoints/*/*"),
    ]

    assert {role["name"] for role in roles} == {"read-only", "admin", "super-admin"}
    assert all(role["is_default"] and role["comment"] for role in roles)
    assert [(each.status_code, each.json()) for each in refused] == [
        (400, {"message": "a default role cannot be changed or deleted"})
    ] * 6


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("read-only", [200, 403, 200, 403, 200, 403]),
        ("admin", [200, 201, 403, 403, 200, 403]),
        ("super-admin", [200, 201, 200, 201, 200, 200]),
    ],
)
async def test_what_the_default_roles_may_do(api: RbacApi, role: str, expected: list[int]) -> None:
    """Look at everything; everything but RBAC, and so no inviting of admins; everything."""
    await api.done("/rbac/users", {"name": "zoe", "user_token": "t"})
    await api.done("/rbac/users/zoe/roles", {"roles": role})
    name = {"name": "x"}
    seen = [
        await status(api, "t", "GET", "/workspaces"),
        await status(api, "t", "POST", "/workspaces", json=name),
        await status(api, "t", "GET", "/rbac/roles/admin/endpoints/*/rbac/*/*/*"),
        await status(api, "t", "POST", "/rbac/users/zoe/roles", json={"roles": "super-admin"}),
        await status(api, "t", "GET", "/admins"),
        await status(api, "t", "POST", "/admins", json={"username": "me"}),
    ]

    assert seen == expected


async def test_a_team_manages_itself_and_no_more(api: RbacApi) -> None:
    """Kong's guide: an admin of a workspace makes users and roles there, within that workspace."""
    await teams(api)
    role = "/alpha/rbac/roles/users/endpoints"
    await api.done("/alpha/rbac/roles", {"name": "users"}, token=ALPHA)
    own = await api.done(role, {"endpoint": "*", "actions": "*"}, token=ALPHA)
    await api.done("/alpha/rbac/users", {"name": "foo", "user_token": "foo"}, token=ALPHA)
    await api.done("/alpha/rbac/users/foo/roles", {"roles": "users"}, token=ALPHA)
    beyond = [
        await api.ask(ALPHA, "POST", role, json={"endpoint": "*", "actions": "*", "workspace": to})
        for to in ("*", "beta", "default", "nowhere")
    ]
    wrong = "a role of this workspace can only have permissions in this workspace"
    promoted = await api.ask(
        ALPHA, "POST", "/alpha/rbac/users/foo/roles", json={"roles": "super-admin"}
    )

    assert own["workspace"] == "alpha"
    assert [(each.status_code, each.json()["fields"]) for each in beyond] == [
        (400, {"workspace": wrong})
    ] * 4
    assert promoted.json() == {"message": "role not found with name 'super-admin'"}
    assert await status(api, "foo", "GET", "/alpha/consumers") == 200
    assert await status(api, "foo", "GET", "/beta/consumers") == 403
    assert await status(api, "foo", "GET", "/consumers") == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/rbac/roles", {"name": "mine"}),
        ("POST", "/rbac/users/default-admin/roles", {"roles": "super-admin"}),
        ("POST", "/rbac/users", {"name": "super-admin"}),
        ("PATCH", "/rbac/users/super-admin", {"user_token": "mine"}),
        ("POST", "/admins", {"username": "me"}),
        ("PUT", "/event-hooks/sources/mine/event", {}),
        ("POST", "/workspaces", {"name": "mine"}),
        ("GET", "/workspaces", None),
        ("GET", "/status", None),
        ("GET", "/metrics", None),
        ("GET", "/", None),
        ("GET", "/licenses", None),
        ("GET", f"/event-hooks/{HOOK}/deliveries", None),
        ("GET", f"/event-hooks/{HOOK}/parked", None),
        ("GET", f"/event-hooks/{HOOK}/ping", None),
        ("POST", f"/event-hooks/{HOOK}/parked/resend", None),
        ("POST", f"/event-hooks/{HOOK}/pause", None),
        ("POST", f"/event-hooks/{HOOK}/test", {}),
        ("PUT", f"/event-hooks/{HOOK}", {"source": "crud", "handler": "log"}),
        ("DELETE", f"/event-hooks/{HOOK}", None),
    ],
)
async def test_the_default_workspace_is_no_way_up(
    api: RbacApi, method: str, path: str, body: Any
) -> None:
    """Everything in one workspace, be it the default one, is not everything."""
    await teams(api)

    assert await status(api, DEFAULT, method, path, json=body) == 403
    assert await status(api, DEFAULT, "GET", "/event-hooks") == 200


async def test_everything_but_one_workspace(api: RbacApi) -> None:
    """An exception for a workspace is one for what concerns them all, too."""
    await teams(api)
    token = await given(
        api,
        {"endpoint": "*", "actions": "*", "workspace": "*"},
        {"endpoint": "*", "actions": "*", "workspace": "beta", "negative": True},
    )

    assert await status(api, token, "GET", "/alpha/consumers") == 200
    assert await status(api, token, "GET", "/beta/consumers") == 403
    assert await status(api, token, "GET", "/workspaces") == 403


async def test_a_renamed_workspace_keeps_its_permissions(api: RbacApi) -> None:
    """They are for the workspace, not for whichever has the name: another one gets nothing."""
    await teams(api)
    renamed = await api.ask(SUPER, "PATCH", "/workspaces/alpha", json={"name": "gamma"})
    await api.done("/workspaces", {"name": "alpha"})

    assert renamed.status_code == 200
    assert await status(api, ALPHA, "GET", "/gamma/consumers") == 200
    assert await status(api, ALPHA, "GET", "/alpha/consumers") == 403


async def test_references_to_others_lead_nowhere(api: RbacApi) -> None:
    """What another workspace has can neither be used nor guessed, by id or by name."""
    await teams(api)
    service = await api.done("/beta/services", {"name": "secret", "host": "a"})
    ghost = "b5f1e9c0-2a53-4a9c-9d9e-4c6fca1a7d11"
    answers = []
    for reference in ({"id": service["id"]}, {"id": ghost}, {"name": "secret"}, {"name": "ghost"}):
        sent = {"paths": ["/a"], "service": reference}
        answer = await api.ask(ALPHA, "POST", "/alpha/routes", json=sent)
        text = re.sub(f"{service['id']}|{ghost}|secret|ghost", "it", answer.text)
        answers.append((answer.status_code, text))

    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
    assert {code for code, _ in answers} == {400}


async def test_the_log_says_who_did_it(api: RbacApi) -> None:
    """Every write has the opaque id of its user, in the log and in the feed."""
    await teams(api)
    user = (await shown(api, "/alpha/rbac/users/alpha-admin"))["id"]
    event = {"source": "balancer", "event": "health", "data": {}}
    await api.done("/alpha/consumers", {"username": "ada"}, token=ALPHA)
    await api.done("/alpha/events", event, token=ALPHA)
    stored = (await api.log.read(0))[-2:]
    feed = (await api.ask(ALPHA, "GET", "/alpha/events?size=1000")).json()["data"]

    assert [each.actor for each in stored] == [f"rbac_users/{user}"] * 2
    assert [each["actor"] for each in feed[-2:]] == [f"rbac_users/{user}"] * 2


async def test_the_feed_shows_what_its_reader_may_read(api: RbacApi) -> None:
    """Of a workspace, what is in it; of the whole log, what the token reaches."""
    await teams(api)
    for workspace in ("alpha", "beta", "default"):
        await api.done(f"/{workspace}/consumers", {"username": workspace})
    token = await given(
        api,
        {"endpoint": "/events", "actions": "read", "workspace": "*"},
        {"endpoint": "/events/*", "actions": "read", "workspace": "*"},
        {"endpoint": "/consumers/*", "actions": "read", "workspace": "beta"},
    )

    async def names(token: str, path: str) -> list[str]:
        data = (await api.ask(token, "GET", f"{path}?size=1000")).json()["data"]
        return [each["entity"]["username"] for each in data if each["table"] == "consumers"]

    async def tables(token: str, path: str) -> set[str]:
        data = (await api.ask(token, "GET", f"{path}?size=1000")).json()["data"]
        return {each["table"] for each in data}

    assert await names(SUPER, "/events") == ["alpha", "beta", "default"]
    assert await names(ALPHA, "/alpha/events") == ["alpha"]
    assert await names(DEFAULT, "/events") == ["default"]
    assert await names(token, "/events") == ["beta"]
    assert await tables(token, "/events") == {"consumers"}
    assert await tables(DEFAULT, "/events") == {"consumers"}
    assert "rbac_users" in await tables(READER, "/alpha/events")


async def test_an_event_of_another_workspace_is_not_there(api: RbacApi) -> None:
    """By position or by id, and what became of it neither."""
    await teams(api)
    event = {"source": "balancer", "event": "health", "data": {}}
    (position,) = (await api.done("/beta/events", event))["positions"]
    (stored,) = await api.log.read(position - 1)
    for reference in (position, stored.id, 99_999):
        for path in (f"/alpha/events/{reference}", f"/alpha/events/{reference}/deliveries"):
            answer = await api.ask(ALPHA, "GET", path)

            assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})
    assert await status(api, SUPER, "GET", f"/events/{position}") == 200


async def test_an_admin_is_invited_with_a_user(api: RbacApi) -> None:
    """Kong's answers; the user has the name, and is of use once it has a token."""
    sent = {"username": "arya", "email": "arya@gameofthrones.com"}
    invited = await api.ask(SUPER, "POST", "/admins", data=sent)
    given_roles = await api.ask(SUPER, "POST", "/admins/arya/roles", data={"roles": "read-only"})
    listed = await shown(api, "/admins/arya/roles")
    workspaces = await shown(api, "/admins/arya/workspaces")
    await api.ask(SUPER, "PATCH", "/rbac/users/arya", json={"user_token": "aryas"})
    works = await status(api, "aryas", "GET", "/consumers")
    await api.ask(SUPER, "PATCH", "/admins/arya", json={"rbac_token_enabled": False})
    disabled = await status(api, "aryas", "GET", "/consumers")
    changed = {"username": "no-one", "rbac_token_enabled": True}
    await api.ask(SUPER, "PATCH", "/admins/arya", json=changed)
    renamed = await shown(api, "/rbac/users/no-one")
    dropped = await api.ask(SUPER, "DELETE", "/admins/no-one/roles", json={"roles": "read-only"})
    without = await status(api, "aryas", "GET", "/consumers")
    gone = await status(api, SUPER, "DELETE", "/admins/no-one")

    assert (invited.status_code, invited.json()["admin"]["status"]) == (200, 4)
    assert (given_roles.status_code, given_roles.json()) == (201, listed)
    assert [role["name"] for role in listed["roles"]] == ["read-only"]
    assert [workspace["name"] for workspace in workspaces] == ["default"]
    assert (works, disabled, without, renamed["enabled"]) == (200, 401, 403, True)
    assert (dropped.status_code, gone) == (204, 204)
    assert await status(api, "aryas", "GET", "/consumers") == 401
    assert await status(api, SUPER, "GET", "/rbac/users/no-one") == 404


async def test_putting_an_admin_makes_the_user_too(api: RbacApi) -> None:
    """Whichever way somebody is invited."""
    put = await api.ask(SUPER, "PUT", "/admins/arya", json={"email": "a@example.com"})
    again = await api.ask(SUPER, "PUT", "/admins/arya", json={"email": "b@example.com"})

    assert (put.status_code, again.status_code) == (200, 200)
    assert again.json()["email"] == "b@example.com"
    assert (await shown(api, "/rbac/users/arya"))["enabled"] is True
    assert await status(api, SUPER, "DELETE", "/admins/ghost") == 204


async def test_a_token_belongs_to_one_user_in_all_workspaces(api: RbacApi) -> None:
    """Or it would be open whose it is. The refusal does not repeat it."""
    await teams(api)
    answer = await api.ask(
        SUPER, "POST", "/beta/rbac/users", json={"name": "x", "user_token": ALPHA}
    )

    assert (answer.status_code, answer.json()["code"]) == (409, 5)
    assert ALPHA not in answer.text
    assert api.admin.digest(ALPHA) not in answer.text


async def test_what_became_of_an_event_is_told_for_ones_own_hooks(api: RbacApi) -> None:
    """Hooks of the default workspace see the events of a team, which learns nothing of them."""
    await teams(api)
    hook = {"source": "balancer", "handler": "log"}
    own = (await api.done("/alpha/event-hooks", hook))["id"]
    others = (await api.done("/event-hooks", hook))["id"]
    event = {"source": "balancer", "event": "health", "data": {}}
    (position,) = (await api.done("/alpha/events", event))["positions"]
    api.deliveries.answers = [{"hook": own, "state": "pending"}, {"hook": others, "state": "sent"}]
    path = f"/alpha/events/{position}/deliveries"
    told = [(await api.ask(token, "GET", path)).json()["data"] for token in (ALPHA, SUPER)]

    assert [[entry["hook"] for entry in each] for each in told] == [[own], [own, others]]


async def test_whether_all_is_well_is_told_to_everybody(api: RbacApi) -> None:
    """Why it is not is told to those who may know."""
    api.deliveries.faults = ["hook 5 keeps failing"]
    live = await api.ask(None, "GET", "/health/live")
    answers = [await api.ask(token, "GET", "/health/ready") for token in (None, "wrong", SUPER)]

    assert live.status_code == 200
    assert [each.status_code for each in answers] == [503] * 3
    assert [each.json().get("reasons") for each in answers] == [
        None,
        None,
        ["delivery: hook 5 keeps failing"],
    ]

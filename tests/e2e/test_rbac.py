"""RBAC in a service of its own: how the first super-admin comes in, and who stays out."""

import re
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.routing import Route

from api.authentication import OPEN
from tests.api.rbac_api import serving_rbac
from tests.receiver import Receiver
from tests.service import COMMAND, HOOKTAPE, Service, environment, serving, shell

TOKEN = "the-first-token"
LINE = re.compile(r"never again:\nhooktape: (\S{32})\n")


def as_user(service: Service, token: str | None) -> httpx.AsyncClient:
    headers = {} if token is None else {"Kong-Admin-Token": token}
    return httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False, timeout=30)


async def status(service: Service, token: str | None, path: str = "/consumers") -> int:
    async with as_user(service, token) as client:
        return (await client.get(path)).status_code


async def test_the_first_token_is_that_of_the_setting(tmp_path: Path) -> None:
    """It works at once, is no part of anything shown, and stays when the setting changes."""
    directory = tmp_path / "data"
    async with serving(directory, enforce_rbac="on", admin_token=TOKEN) as service:
        seen = [await status(service, each) for each in (TOKEN, "wrong", None)]
        async with as_user(service, TOKEN) as client:
            root = await client.get("/")
            feed = await client.get("/events")
            user = await client.get("/rbac/users/super-admin/roles")
        await service.stop()
        first = service.output
    async with serving(directory, enforce_rbac="on", admin_token="another") as service:
        later = [await status(service, each) for each in (TOKEN, "another")]
        await service.stop()
        warnings = service.records("admin_token is not used")
    stored = b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())

    assert (seen, later) == ([200, 401, 401], [200, 401])
    assert [role["name"] for role in user.json()["roles"]] == ["super-admin"]
    assert root.json()["configuration"]["enforce_rbac"] == "on"
    assert "admin_token" not in root.json()["configuration"]
    assert TOKEN not in first + root.text + feed.text + user.text
    assert TOKEN.encode() not in stored
    assert len(warnings) == 1


async def test_a_first_token_is_made_up_and_printed_once(tmp_path: Path) -> None:
    """On the standard error of the first start, in no record of the log, and never again."""
    directory = tmp_path / "data"
    async with serving(directory, enforce_rbac="on") as service:
        (token,) = LINE.findall(service.output)
        works = await status(service, token)
        records = service.records()
        await service.stop()
    async with serving(directory, enforce_rbac="on") as service:
        still = await status(service, token)
        await service.stop()
        again = service.records()
        printed = LINE.findall(service.output)

    assert (works, still) == (200, 200)
    assert printed == []
    assert token not in str(records) + str(again)


async def test_a_lost_token_is_replaced_with_rbac_off(tmp_path: Path) -> None:
    """With RBAC off nobody is asked for a token, the log names nobody, and users can be changed."""
    directory = tmp_path / "data"
    async with serving(directory, enforce_rbac="on", admin_token=TOKEN) as service:
        await service.stop()
    async with serving(directory) as service:
        answer = await service.client.patch(
            "/rbac/users/super-admin",
            json={"user_token": "new"},
            headers={"Kong-Admin-Token": "ignored"},
        )
        feed = await service.feed()
        await service.stop()
    async with serving(directory, enforce_rbac="on") as service:
        seen = [await status(service, each) for each in ("new", TOKEN)]

    assert answer.status_code == 200
    assert {event["actor"] for event in feed} == {None}
    assert seen == [200, 401]


async def test_without_any_super_admin_there_is_a_new_one(tmp_path: Path) -> None:
    """Whoever deletes the last one is let in again by whoever starts the service."""
    directory = tmp_path / "data"
    async with serving(directory, enforce_rbac="on", admin_token=TOKEN) as service:
        async with as_user(service, TOKEN) as client:
            gone = await client.request(
                "DELETE", "/rbac/users/super-admin/roles", json={"roles": "super-admin"}
            )
        out = await status(service, TOKEN)
        await service.stop()
    async with serving(directory, enforce_rbac="on", admin_token="another") as service:
        seen = [await status(service, each) for each in ("another", TOKEN)]

    assert (gone.status_code, out, seen) == (204, 403, [200, 401])


async def test_kongs_names_are_honoured(tmp_path: Path) -> None:
    """A container that was set up for Kong lets in whom Kong would."""
    command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    variables = environment(KONG_ENFORCE_RBAC="both", KONG_PASSWORD="kong")
    with anyio.fail_after(30):
        done = await anyio.run_process(command, env=variables, cwd=tmp_path, check=False)

    assert done.returncode == 78
    assert b"KONG_ENFORCE_RBAC: expected off or on" in done.stderr
    assert b"kong\n" not in done.stderr


async def test_a_teams_hook_fires_for_the_team_alone(tmp_path: Path) -> None:
    """A token can make a hook in its own workspace only, which hears of nothing else."""
    event = {"source": "balancer", "event": "health"}
    async with (
        Receiver() as receiver,
        serving(tmp_path / "data", enforce_rbac="on", admin_token=TOKEN) as service,
        as_user(service, TOKEN) as admin,
        as_user(service, "alphas") as alpha,
    ):
        for workspace in ("alpha", "beta"):
            await admin.post("/workspaces", json={"name": workspace})
        permission = {"endpoint": "*", "actions": "*"}
        await admin.post("/alpha/rbac/roles", json={"name": "all"})
        await admin.post("/alpha/rbac/roles/all/endpoints", json=permission)
        await admin.post("/alpha/rbac/users", json={"name": "all", "user_token": "alphas"})
        hook = {"source": "balancer", "handler": "webhook", "config": {"url": receiver.url}}
        made = [
            (await alpha.post(f"{prefix}/event-hooks", json=hook)).status_code
            for prefix in ("", "/default", "/beta", "/nowhere", "/alpha")
        ]
        for prefix in ("", "/beta", "/alpha"):
            answer = await admin.post(f"{prefix}/events", json=event | {"data": {"at": prefix}})
            assert answer.status_code == 202
        ping, heard = await receiver.wait_for(2)
        await service.stop()

    assert made == [403, 403, 403, 403, 201]
    assert b'"ping"' in ping.body
    assert b'"at":"/alpha"' in heard.body
    assert len(receiver.requests) == 2


async def test_events_are_emitted_from_a_shell_with_a_token(tmp_path: Path) -> None:
    """The command reads the token from the environment."""
    line = f"{HOOKTAPE} emit balancer health"
    async with serving(tmp_path / "data", enforce_rbac="on", admin_token=TOKEN) as service:
        url = {"HOOKTAPE_URL": service.url}
        with_token = await shell(line, tmp_path, url | {"HOOKTAPE_TOKEN": TOKEN})
        without = await shell(line, tmp_path, url)

    assert (with_token.code, without.code) == (0, 1)
    assert '"positions"' in with_token.stdout
    assert "Invalid RBAC credentials" in without.stdout


async def test_every_path_of_the_service_needs_a_token(tmp_path: Path) -> None:
    """Over the wire, and for the same paths as in `tests/api/test_tenancy.py`: all of them."""
    methods = ("GET", "POST", "DELETE")
    async with serving(tmp_path / "data", enforce_rbac="on", admin_token=TOKEN) as service:
        async with as_user(service, TOKEN) as client:
            paths = (await client.get("/endpoints")).json()["data"]
        async with as_user(service, None) as client:
            answered = {
                (method, path)
                for path in paths
                for method in methods
                if (await client.request(method, re.sub(r"{.*?}", "x", path))).status_code != 401
            }
    async with serving_rbac(tmp_path / "tested") as api:
        tested = {route.path for route in api.routes if isinstance(route, Route)}

    assert answered == {("GET", path) for path in OPEN}
    assert set(paths) == tested


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("rbac", ["off", "on"])
async def test_no_page_of_another_site_comes_in(tmp_path: Path, rbac: str) -> None:
    """A form posted from elsewhere, a foreign name and a rebinding one are refused on the wire.

    With a token or without: a browser's extension or proxy may add one.
    """
    async with serving(tmp_path / "data", enforce_rbac=rbac, admin_token=TOKEN) as service:
        port = service.url.rpartition(":")[2]
        attacks: list[Mapping[str, str]] = [
            FORM | {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
            FORM | {"Origin": "https://evil.example"},
            FORM | {"Origin": "null"},
            FORM | {"Sec-Fetch-Site": "cross-site"},
            FORM | {"Sec-Fetch-Site": "same-site"},
            FORM | {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
            FORM | {"Host": "evil.example"},
            FORM | {"Host": f"rebind.evil.example:{port}"},
            FORM
            | {
                "Host": f"rebind.evil.example:{port}",
                "Origin": f"http://rebind.evil.example:{port}",
                "Sec-Fetch-Site": "same-origin",
            },
            FORM | {"Host": f"127.0.0.1.evil.example:{port}"},
        ]
        async with as_user(service, TOKEN) as client:
            answers = [
                await client.post("/consumers", content="username=mallory", headers=attack)
                for attack in attacks
            ]
            read = [await client.get("/consumers", headers=attack) for attack in attacks]
            listed = (await client.get("/consumers")).json()["data"]

    assert [each.status_code for each in (*answers, *read)] == [403] * 2 * len(attacks)
    assert all(each.json().keys() == {"message"} for each in (*answers, *read))
    assert listed == []

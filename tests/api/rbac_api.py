"""The whole Admin API with RBAC enforced, two teams in workspaces of their own, and tokens."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
from starlette.routing import BaseRoute

from api.admin import Admin
from api.app import create_app
from api.authentication import Guard, Principals
from api.bootstrap import first_super_admin
from api.compaction import CompactionEndpoints
from api.deliveries import DeliveryEndpoints
from api.directory import all_routes
from api.emission import Emitter
from api.erasures import Erasing, ErasureEndpoints
from api.events import Events
from api.front_door import Permit, Policy
from api.hooks import hook_routes
from api.ingest import Ingest
from api.references import visible
from api.sources import SourceEndpoints
from api.status import About, Status
from delivery.compacting import FoldedStates
from eventstore.archive import Archive
from eventstore.auditor import Auditor
from eventstore.compaction import Compaction
from eventstore.events import EventsErased
from eventstore.log import EventLog
from projections.entities import Entities
from projections.health import Health
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE, TABLES
from tests.api.admin_api import Deliveries, Jail
from tests.api.entity_api import Delivery

SUPER = "the-super-admins-token"
ALPHA, BETA, READER, DEFAULT = (
    "token-of-alpha",
    "token-of-beta",
    "token-of-reader",
    "token-of-default",
)
"""Who may do everything in one workspace; and who may read everything in alpha."""

MARK = "hush"
"""A part of every text that only its own workspace may see."""

CERT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n"

SECRETS: dict[str, dict[str, Any]] = {
    "consumers": {"username": MARK, "tags": [MARK]},
    "consumer_groups": {"name": MARK},
    "services": {"name": MARK, "host": f"{MARK}.example"},
    "routes": {"name": MARK, "paths": [f"/{MARK}"], "service": {"name": MARK}},
    "plugins": {"name": "cors", "instance_name": MARK, "tags": [MARK]},
    "upstreams": {"name": f"{MARK}.example"},
    "targets": {"target": f"{MARK}.example:1", "upstream": {"name": f"{MARK}.example"}},
    "certificates": {"cert": CERT, "key": KEY, "tags": [MARK], "snis": [f"a.{MARK}.example"]},
    "snis": {"name": f"{MARK}.example", "certificate": {"id": "certificates"}},
    "admins": {"username": MARK, "email": f"{MARK}@example.com"},
    "rbac_roles": {"name": MARK, "comment": MARK},
    "rbac_users": {"name": f"{MARK}2", "comment": MARK},
    "sessions": {"session_id": MARK},
    "event_hooks": {"source": "crud", "event": MARK, "handler": "log"},
    "keyauth_credentials": {"consumer": {"username": MARK}, "key": MARK},
    "basicauth_credentials": {"consumer": {"username": MARK}, "username": MARK, "password": "p"},
    "hmacauth_credentials": {"consumer": {"username": MARK}, "username": MARK},
    "jwt_secrets": {"consumer": {"username": MARK}, "key": MARK},
    "acls": {"consumer": {"username": MARK}, "group": MARK},
    "oauth2_credentials": {"consumer": {"username": MARK}, "name": MARK},
    "vaults": {"prefix": MARK, "name": "env", "description": MARK},
    "key_sets": {"name": MARK},
    "keys": {"name": MARK, "kid": MARK, "jwk": "{}", "set": {"name": MARK}},
    "filter_chains": {"name": MARK, "service": {"name": MARK}, "filters": [{"name": MARK}]},
    "ca_certificates": {"cert": CERT, "tags": [MARK]},
    "licenses": {"payload": MARK},
    "workspaces": {"name": f"{MARK}-workspace", "comment": MARK},
}
"""An entity of every table that has endpoints, in an order in which references lead somewhere."""


class RbacApi(NamedTuple):
    """The application, its routes and its clients, and what stands behind it."""

    routes: list[BaseRoute]
    client: Callable[[str | None], httpx.AsyncClient]
    admin: Admin
    log: EventLog
    delivery: Delivery
    deliveries: Deliveries

    async def ask(
        self, token: str | None, method: str, path: str, **options: Any
    ) -> httpx.Response:
        async with self.client(token) as client:
            return await client.request(method, path, **options)

    async def done(self, path: str, content: Any, *, token: str = SUPER) -> dict[str, Any]:
        """What a POST that succeeds answers with."""
        answer = await self.ask(token, "POST", path, json=content)
        assert answer.status_code in (200, 201, 202), (path, answer.text)
        shown: dict[str, Any] = answer.json()
        return shown


async def _nobody_delivers(_seq: int, _record: EventsErased) -> None:
    """Without delivery nothing is left to be cleaned."""


@asynccontextmanager
async def serving_rbac(
    directory: Path,
    *,
    more: Sequence[BaseRoute] = (),
    around: Callable[[Guard], Permit] = lambda guard: guard,
    policy: Policy | None = None,
) -> AsyncIterator[RbacApi]:
    """The API of a fresh log with a super-admin. `more` routes come first.

    `around` makes another guard of the real one.
    """
    sources, view, health, deliveries = Sources(TABLES), Entities(), Health(), Deliveries()
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, [sources, view, health]) as projections,
        Auditor.open(log, directory) as auditor,
        anyio.create_task_group() as background,
    ):
        background.start_soon(projections.run)
        admin, delivery = Admin(log, projections, view), Delivery()
        about = About(
            version="1", node_id=log.log_id, hostname="here", configuration={}, sqlite_version="3"
        )

        def hook_exists(hook_id: str, workspace: str) -> bool:
            return visible(view, TABLES["event_hooks"], workspace, hook_id) is not None

        compaction = Compaction(
            log,
            Archive(directory / "archive", log.log_id),
            FoldedStates(log, lambda: Sources(TABLES)),
            [projections],
        )
        erasing = Erasing(log, projections, _nobody_delivers, view.workspace, background)
        routes = all_routes(
            admin,
            health,
            log.log_id,
            [
                *more,
                *CompactionEndpoints(compaction).routes(),
                *ErasureEndpoints(log, erasing).routes(),
                *Status(log, about, projections, deliveries, Jail(), auditor).routes(),
                *Events(log, Emitter(sources.current)).routes(),
                *Ingest(log, ()).routes(),
                *SourceEndpoints(sources, admin).routes(),
                *DeliveryEndpoints(log, deliveries, hook_exists).routes(),
                *hook_routes(admin, delivery.dispatch, delivery.check),
            ],
        )
        app = create_app(
            routes,
            version="1",
            policy=policy or Policy.of(),
            resolve_workspace=view.workspace,
            default_workspace=DEFAULT_WORKSPACE,
            guard=around(Guard(Principals(view, admin.digest))),
        )

        def client(token: str | None) -> httpx.AsyncClient:
            headers = {} if token is None else {"Kong-Admin-Token": token}
            transport = httpx.ASGITransport(app)
            return httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            )

        await first_super_admin(admin, SUPER)
        yield RbacApi(routes, client, admin, log, delivery, deliveries)
        background.cancel_scope.cancel()


async def teams(api: RbacApi) -> None:
    """Workspaces alpha and beta, each with someone who may do everything there."""
    for workspace, token in (("alpha", ALPHA), ("beta", BETA)):
        await api.done("/workspaces", {"name": workspace})
        await someone(api, f"/{workspace}", f"{workspace}-admin", token, workspace, "*", "*")
    await someone(api, "/alpha", "reader", READER, "alpha", "*", "read")
    await someone(api, "", "default-admin", DEFAULT, "default", "*", "*")


async def someone(
    api: RbacApi, prefix: str, name: str, token: str, workspace: str, endpoint: str, actions: str
) -> None:
    """A user with a role of the same name, which has one permission."""
    permission = {"workspace": workspace, "endpoint": endpoint, "actions": actions}
    await api.done(f"{prefix}/rbac/roles", {"name": name})
    await api.done(f"{prefix}/rbac/roles/{name}/endpoints", permission)
    # Named like a role, it gets it.
    await api.done(f"{prefix}/rbac/users", {"name": name, "user_token": token})


async def secrets(api: RbacApi, workspace: str) -> dict[str, str]:
    """One entity of every table, and an event and a delivery fact: their ids, by parameter."""
    ids: dict[str, str] = {}
    for name, content in SECRETS.items():
        table = TABLES[name]
        if not table.scoped and workspace != "default":
            continue
        if "certificate" in content:
            content = content | {"certificate": {"id": ids["certificates"]}}
        answer = await api.done(f"/{workspace}/{table.path}", content)
        ids[name] = (answer[table.wrapped] if table.wrapped else answer)["id"]
    role = f"/{workspace}/rbac/roles/{MARK}"
    await api.done(f"{role}/endpoints", {"endpoint": f"/{MARK}", "actions": "read"})
    event = {"source": "balancer", "event": "health", "data": {"hostname": MARK}}
    emitted = await api.done(f"/{workspace}/events", event)
    ids["id"] = str(emitted["positions"][0])
    return ids

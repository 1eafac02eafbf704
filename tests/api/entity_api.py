"""The endpoints of entities and hooks over a real log, and delivery played by two functions."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import msgspec

from api.admin import Admin
from api.app import create_app
from api.directory import all_routes
from api.front_door import Policy
from api.hooks import hook_routes
from eventstore.log import EventLog
from eventstore.records import Kind, RecordedEvent
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hook
from projections.runner import Projections
from projections.tables import DEFAULT_WORKSPACE

NODE = "f0a1c9d2-3d5c-4d0f-9c58-6f6b6f0d1f1e"
"""The id of the node that serves the endpoints."""


class Answer(NamedTuple):
    """What a receiver answered."""

    status: int
    headers: dict[str, str]
    body: str


class Sent(NamedTuple):
    """What was sent."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Attempt(NamedTuple):
    """What became of an attempt."""

    ok: bool = True
    reason: str | None = None
    response: Answer | None = None
    result: Any = None
    request: Sent | None = None
    logs: tuple[tuple[int, str], ...] = ()
    effects: tuple[dict[str, Any], ...] = ()


class Delivery:
    """Plays delivery: answers as told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.attempt = Attempt()
        self.dispatched: list[tuple[Hook, str, str, dict[str, Any]]] = []
        self.dry_runs: list[bool] = []
        self.checked: list[tuple[str, str, Mapping[str, Any]]] = []
        self.faults: dict[str, Any] = {}

    async def dispatch(
        self, hook: Hook, *, source: str, event: str, data: dict[str, Any], dry_run: bool = False
    ) -> Attempt:
        self.dry_runs.append(dry_run)
        self.dispatched.append((hook, source, event, data))
        return self.attempt

    async def check(
        self, workspace: str, handler: str, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        self.checked.append((workspace, handler, config))
        return self.faults


class EntityApi(NamedTuple):
    client: httpx.AsyncClient
    log: EventLog
    view: Entities
    delivery: Delivery

    async def events(self) -> list[RecordedEvent]:
        """The whole log."""
        return await self.log.read(0, kinds=[Kind.CONFIG])

    async def bodies(self) -> list[tuple[str, str, Any]]:
        """Stream, type and decoded body of every event."""
        return [
            (event.stream.partition("/")[0], event.type, msgspec.json.decode(event.body or b"null"))
            for event in await self.events()
        ]


@asynccontextmanager
async def serving_entities(directory: Path) -> AsyncIterator[EntityApi]:
    view, delivery, health = Entities(), Delivery(), Health()
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, [view, health]) as projections,
        anyio.create_task_group() as background,
    ):
        background.start_soon(projections.run)
        admin = Admin(log, projections, view)
        app = create_app(
            all_routes(admin, health, NODE, hook_routes(admin, delivery.dispatch, delivery.check)),
            version="1.2.3",
            policy=Policy.of(),
            resolve_workspace=view.workspace,
            default_workspace=DEFAULT_WORKSPACE,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield EntityApi(client, log, view, delivery)
        background.cancel_scope.cancel()

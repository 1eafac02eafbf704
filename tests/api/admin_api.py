"""The Admin API over a real log in a directory of its own, called without a network."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
from starlette.types import ASGIApp

from api.admin import Admin
from api.app import create_app
from api.deliveries import DeliveryEndpoints
from api.emission import Emitter
from api.events import Events
from api.front_door import Policy
from api.ingest import Ingest
from api.kong_log import FACTS
from api.sources import SourceEndpoints
from api.status import About, Status
from eventstore.auditor import Auditor
from eventstore.log import EventLog
from eventstore.records import Append, RecordedEvent
from projections.entities import Entities
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE

HOOK = "9d0bee90-04b9-4af3-993f-b10db881b144"
"""The one hook that exists, in the default workspace."""

OTHER_WORKSPACE = "0fd2319f-1f4e-4d0b-9d5c-9f6fb7f43c5f"
"""A workspace named `team`."""


class Deliveries:
    """Stands in for delivery, which the API never imports: remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: list[dict[str, Any]] = []
        self.origins: list[Append] = []
        self.resent = 0
        self.faults: list[str] = []

    async def history(self, hook_id: str, before: int | None, size: int) -> list[dict[str, Any]]:
        self.asked.append(("history", hook_id, before, size))
        return self.answers[:size]

    async def explain(self, event: RecordedEvent) -> list[dict[str, Any]]:
        self.asked.append(("explain", event.seq))
        return self.answers

    async def parked(self, hook_id: str, after: int, size: int) -> list[dict[str, Any]]:
        self.asked.append(("parked", hook_id, after, size))
        return self.answers[:size]

    async def resend(self, hook_id: str, delivery_id: str | None, origin: Append) -> int:
        self.origins.append(origin)
        self.asked.append(("resend", hook_id, delivery_id))
        return self.resent

    async def pause(self, hook_id: str, origin: Append) -> dict[str, Any]:
        self.origins.append(origin)
        self.asked.append(("pause", hook_id))
        return {"state": "stopped"}

    async def resume(self, hook_id: str, skip: bool, origin: Append) -> dict[str, Any]:
        self.origins.append(origin)
        self.asked.append(("resume", hook_id, skip))
        return {"state": "live"}

    def summary(self) -> Mapping[str, float]:
        return {"in_flight": 3}

    def problems(self) -> Sequence[str]:
        return self.faults


class Jail:
    """Stands in for the workers that run users' code."""

    def state(self) -> Mapping[str, Any]:
        return {"engine": "LuaJIT", "barriers": ["seccomp"], "problem": None, "calls": 5}

    def counts(self) -> Mapping[str, float]:
        return {"calls": 5}


class Api(NamedTuple):
    """The application, a client that calls it, and what stands behind it."""

    app: ASGIApp
    client: httpx.AsyncClient
    log: EventLog
    sources: Sources
    deliveries: Deliveries


@asynccontextmanager
async def serving(
    directory: Path, *, policy: Policy | None = None, body_limit: int = 1024 * 1024
) -> AsyncIterator[Api]:
    """The API of a fresh log in `directory`."""
    sources, entities, deliveries = Sources(["consumers"]), Entities(), Deliveries()
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, [sources, entities]) as projections,
        Auditor.open(log, directory) as auditor,
        anyio.create_task_group() as background,
    ):
        background.start_soon(projections.run)
        about = About(
            version="1.2.3",
            node_id=log.log_id,
            hostname="here",
            configuration={"data_dir": "x"},
            sqlite_version="3",
        )
        status = Status(log, about, projections, deliveries, Jail(), auditor)
        app = create_app(
            [
                *status.routes(),
                *Events(log, Emitter(sources.current)).routes(),
                *Ingest(log, FACTS).routes(),
                *SourceEndpoints(sources, Admin(log, projections, entities)).routes(),
                *DeliveryEndpoints(log, deliveries, _hook_exists).routes(),
            ],
            version="1.2.3",
            policy=policy or Policy.of(),
            resolve_workspace={"team": OTHER_WORKSPACE, OTHER_WORKSPACE: OTHER_WORKSPACE}.get,
            default_workspace=DEFAULT_WORKSPACE,
            body_limit=body_limit,
            observe=status.metrics.observe,
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Api(app, client, log, sources, deliveries)
        background.cancel_scope.cancel()


def _hook_exists(hook_id: str, workspace: str) -> bool:
    return (hook_id, workspace) == (HOOK, DEFAULT_WORKSPACE)

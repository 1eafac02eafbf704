"""Puts the service together without running it, for commands on a directory that none has open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from api.settings import Settings, listens_on_loopback
from delivery.address import AddressPolicy
from delivery.compacting import DeliveryNeeds, FoldedStates
from delivery.jail.frames import Call, Functions
from delivery.jail.overview import BARRIERS
from delivery.jail.pool import WorkerPool
from delivery.jail.process import JailUnavailable
from delivery.perform import Perform
from delivery.service import DeliveryOptions, DeliveryService
from eventstore.archive import Archive
from eventstore.auditor import Auditor
from eventstore.compaction import Compaction
from eventstore.log import EventLog
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import TABLES


class AtRest(NamedTuple):
    """Everything open, with nothing delivered and nothing served."""

    log: EventLog
    projections: Projections
    hooks: Hooks
    entities: Entities
    service: DeliveryService


@asynccontextmanager
async def at_rest(directory: Path) -> AsyncIterator[AtRest]:
    """What is unfinished of erasures is finished when this begins. Raises LogError."""
    hooks, sources, entities = Hooks(), Sources(TABLES), Entities()
    models: list[ReadModel] = [hooks, sources, entities, Deliveries(), Health()]
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, models) as projections,
        DeliveryService.open(
            log,
            projections,
            hooks,
            sources,
            directory=directory,
            perform=Perform({}),
            options=DeliveryOptions(enabled=False),
        ) as service,
    ):
        open_compaction(log, projections, hooks, service)
        await log.eraser.complete()
        yield AtRest(log, projections, hooks, entities, service)


@asynccontextmanager
async def compacting(directory: Path) -> AsyncIterator[Compaction]:
    """Compaction of a log that no service has open. Raises LogError."""
    async with at_rest(directory) as rest, Auditor.open(rest.log, directory) as auditor:
        yield open_compaction(rest.log, rest.projections, rest.hooks, rest.service, auditor)


def open_compaction(
    log: EventLog,
    projections: Projections,
    hooks: Hooks,
    service: DeliveryService,
    auditor: Auditor | None = None,
) -> Compaction:
    """Compaction with all who have a say in it. Without an auditor only `renew` may be used."""

    compaction = Compaction(
        log,
        Archive(log.path.parent / "archive", log.log_id),
        FoldedStates(log, lambda: Sources(TABLES)),
        [projections, DeliveryNeeds(log, hooks, service)],
        sealed=None if auditor is None else partial(_sealed, auditor),
    )
    log.eraser.renew = compaction.renew
    return compaction


async def _sealed(auditor: Auditor) -> int:
    await auditor.catch_up()
    return auditor.size


def address_policy(settings: Settings) -> str:
    """What deliveries may reach, in words. Raises ValueError for entries that are none."""
    loopback = listens_on_loopback(settings)
    policy = AddressPolicy.parse(settings.egress_allow, allow_loopback=loopback)
    more = [*sorted(policy.groups), *map(str, policy.networks), *sorted(policy.hosts)]
    return "public addresses" + (f", and {', '.join(more)}" if more else " only")


async def jail() -> tuple[str, bool]:
    """How users' code would be jailed here, in one line, and whether it could run at all."""
    async with WorkerPool.open() as pool:
        try:
            ready = await pool.probe()
            ran = await pool.run(Call("", "", Functions(("return function () end",))))
        except JailUnavailable as error:
            return str(error), False
        missing = [barrier for barrier in BARRIERS if barrier not in ready.barriers]
        text = f"{ready.engine} in a jail of {', '.join(ready.barriers)}"
        return ran.error or text + "".join(f", no {each}" for each in missing), ran.error is None

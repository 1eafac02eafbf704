"""A compaction of the world that delivers, as the service composes it."""

from contextlib import suppress

import anyio

from delivery.compacting import DeliveryNeeds, FoldedStates
from eventstore.archive import Archive
from eventstore.compaction import Abandoned, Compaction, Progress
from eventstore.events import CompactionFinished
from eventstore.retention import Policy
from projections.sources import Sources
from tests.delivery.world import World

EVERYTHING = Policy(max_events=0)


def compaction(world: World) -> Compaction:
    log = world.log
    return Compaction(
        log,
        Archive(log.path.parent / "archive", log.log_id),
        FoldedStates(log, lambda: Sources([])),
        [world.projections, DeliveryNeeds(log, world.hooks, world.service)],
    )


async def compact(
    world: World, policy: Policy = EVERYTHING, progress: Progress = lambda *_: None
) -> CompactionFinished | None:
    """As much as can go; None when nothing could."""
    with anyio.fail_after(30):
        return await compaction(world).run(policy, progress)


async def try_to_compact(world: World, policy: Policy = EVERYTHING) -> None:
    """Somebody may need a position again at the last moment; then nothing happens."""
    with suppress(Abandoned):
        await compact(world, policy)

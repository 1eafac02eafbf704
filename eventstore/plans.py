"""How far a log may be compacted now: what is wanted, who needs what, and what that leaves."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from eventstore import archive, retention
from eventstore.database import Database
from eventstore.log import EventLog
from eventstore.retention import Policy

Sealed = Callable[[], Awaitable[int]]
"""Up to which position the audit has the leaves."""


class Hold(msgspec.Struct, frozen=True):
    """Everything from `position` on is needed, by whom."""

    position: int
    by: str


class Dependents(Protocol):
    """Whoever reads the log and keeps a position in it."""

    async def holds(self) -> Sequence[Hold]:
        """What is needed now. Later the positions only grow."""
        ...

    async def ready(self, floor: int) -> None:
        """Copy what lies below `floor` and cannot wait, and write everything down."""
        ...


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction would do. `wanted` is the floor by policy alone, `held` what lowers it."""

    first: int
    head: int
    wanted: int
    floor: int
    events: int
    bytes: int
    segments: int
    held: list[Hold]


async def plan(
    log: EventLog, needs: Sequence[Dependents], sealed: Sealed | None, policy: Policy, now_us: int
) -> Plan:
    """What a compaction would do now. Changes nothing."""
    async with Database.open(log.path, readonly=True) as reader:
        wanted = await reader.run(retention.floor, policy, now_us)
        held = [hold for hold in await holds(needs, sealed) if hold.position < wanted]
        floor = max(log.first, min([wanted, *(hold.position for hold in held)]))
        if await reader.run(retention.only_system, log.first, floor):
            floor = log.first  # to take an old snapshot away, a new one would be needed
        weight = await reader.run(retention.weight, log.first, floor)
    return Plan(
        first=log.first,
        head=log.head,
        wanted=wanted,
        floor=floor,
        events=floor - log.first,
        bytes=weight,
        segments=len(list(archive.ranges(log.first, floor))),
        held=sorted(held, key=lambda hold: hold.position),
    )


async def holds(needs: Sequence[Dependents], sealed: Sealed | None) -> list[Hold]:
    """All that is needed now."""
    found = [hold for each in needs for hold in await each.holds()]
    if sealed is not None:
        found.append(Hold(await sealed() + 1, "the audit, which has not sealed it yet"))
    return found

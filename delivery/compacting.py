"""What compaction asks of delivery: what must stay, what can be copied, the state as of a floor.

All state that outlives the events is folded here from the log alone, as the read models and
`recovery` fold it: nothing of the live state is looked at, which makes the comparison a proof.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import anyio
import msgspec
from anyio import to_thread
from anyio.lowlevel import checkpoint

from eventstore import snapshots
from eventstore.archive import Archive
from eventstore.compaction import Abandoned
from eventstore.errors import LogDamaged, LogUnavailable
from eventstore.events import EventsErased
from eventstore.log import EventLog
from eventstore.plans import Hold
from eventstore.records import Kind, RecordedEvent
from eventstore.snapshots import Snapshot, State
from projections import hooks as hook_registry, sources as source_catalogue
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.sources import Sources
from projections.view import restored

from . import recovery
from .copies import carry
from .decisions import rule_for
from .erasures import concerned, record_of
from .matching import match
from .recovered import SECTIONS, Recovered, recovered, sections
from .service import DeliveryService
from .suppression import decide, remember

_PAGE: Final = 256
_PATIENCE: Final = 30.0
_RARE: Final = (Kind.CONFIG, Kind.DELIVERY, Kind.SYSTEM)
_encode = msgspec.json.Encoder(order="deterministic").encode

Skipped = Mapping[str, list[tuple[int, int]]]
"""Ranges of positions that were passed over by hand, by hook."""


class DeliveryNeeds:
    """Delivery as one that depends on the log."""

    def __init__(self, log: EventLog, hooks: Hooks, service: DeliveryService) -> None:
        self._log = log
        self._hooks = hooks
        self._service = service

    async def holds(self) -> Sequence[Hold]:
        return self._service.ledger.holds()

    async def ready(self, floor: int) -> None:
        """Receipts for all that was delivered, copies of what is parked, all of it on disk.

        Raises LogUnavailable when one of the disks takes nothing now.
        """
        service = self._service
        for _ in range(2):  # the first may only finish what was begun, and say nothing new
            if not await service.receipts.append(service.ledger.outboxes.values()):
                raise LogUnavailable("the receipts of deliveries cannot be stored now")
        last = await carry(self._log, self._hooks, service.ledger, floor)
        with anyio.move_on_after(_PATIENCE):  # state.db may also learn of them at the next start
            await service.wait_live(last)
        if not await service.ledger.flush():
            raise LogUnavailable(service.ledger.problem or "state.db cannot be written now")


class Folded:
    """The state after the events that were folded, by log alone."""

    def __init__(self, sources: Sources, digest: Callable[[str], bytes]) -> None:
        self.hooks = Hooks()
        self.sources = sources
        self.recovered: dict[str, Recovered] = {}
        self._digest = digest
        self._models: list[ReadModel] = [self.hooks, sources, Entities(), Health()]
        self._items: dict[str, dict[str, Any]] = {model.name: {} for model in self._models}

    def restore(self, state: State) -> None:
        for model in self._models:
            self._take(model, restored(model, state))
        self.recovered = recovered(state)

    def fold(self, event: RecordedEvent, skipped: Skipped) -> None:
        """`skipped` is what the whole log says, later events included."""
        if event.kind != Kind.EMITTED:
            for model in self._models:
                self._take(model, model.evolve(event))
        self._remember(event, skipped)
        if erased := record_of(event):
            self._forget(event, erased)
        recovery.fold(self.recovered, event)

    def state(self, floor: int) -> State:
        """All of it, but for what no event from `floor` on can meet."""
        hooks, sources = self._items["hooks"], self._items["sources"]
        trimmed = self._items | {
            "hooks": _without(hooks, hook_registry.trim(hooks, floor)),
            "sources": _without(sources, source_catalogue.trim(sources, floor)),
        }
        encoded = {
            name: {key: _encode(item) for key, item in items.items()}
            for name, items in trimmed.items()
        }
        versions = {model.name: model.version for model in self._models}
        return State(
            versions | dict(SECTIONS),
            encoded | sections(self.recovered, floor),
        )

    def _take(self, model: ReadModel, changes: Mapping[str, Any]) -> None:
        items = self._items[model.name]
        for key, item in changes.items():
            if item is None:
                items.pop(key, None)
            else:
                items[key] = item
        model.apply(changes)

    def _forget(self, event: RecordedEvent, erased: EventsErased) -> None:
        for hook_id, hook in self.recovered.items():
            if concerned(self.hooks, hook_id, event.seq, erased):
                hook.memory.clear()

    def _remember(self, event: RecordedEvent, skipped: Skipped) -> None:
        """As the consumer does for what is settled: what fired is remembered."""
        for m in match(event, self.hooks):
            rule = rule_for(event, m, self.sources, self._digest)
            if rule is None:
                continue
            hook = self.recovered.setdefault(m.hook.id, Recovered())
            passed = any(a <= event.seq <= b for a, b in skipped.get(m.hook.id, ()))
            if decide(hook.memory, rule) is None and not passed:
                remember(hook.memory, rule)


class FoldedStates:
    """Fills `eventstore.compaction.States`. `sources` makes an empty catalogue."""

    def __init__(self, log: EventLog, sources: Callable[[], Sources]) -> None:
        self._log = log
        self._sources = sources

    async def everything(self, floor: int, upto: int) -> tuple[State, str]:
        """Raises Abandoned when something would be sent of which nothing would be left."""
        base = await snapshots.latest(self._log)
        folded, skipped = await self._begin(base, upto)
        after = base.floor - 1 if base is not None else 0
        await self._fold(folded, after, floor - 1, skipped)
        state = folded.state(floor)
        await self._fold(folded, floor - 1, upto, skipped)
        _check_copies(folded, floor)
        return state, folded.state(floor).digest

    async def afresh(self) -> State:
        """The state as of the log's first position, from the archive, as it reads by now.

        Bodies that were erased since are missing in it. Raises Truncated when the archive is not
        complete, and LogDamaged.
        """
        log, archive = self._log, Archive(self._log.path.parent / "archive", self._log.log_id)
        ahead: dict[str, Recovered] = {}
        folded, floor = Folded(self._sources(), log.digest), log.first

        def fold(kinds: Collection[Kind] | None, take: Callable[[RecordedEvent], None]) -> None:
            last = max((each.last for each in archive.segments()), default=0)
            if last < floor - 1:
                raise LogDamaged(f"the archive ends at {last}, and the log begins at {floor}")
            for event in archive.events(kinds=kinds):
                if event.seq >= floor:
                    return
                take(event)

        await to_thread.run_sync(fold, _RARE, lambda event: recovery.fold(ahead, event))
        skipped = _skipped(await self._ahead(ahead, floor - 1, log.head))
        await to_thread.run_sync(fold, None, lambda event: folded.fold(event, skipped))
        return folded.state(floor)

    async def tail(self, snapshot: Snapshot, upto: int) -> str:
        folded, skipped = await self._begin(snapshot, upto)
        await self._fold(folded, snapshot.floor - 1, upto, skipped)
        return folded.state(snapshot.floor).digest

    async def _begin(self, base: Snapshot | None, upto: int) -> tuple[Folded, Skipped]:
        """An empty or restored state, and what the whole log says was passed over."""
        ahead: dict[str, Recovered] = {}
        after = 0
        folded = Folded(self._sources(), self._log.digest)
        if base is not None:
            folded.restore(base.state)
            ahead, after = recovered(base.state), base.floor - 1
        return folded, _skipped(await self._ahead(ahead, after, upto))

    async def _ahead(
        self, ahead: dict[str, Recovered], after: int, upto: int
    ) -> dict[str, Recovered]:
        async for event in self._events(after, upto, rare=True):
            recovery.fold(ahead, event)
        return ahead

    async def _fold(self, folded: Folded, after: int, upto: int, skipped: Skipped) -> None:
        async for event in self._events(after, upto, rare=False):
            folded.fold(event, skipped)

    async def _events(self, after: int, upto: int, *, rare: bool) -> AsyncIterator[RecordedEvent]:
        kinds = _RARE if rare else None
        while after < upto:
            page = await self._log.read(after, limit=_PAGE, kinds=kinds)
            for event in page:
                if event.seq > upto:
                    return
                yield event
            if not page:
                return
            after = page[-1].seq
            await checkpoint()


def _skipped(ahead: Mapping[str, Recovered]) -> Skipped:
    return {hook_id: hook.skipped for hook_id, hook in ahead.items() if hook.skipped}


def _check_copies(folded: Folded, floor: int) -> None:
    """Whatever may be sent has its event, or a copy of it, from the floor on."""
    for hook_id, hook in folded.recovered.items():
        if folded.hooks.current(hook_id) is None:
            continue
        over = folded.hooks.over_until(hook_id)
        needed = [parked.position for item, parked in hook.parked.items() if item[0] > over]
        needed += [o.copy or item[0] for item, o in hook.open.items() if item[0] > over]
        if needed and min(needed) < floor:
            raise Abandoned(
                f"the log says that hook {hook_id} may send what is at position {min(needed)}"
            )


def _without(items: Mapping[str, Any], trimmed: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in {**items, **trimmed}.items() if item is not None}

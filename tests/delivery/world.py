"""Delivery with everything real but the handler: a log, its projections and state.db on disk.

    async with delivering(tmp_path, receiver) as world:
        await world.hook("h", source="s", event="e")
        (seq,) = await world.emit({"n": 1})
        await world.quiet()
        assert receiver.seqs("h") == [seq]

Leaving the block is a crash: nothing is drained or written down. `world.stop()` is a proper end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec

from delivery.control import DeliveryControl
from delivery.matching import REQUEST
from delivery.outbox import Outbox
from delivery.outcome import Delivery, Outcome
from delivery.perform import Perform
from delivery.retry import RetryPolicy
from delivery.service import DeliveryOptions, DeliveryService
from eventstore import Append, EventLog, Kind, LogOptions, LogUnavailable, NewEvent, RecordedEvent
from eventstore.codec import decode, new_event
from eventstore.events import (
    DELIVERIES_PREFIX,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    Event,
    EventEmitted,
    SourcePublished,
)
from projections.deliveries import Deliveries
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE

HANDLERS = ("webhook", "webhook-custom", "log", "lambda", REQUEST)
QUICK = RetryPolicy(schedule=(0.01, 0.01), jitter=0)
OPTIONS = DeliveryOptions(policy=QUICK, drain_timeout=0.5)

DEFAULTS = LogOptions()
FAILED = Outcome(ok=False, reason="it broke", status=500)
REFUSED = Outcome(ok=False, reason="not like this", status=400, retryable=False)
GONE = Outcome(ok=False, reason="gone for good", status=410, gone=True)

Answer = Callable[[Delivery], Outcome]


async def until(probe: Callable[[], object], *, within: float = 5.0) -> None:
    """Return once `probe` is true. For states that set no event which a test could wait for."""
    with anyio.fail_after(within):
        while True:
            if probe():
                return
            await anyio.sleep(0.001)


class Receiver:
    """The handler of all hooks: remembers what arrives, and answers as told."""

    def __init__(self) -> None:
        self.arrived: list[Delivery] = []
        self.answered: list[Delivery] = []
        self.answer: Answer = lambda _: Outcome(ok=True)
        self._gates: dict[str, anyio.Event] = {}

    async def __call__(self, delivery: Delivery) -> Outcome:
        self.arrived.append(delivery)
        gate = self._gates.get(delivery.hook.id)
        if gate is not None:
            await gate.wait()
        outcome = self.answer(delivery)
        self.answered.append(delivery)
        return outcome

    def hold(self, hook_id: str = "h") -> None:
        """From now on this hook's receiver hangs."""
        self._gates[hook_id] = anyio.Event()

    def let_go(self, hook_id: str = "h") -> None:
        self._gates.pop(hook_id).set()

    def seqs(self, hook_id: str = "h") -> list[int]:
        """Positions of the events that arrived, in order of arrival; pings aside."""
        return [d.seq for d in self.arrived if d.hook.id == hook_id and not d.purpose]


class World:
    """What runs, and short words for what happens to it."""

    def __init__(
        self,
        log: EventLog,
        projections: Projections,
        hooks: Hooks,
        service: DeliveryService,
        control: DeliveryControl,
        stop: Callable[[], Awaitable[None]],
    ) -> None:
        self.log = log
        self.projections = projections
        self.hooks = hooks
        self.service = service
        self.control = control
        self.stop = stop

    async def append(self, *events: NewEvent, workspace: str = DEFAULT_WORKSPACE) -> int:
        """The position of the last one."""
        return (await self.log.append(Append(events=events, workspace=workspace))).positions[-1]

    async def hook(
        self, hook_id: str = "h", *, workspace: str = DEFAULT_WORKSPACE, **fields: Any
    ) -> int:
        """Create a hook of the log handler on s/e, unless told otherwise."""
        created = config(f"event_hooks/{hook_id}", EntityCreated(entity=entity(hook_id, **fields)))
        position = await self.append(created, workspace=workspace)
        await self.projections.wait_applied(position)
        return position

    async def update(self, hook_id: str = "h", **fields: Any) -> int:
        updated = EntityUpdated(entity=entity(hook_id, **fields), old_entity=entity(hook_id))
        position = await self.append(config(f"event_hooks/{hook_id}", updated))
        await self.projections.wait_applied(position)
        return position

    async def delete(self, hook_id: str = "h") -> int:
        deleted = EntityDeleted(entity=entity(hook_id))
        return await self.append(config(f"event_hooks/{hook_id}", deleted))

    async def publish(self, source: str, event: str, unique: list[str]) -> int:
        published = SourcePublished(source=source, event=event, unique=unique)
        return await self.append(config(f"event_hook_sources/{source}/{event}", published))

    async def emit(self, *data: Any, source: str = "s", event: str = "e") -> tuple[int, ...]:
        """One event for each of `data`, or one without any, stored together."""
        events = tuple(emitted(each, source=source, event=event) for each in data or ({},))
        append = Append(events=events, workspace=DEFAULT_WORKSPACE)
        return (await self.log.append(append)).positions

    async def say(self, fact: Event, hook_id: str = "h") -> int:
        """Store a delivery fact, as the Admin API stores orders."""
        stream = DELIVERIES_PREFIX + hook_id
        return await self.append(new_event(fact, stream=stream, kind=Kind.DELIVERY))

    async def obeyed(self, fact: Event, hook_id: str = "h") -> int:
        """Store a delivery fact, and wait until the consumer has read it."""
        position = await self.say(fact, hook_id)
        with anyio.fail_after(5):
            await self.service.wait_live(position)
        return position

    async def fill_up(self) -> None:
        """Leave no room in the log, as a full disk does."""
        await self.log.limit(1)
        with suppress(LogUnavailable):
            while True:
                await self.emit(source="unheard")

    async def quiet(self) -> None:
        """Wait until everything is decided, and nothing is open that could be sent."""
        await until(lambda: self.service.ledger.live == self.log.head and not self._busy())

    async def facts(self, hook_id: str = "h") -> list[Event]:
        """What the log says about a hook's deliveries, oldest first."""
        stored = await self.log.read_stream(DELIVERIES_PREFIX + hook_id)
        return [body for event in stored if (body := decode(event)) is not None]

    async def event(self, seq: int) -> RecordedEvent:
        (event,) = await self.log.read(seq - 1, limit=1)
        return event

    async def why(self, seq: int, hook_id: str = "h") -> list[dict[str, Any]]:
        """What explain says about an event and a hook."""
        found = await self.control.explain(await self.event(seq))
        return [entry for entry in found if entry["hook"] == hook_id]

    def outbox(self, hook_id: str = "h") -> Outbox:
        return self.service.ledger.outbox(hook_id)

    def _busy(self) -> bool:
        return any(
            outbox.running
            or (outbox.stopped is None and (outbox.open or outbox.position is not None))
            for outbox in self.service.ledger.outboxes.values()
        )


@asynccontextmanager
async def delivering(
    directory: Path,
    receiver: Receiver,
    *,
    options: DeliveryOptions = OPTIONS,
    log_options: LogOptions = DEFAULTS,
) -> AsyncIterator[World]:
    """Everything open and running on the files in `directory`."""
    async with EventLog.open(directory, options=log_options) as log:
        hooks, sources, deliveries = Hooks(), Sources([]), Deliveries()
        perform = Perform(dict.fromkeys(HANDLERS, receiver))
        async with (
            Projections.open(log, directory, [hooks, sources, deliveries]) as projections,
            DeliveryService.open(
                log,
                projections,
                hooks,
                sources,
                directory=directory,
                perform=perform,
                options=options,
            ) as service,
            anyio.create_task_group() as tasks,
        ):
            stopped = anyio.Event()

            async def run() -> None:
                await service.run()
                stopped.set()

            async def stop() -> None:
                service.stop()
                with anyio.fail_after(10):
                    await stopped.wait()

            tasks.start_soon(projections.run)
            tasks.start_soon(run)
            control = DeliveryControl(log, projections, hooks, deliveries, service)
            yield World(log, projections, hooks, service, control, stop)
            tasks.cancel_scope.cancel()


def entity(hook_id: str, **fields: Any) -> dict[str, Any]:
    """A hook as the log holds it."""
    whole = {
        "id": hook_id,
        "source": "s",
        "event": "e",
        "handler": "log",
        "config": {},
        "created_at": 1,
        "updated_at": 1,
    } | fields
    return {name: value for name, value in whole.items() if value is not None}


def config(stream: str, body: Event) -> NewEvent:
    return new_event(body, stream=stream, kind=Kind.CONFIG)


def emitted(data: Any, *, source: str = "s", event: str = "e") -> NewEvent:
    body = EventEmitted(data=msgspec.Raw(msgspec.json.encode(data)))
    return new_event(body, stream=f"emitted/{source}/{event}", kind=Kind.EMITTED)


def lose_state(directory: Path) -> None:
    """Delete state.db, with all that belongs to it."""
    for path in directory.glob("state.db*"):
        path.unlink()


def lose_view(directory: Path) -> None:
    """Delete view.db, with all that belongs to it."""
    for path in directory.glob("view.db*"):
        path.unlink()


def of_type(facts: Sequence[Event], kind: type[Event]) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]

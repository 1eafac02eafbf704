"""Random histories against a simple model: no event is forgotten, whatever happens.

A history emits, makes, changes and deletes hooks, pauses and resumes them, lets receivers fail,
stops and kills the service, compacts its log, and loses what can be rebuilt. At its end all
receivers work and all hooks go on.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DrawFn, composite, integers, lists, sampled_from

from delivery.compacting import FoldedStates
from delivery.outcome import Delivery, Outcome
from delivery.retry import RetryPolicy
from eventstore import Append, EventLog, RecordedEvent
from eventstore.archive import Archive
from eventstore.codec import decode
from eventstore.compaction import Abandoned
from eventstore.events import (
    DELIVERIES_PREFIX,
    HOOKS_PREFIX,
    DeliveriesSettled,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    EventEmitted,
    HookPaused,
    HookResumed,
)
from eventstore.retention import Policy
from eventstore.snapshots import Snapshot, latest
from projections.sources import Sources
from tests.delivery.compacting import compact, try_to_compact
from tests.delivery.world import (
    FAILED,
    GONE,
    OPTIONS,
    REFUSED,
    Receiver,
    World,
    delivering,
    lose_state,
    lose_view,
    until,
)

HOOKS = ("a", "b")
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"event": None},
    {"event": "f"},
    {"on_change": True},
    {"on_change": True, "event": None},
    {"snooze": 3600},
    {"on_change": True, "snooze": 3600},
    {"handler": "webhook", "source": "crud", "event": "event_hooks"},
)
OUTCOMES = (Outcome(ok=True), FAILED, REFUSED, GONE)
BRISK = msgspec.structs.replace(
    OPTIONS, policy=RetryPolicy(schedule=(0.002,) * 3, jitter=0), drain_timeout=0.2
)

Step = tuple[Any, ...]


@composite
def steps(draw: DrawFn) -> Step:
    name = draw(
        sampled_from(
            ["emit"] * 6
            + ["hook"] * 3
            + ["answer"] * 3
            + ["pause", "resume", "skip", "delete", "resend", "receipts", "hold"]
            + ["turns"] * 2
            + ["settle", "stop", "kill", "lose"]
            + ["compact"] * 2
        )
    )
    match name:
        case "emit":
            return (name, draw(sampled_from("ef")), draw(lists(integers(1, 3), max_size=5)))
        case "hook":
            return (name, draw(sampled_from(HOOKS)), draw(sampled_from(VARIANTS)))
        case "answer":
            return (name, draw(sampled_from(HOOKS)), draw(sampled_from(OUTCOMES)))
        case "turns":
            return (name, draw(sampled_from([1, 3, 10, 50, 200])))
        case "compact":
            return (name, draw(sampled_from([1, 5, 20, 1000])))
        case "stop" | "kill" | "lose" | "settle" | "receipts":
            return (name,)
        case _:
            return (name, draw(sampled_from(HOOKS)))


class History:
    """Plays the steps, each against whatever has become of the service by then."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.receiver = Receiver()
        self.receiver.answer = self.answer
        self.answers: dict[str, Outcome] = {}
        self.held: set[str] = set()
        self.exists: set[str] = set()

    def answer(self, delivery: Delivery) -> Outcome:
        return self.answers.get(delivery.hook.id, OUTCOMES[0])

    async def play(self, history: Sequence[Step]) -> None:
        left = list(history)
        while left:
            async with delivering(self.directory, self.receiver, options=BRISK) as world:
                ended = await self.until_it_ends(world, left)
                if ended == "stop":
                    await world.stop()
            if ended == "lose":
                lose_state(self.directory)
        async with delivering(self.directory, self.receiver, options=BRISK) as world:
            await self.heal(world)
            live = await self.essence(world)
            await world.stop()
            check(await everything(world.log), self.receiver, live)
            await every_snapshot_is_true(world.log)
        async with delivering(self.directory, self.receiver, options=BRISK) as world:
            assert await self.essence(world) == live
            await compact(world)
        arrived = len(self.receiver.arrived)
        lose_state(self.directory)
        lose_view(self.directory)
        async with delivering(self.directory, self.receiver, options=BRISK) as world:
            assert await self.essence(world) == live, "rebuilt is not live"
            assert len(self.receiver.arrived) == arrived, "what was receipted is sent again"

    async def until_it_ends(self, world: World, left: list[Step]) -> str:
        while left:
            name, *args = left.pop(0)
            if name in ("stop", "kill", "lose"):
                return str(name)
            await self.step(world, name, *args)
        return "kill"

    async def step(self, world: World, name: str, *args: Any) -> None:
        if name == "answer":
            self.answers[args[0]] = args[1]
        else:
            await getattr(self, name)(world, *args)

    async def emit(self, world: World, event: str, numbers: list[int]) -> None:
        if numbers:
            await world.emit(*({"n": number} for number in numbers), event=event)

    async def hook(self, world: World, hook_id: str, fields: dict[str, Any]) -> None:
        await (world.update if hook_id in self.exists else world.hook)(hook_id, **fields)
        self.exists.add(hook_id)

    async def delete(self, world: World, hook_id: str) -> None:
        if hook_id in self.exists:
            self.exists.remove(hook_id)
            await world.delete(hook_id)

    async def pause(self, world: World, hook_id: str) -> None:
        if hook_id in self.exists:
            await world.say(HookPaused(), hook_id)

    async def resume(self, world: World, hook_id: str) -> None:
        if hook_id in self.exists:
            await world.say(HookResumed(), hook_id)

    async def skip(self, world: World, hook_id: str) -> None:
        if hook_id in self.exists:
            await world.say(HookResumed(skip_to=world.log.head), hook_id)

    async def resend(self, world: World, hook_id: str) -> None:
        await world.control.resend(hook_id, None, Append(events=()))

    async def compact(self, world: World, most: int) -> None:
        """What can go now goes, up to so many events, and is found in the archive at the end."""
        await try_to_compact(world, Policy(before=world.log.first + most))

    async def receipts(self, world: World) -> None:
        world.service.ledger.receipts_due.set()

    async def hold(self, _: World, hook_id: str) -> None:
        if hook_id in self.held:
            self.held.remove(hook_id)
            self.receiver.let_go(hook_id)
        else:
            self.held.add(hook_id)
            self.receiver.hold(hook_id)

    async def turns(self, _: World, count: int) -> None:
        for _turn in range(count):
            await checkpoint()

    async def settle(self, world: World) -> None:
        """Give the service the time to do all it can."""
        with anyio.move_on_after(0.05):
            await world.quiet()

    async def heal(self, world: World) -> None:
        """All receivers work, all hooks go on, and everything is sent."""
        self.answers.clear()
        for hook_id in list(self.held):
            await self.hold(world, hook_id)
        for hook_id in self.exists:
            await world.obeyed(HookResumed(), hook_id)
        await until(lambda: world.service.ledger.live == world.log.head)
        for hook_id in self.exists:  # suspended in the meantime
            await world.obeyed(HookResumed(), hook_id)
        await world.quiet()

    async def essence(self, world: World) -> dict[str, Any]:
        """What the state of the hooks comes to, whenever it was built."""
        await until(lambda: world.service.ledger.live == world.log.head)
        await world.quiet()
        outboxes = world.service.ledger.outboxes
        return {
            hook_id: (outbox.stopped, set(outbox.open), set(outbox.parked), outbox.memory)
            for hook_id in sorted(self.exists)
            if (outbox := outboxes.get(hook_id)) is not None
            and (outbox.memory or outbox.parked or outbox.open or outbox.stopped)
        }


async def everything(log: EventLog) -> list[RecordedEvent]:
    """What is in the archive, then what is in the log."""
    archive = Archive(log.path.parent / "archive", log.log_id)
    events = await anyio.to_thread.run_sync(lambda: list(archive.events()))
    events = [event for event in events if event.seq < log.first]
    while page := await log.read(events[-1].seq if events else 0):
        events += page
    return events


class Model:
    """One hook, as simply as it can be said: what should have become of each event."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] | None = None
        self.begin()

    def begin(self) -> None:
        """A hook that is new, or deleted, is owed nothing and remembers nothing."""
        self.last: object = None
        self.fired = False
        self.owed: set[int] = set()
        self.silenced: set[int] = set()

    def change(self, body: object) -> None:
        if isinstance(body, EntityDeleted):
            self.begin()
            self.fields = None
        elif isinstance(body, EntityCreated | EntityUpdated):
            self.fields = body.entity

    def see(self, seq: int, source: str, event: str, data: object, *, skipped: bool) -> None:
        fields = self.fields
        if fields is None or fields["source"] != source or fields.get("event", event) != event:
            return
        on_change, snooze = fields.get("on_change"), fields.get("snooze")
        if skipped or (on_change and self.last == [data]) or (snooze and self.fired):
            self.silenced.add(seq)
            return
        self.owed.add(seq)
        self.last = [data] if on_change else self.last
        self.fired = self.fired or bool(snooze)


def check(events: list[RecordedEvent], receiver: Receiver, live: dict[str, Any]) -> None:
    """Every matching event arrived or is parked; every other one, and what was silenced, is not."""
    for hook_id in HOOKS:
        model, skipped = Model(), skips(events, hook_id)
        for event in events:
            body = decode(event)
            if isinstance(body, EventEmitted):
                _, source, name = event.stream.split("/")
                model.see(
                    event.seq,
                    source,
                    name,
                    msgspec.json.decode(body.data),
                    skipped=event.seq in skipped,
                )
            elif event.stream.startswith(HOOKS_PREFIX):
                # A hook sees its own change as what it was before, and its ping as what it is.
                model.see(event.seq, "crud", "event_hooks", event.seq, skipped=event.seq in skipped)
                if event.stream == HOOKS_PREFIX + hook_id:
                    model.change(body)
        parked = {seq for seq, _ in live[hook_id][2]} if hook_id in live else set()
        arrived = set(receiver.seqs(hook_id))
        assert model.owed <= arrived | parked, f"{hook_id} forgot {model.owed - arrived - parked}"
        # What is skipped depends on how far a hook had come, and after a crash that is less far.
        told = set() if skipped else model.silenced & arrived
        assert not told, f"{hook_id} was told of {told}"


async def every_snapshot_is_true(log: EventLog) -> None:
    """From anywhere: the state of then and what followed fold to what everything folds to."""
    states = FoldedStates(log, lambda: Sources([]))
    taken = await latest(log)
    if taken is not None:
        assert await states.afresh() == taken.state, "the archive says something else"
    for floor in range(log.first, log.head, max(1, (log.head - log.first) // 5)):
        with suppress(Abandoned):  # a delivery would lose its event: no compaction gets so far
            state, digest = await states.everything(floor, log.head)
            assert await states.tail(Snapshot(floor, state), log.head) == digest, f"from {floor}"


def skips(events: list[RecordedEvent], hook_id: str) -> set[int]:
    """What the receipts say was passed over by hand."""
    bodies = [decode(e) for e in events if e.stream == DELIVERIES_PREFIX + hook_id]
    runs = [
        run
        for body in bodies
        if isinstance(body, DeliveriesSettled)
        for run in body.suppressed
        if run.reason == "skipped"
    ]
    return {seq for run in runs for seq in range(run.first, run.last + 1)}


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(lists(steps(), min_size=5, max_size=40))
def test_no_event_is_forgotten(history: list[Step]) -> None:
    """Delivered, parked, or silenced exactly as the rules say; and a rebuild knows the same."""
    with TemporaryDirectory() as directory:
        anyio.run(History(Path(directory)).play, history)

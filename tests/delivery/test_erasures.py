"""Erasures under delivery: nothing of an erased body is kept or sent, and a rebuild agrees."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DrawFn, composite, integers, lists, one_of

from delivery.erasures import listens
from eventstore import Append
from eventstore.eraser import Erased
from eventstore.erasing import Wanted
from eventstore.events import DeliveriesCancelled, EventsErased, HookPaused
from projections.hooks import hook_from
from tests.delivery.compacting import compact, compaction
from tests.delivery.test_histories import BRISK, History, Step, steps
from tests.delivery.world import (
    FAILED,
    REFUSED,
    Receiver,
    World,
    delivering,
    emitted,
    entity,
    lose_state,
    lose_view,
    of_type,
    until,
)

ORIGIN = Append(events=())


async def erase(world: World, wanted: Wanted) -> Erased:
    """As the Admin API has it done."""

    async def obeyed(seq: int, record: EventsErased) -> None:
        await world.projections.wait_stored(seq)
        await world.service.erased(seq, record)

    with anyio.fail_after(10):
        return await world.log.eraser.erase(wanted, "asked", ORIGIN, obeyed)


async def erase_event(world: World, seq: int) -> Erased:
    return await erase(world, Wanted("event", f"position {seq}", seq))


async def files_with(directory: Path, text: str) -> list[str]:
    def search() -> list[str]:
        files = [path for path in directory.rglob("*") if path.is_file()]
        return sorted(path.name for path in files if text.encode() in path.read_bytes())

    return await anyio.to_thread.run_sync(search)


async def test_open_and_parked_deliveries_are_cancelled(tmp_path: Path) -> None:
    """Those of the erased event alone, with the reason, in memory, in the log and on disk."""
    receiver = Receiver()
    receiver.answer = lambda delivery: REFUSED if delivery.hook.id == "h" else FAILED
    async with delivering(tmp_path, receiver) as world:
        await world.hook("h")
        await world.hook("slow")
        receiver.hold("slow")
        one, other = await world.emit({"mail": "ada@example"}, {"mail": "bob@example"})
        await until(lambda: len(world.outbox("h").parked) == 2)
        await until(lambda: (one, "") in world.outbox("slow").running)
        erased = await erase_event(world, one)
        receiver.let_go("slow")
        await until(lambda: not world.outbox("slow").running)

        assert erased.count == 2
        assert set(world.outbox("h").parked) == {(other, "")}
        assert (one, "") not in world.outbox("slow").open
        for hook in ("h", "slow"):
            (fact,) = of_type(await world.facts(hook), DeliveriesCancelled)
            assert (fact.seqs, fact.reason) == ([one], "the event was erased")
            [why] = await world.why(one, hook)
            assert why["state"] == "cancelled"
        assert await files_with(tmp_path, "ada@example") == []
        assert await files_with(tmp_path, "bob@example") != []


async def test_an_attempt_in_flight_leaves_no_copy(tmp_path: Path) -> None:
    """It read the body before; what it would park afterwards is not stored."""
    receiver = Receiver()
    receiver.answer = lambda _: REFUSED
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        receiver.hold()
        (seq,) = await world.emit({"mail": "ada@example"})
        await until(lambda: (seq, "") in world.outbox().running)
        await erase_event(world, seq)
        receiver.let_go()
        await world.quiet()

        assert await files_with(tmp_path, "ada@example") == []
        assert world.outbox().parked == {}


async def test_a_copy_does_not_go_by_itself(tmp_path: Path) -> None:
    """After a rebuild the delivery would be made, and parked, again."""
    receiver = Receiver()
    receiver.answer = lambda _: REFUSED
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.emit({"n": 1})
        await until(lambda: bool(world.outbox().parked))
        (parked,) = world.outbox().parked.values()

        assert await erase_event(world, parked.position) == Erased(count=0, records=())
        assert world.outbox().parked != {}


async def test_a_lane_behind_sends_nothing_erased(tmp_path: Path) -> None:
    """A paused hook gets to the event later, and finds no body."""
    receiver = Receiver()
    async with delivering(tmp_path, receiver) as world:
        await world.hook()
        await world.obeyed(HookPaused())
        one, other = await world.emit({"n": 1}, {"n": 2})
        await erase_event(world, one)
        await world.control.resume("h", False, ORIGIN)
        await world.quiet()

        assert receiver.seqs() == [other]


async def test_the_memory_of_what_was_erased_goes(tmp_path: Path) -> None:
    """on_change of the hooks concerned starts anew, of others it stays; a rebuild agrees."""
    receiver = Receiver()
    async with delivering(tmp_path, receiver) as world:
        await world.hook("h", on_change=True)
        await world.hook("other", on_change=True, event="f")
        (seq,) = await world.emit({"n": 1})
        await world.emit({"n": 1}, event="f")
        await world.quiet()
        await erase_event(world, seq)

        assert world.outbox("h").memory == {}
        assert world.outbox("other").memory != {}
        await world.emit({"n": 1})
        await world.emit({"n": 1}, event="f")
        await world.quiet()
        assert [len(receiver.seqs(hook)) for hook in ("h", "other")] == [2, 1]
        live = {hook: dict(world.outbox(hook).memory) for hook in ("h", "other")}
        await world.stop()
    lose_state(tmp_path)
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()
        assert {hook: dict(world.outbox(hook).memory) for hook in ("h", "other")} == live
        assert [len(receiver.seqs(hook)) for hook in ("h", "other")] == [2, 1]


async def test_a_hook_whose_configuration_is_erased_is_gone(tmp_path: Path) -> None:
    """As if it had been deleted: what it had open is cancelled, and nothing more is sent."""
    receiver = Receiver()
    receiver.answer = lambda _: FAILED
    async with delivering(tmp_path, receiver) as world:
        made = await world.hook(secret="s3cr3t-of-h")
        receiver.hold()
        await world.emit({"n": 1})
        await until(lambda: bool(world.outbox().running))
        await erase_event(world, made)
        receiver.let_go()
        await world.emit({"n": 2})
        await world.quiet()

        assert world.hooks.current("h") is None
        assert "h" not in world.service.ledger.outboxes
        assert len(receiver.seqs()) == 1
        assert await files_with(tmp_path, "s3cr3t-of-h") == []


async def test_an_archived_body_is_unreadable(tmp_path: Path) -> None:
    """Of a person, and of one event by its position, though both left the log before."""
    async with delivering(tmp_path, Receiver()) as world:
        digest = world.log.subject("ada")
        for n, subject in enumerate([digest, digest, None, None], start=1):
            event = emitted({"n": n})
            await world.append(type(event)(**_with(event, subject)))
        await world.emit({})
        await world.quiet()
        await compact(world)
        before = await archived(world)
        first = await erase(world, Wanted("subject", digest.hex()))
        again = await erase(world, Wanted("subject", digest.hex()))
        single = await erase_event(world, 3)
        single_again = await erase_event(world, 3)

        assert [body is None for body in before[:4]] == [False] * 4
        assert [body is None for body in (await archived(world))[:4]] == [True, True, True, False]
        assert (first.count, len(first.records), again.records) == (0, 1, ())
        assert (single.count, len(single.records), single_again.records) == (0, 1, ())


def _with(event: Any, subject: bytes | None) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__} | {"subject": subject}


async def archived(world: World) -> list[bytes | None]:
    from eventstore.archive import Archive

    archive = Archive(world.log.path.parent / "archive", world.log.log_id)
    return await anyio.to_thread.run_sync(lambda: [event.body for event in archive.events()])


@pytest.mark.parametrize(
    ("source", "event", "concerned"),
    [
        ("s", "e", True),
        ("s", None, True),
        ("s", "f", False),
        ("t", "e", False),
        ("crud", "consumers", True),
        ("crud", "consumers:update", True),
        ("crud", None, True),
        ("crud", "services", False),
        ("dao:crud", "create", True),
    ],
)
def test_which_hooks_may_remember(source: str, event: str | None, *, concerned: bool) -> None:
    """Those that listen to a stream of which something was erased."""
    hook = hook_from(entity("h", source=source, event=event), {}, "w", 0)

    assert listens(hook, ["emitted/s/e", "consumers/"]) is concerned


@composite
def erasures(draw: DrawFn) -> Step:
    return ("erase", draw(integers(0, 1000)))


class Erasing(History):
    """A history in which events are erased, each emitted one with a mark of its own."""

    async def play(self, history: Sequence[Step]) -> None:
        self.marks: dict[int, str] = {}
        self.gone: dict[int, int] = {}  # how much had arrived when it was gone
        left = list(history)
        while left:
            async with delivering(self.directory, self.receiver, options=BRISK) as world:
                await world.publish("s", "e", ["n"])
                ended = await self.until_it_ends(world, left)
                if ended == "stop":
                    await world.stop()
            if ended == "lose":
                lose_state(self.directory)
        async with delivering(self.directory, self.receiver, options=BRISK) as world:
            await self.heal(world)
            live = await self.essence(world)
            await world.stop()
            models = await contents(world)
        lose_state(self.directory)
        lose_view(self.directory)
        async with delivering(self.directory, self.receiver, options=BRISK) as world:
            assert await contents(world) == models, "the rebuilt view is not the live one"
            assert await self.essence(world) == live, "rebuilt is not live"
        for seq, arrived in self.gone.items():
            assert seq not in [d.seq for d in self.receiver.arrived[arrived:]], "sent afterwards"

    async def emit(self, world: World, event: str, numbers: list[int]) -> None:
        for number in numbers:
            mark = uuid4().hex
            (seq,) = await world.emit({"n": number, "mark": mark}, event=event)
            self.marks[seq] = mark

    async def erase(self, world: World, choice: int) -> None:
        """Mostly emitted events; else whatever is at some position, hooks included."""
        marked = sorted(self.marks)
        anything = range(1, world.log.head + 1)
        seq = marked[choice % len(marked)] if marked and choice % 4 else choice % len(anything) + 1
        world.log.eraser.renew = compaction(world).renew
        await erase_event(world, seq)
        self.gone.setdefault(seq, len(self.receiver.arrived))
        again = await erase_event(world, seq)

        assert again == Erased(count=0, records=())
        if seq in self.marks:
            assert await files_with(self.directory, self.marks[seq]) == []


async def contents(world: World) -> dict[str, Any]:
    """What the read models hold."""
    from projections.deliveries import Deliveries

    await until(lambda: world.projections.position == world.log.head)
    await world.projections.wait_stored(world.log.head)
    return {
        "hooks": {hook_id: world.hooks.history(hook_id) for hook_id in sorted(world.hooks.known())},
        "facts": await world.projections.lookup(Deliveries(), "", "~", limit=100_000),
    }


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(lists(one_of(steps(), steps(), steps(), erasures()), min_size=5, max_size=40))
def test_a_rebuild_after_erasures_is_what_was_live(history: list[Step]) -> None:
    """Whatever happened before and after; and the erased mark is in no file from then on."""
    with TemporaryDirectory() as directory:
        anyio.run(Erasing(Path(directory)).play, history)

"""What functions want done: stored once and together, and what comes of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from delivery.effects import MAX_DEPTH, Effects, EffectsRefused
from delivery.jail.frames import Effect
from delivery.matching import REQUEST
from delivery.outcome import Delivery, Outcome
from eventstore import Append, LogUnavailable
from eventstore.events import DeliveryParked, DeliverySkipped, RequestQueued
from tests.delivery.world import FAILED, Receiver, World, delivering

ASKED: dict[str, Any] = {
    "method": "POST",
    "url": "http://a/",
    "headers": {"x-key": "secret"},
    "body": "b",
}


def effect(kind: Any, content: Any) -> Effect:
    return Effect(kind, msgspec.json.encode(content))


def emission(event: str = "done", **data: Any) -> Effect:
    return effect("emit", {"event": event, "data": data})


async def run(world: World, receiver: Receiver, *effects: Effect, hook_id: str = "h") -> Delivery:
    """Deliver an event to the hook, whose functions want these effects."""
    await world.emit()
    await world.quiet()
    delivery = next(d for d in reversed(receiver.arrived) if d.hook.id == hook_id)
    await Effects(world.log).store(delivery, effects)
    await world.quiet()
    return delivery


async def test_an_emission_reaches_other_hooks(world: World, receiver: Receiver) -> None:
    """It is an event of the source `lambda`, in the workspace of the hook, whoever caused it."""
    await world.hook("h")
    await world.hook("other", source="lambda", event="done")
    await run(world, receiver, emission(n=1), emission(n=2), emission("unheard"))
    arrived = [d for d in receiver.arrived if d.hook.id == "other"]
    (event,) = await world.log.read(arrived[0].seq - 1, limit=1)

    assert [(d.source, d.event, d.data) for d in arrived] == [
        ("lambda", "done", {"n": 1}),
        ("lambda", "done", {"n": 2}),
    ]
    assert (event.workspace, event.actor) == (arrived[0].hook.workspace, "event_hooks/h")
    assert arrived[0].emitters == ("h",)


async def test_effects_of_a_delivery_are_stored_once(world: World, receiver: Receiver) -> None:
    """A delivery made again stores nothing, even if its functions say something else now."""
    await world.hook("h")
    delivery = await run(world, receiver, emission(n=1), effect("request", ASKED))
    head = world.log.head
    await Effects(world.log).store(delivery, [emission(n=2)])

    assert world.log.head == head


async def test_no_hook_hears_itself(world: World, receiver: Receiver) -> None:
    """A hook on what it emits gets neither that nor what followed from it."""
    await world.hook("h", source="lambda", event=None)
    await world.hook("first")
    await run(world, receiver, emission("one"), hook_id="first")
    heard = next(d for d in receiver.arrived if d.hook.id == "h")
    await Effects(world.log).store(heard, [emission("two")])
    await world.quiet()
    (entry,) = await world.why(world.log.head)

    assert receiver.seqs("h") == [heard.seq]
    assert entry["reason"] == "emitted: the hook's own functions led to this event"


async def test_emissions_end(world: World, receiver: Receiver) -> None:
    """What follows from three emissions can emit no more; what else it wanted is not done."""
    await world.hook("h")
    delivery = await run(world, receiver)
    deep = msgspec.structs.replace(delivery, emitters=("a", "b", "c"))
    head = world.log.head
    with pytest.raises(EffectsRefused, match=f"at most {MAX_DEPTH} deep"):
        await Effects(world.log).store(deep, [effect("request", ASKED), emission()])

    assert world.log.head == head


async def test_a_request_is_delivered_by_its_hook(world: World, receiver: Receiver) -> None:
    """With an id of its own, and under no conditions of the hook such as snooze."""
    await world.hook("h", snooze=3600, on_change=True)
    await run(world, receiver, effect("request", ASKED), effect("request", ASKED))
    requests = [d for d in receiver.arrived if d.purpose == REQUEST]

    assert [d.data for d in requests] == [ASKED, ASKED]
    assert {(d.hook.id, d.source, d.event) for d in requests} == {("h", "lambda", "request")}
    assert len({d.id for d in receiver.arrived}) == 3


async def test_a_request_needs_no_headers_and_no_body(world: World, receiver: Receiver) -> None:
    """A method and a URL are enough."""
    await world.hook("h")
    await run(world, receiver, effect("request", {"method": "GET", "url": "http://a/"}))

    assert receiver.arrived[-1].data == {
        "method": "GET",
        "url": "http://a/",
        "headers": {},
        "body": "",
    }


async def test_a_request_is_retried_and_parked(world: World, receiver: Receiver) -> None:
    """The rules of every delivery hold for it, and the history never shows its headers."""
    await world.hook("h")
    receiver.answer = lambda d: FAILED if d.purpose == REQUEST else Outcome(ok=True)
    delivery = await run(world, receiver, effect("request", ASKED))
    (parked,) = [fact for fact in await world.facts() if isinstance(fact, DeliveryParked)]
    (entry,) = [e for e in await world.control.explain(await world.event(parked.seq)) if "id" in e]

    assert (parked.purpose, parked.attempts) == (REQUEST, 3)
    assert msgspec.json.decode(parked.data) == ASKED
    assert entry["state"] == "parked"
    assert "secret" not in str(await world.control.history("h", None, 10))
    assert delivery.seq < parked.seq


async def test_a_request_is_made_again_when_state_is_lost(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Under its old id, for the log is all that is needed."""
    async with delivering(tmp_path, receiver) as world:
        await world.hook("h")
        await run(world, receiver, effect("request", ASKED))
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    async with delivering(tmp_path, receiver) as world:
        await world.quiet()
        made = [d.id for d in receiver.arrived if d.purpose == REQUEST]

        assert len(made) == 2
        assert len(set(made)) == 1


async def test_a_lagging_hook_makes_its_requests(world: World, receiver: Receiver) -> None:
    """A request waits with everything else while its hook is paused."""
    await world.hook("h")
    delivery = await run(world, receiver)
    world.service.ledger.stop(world.outbox(), "paused")
    await world.emit()
    await Effects(world.log).store(delivery, [effect("request", ASKED)])
    await world.quiet()
    before = len(receiver.arrived)
    await world.control.resume("h", False, Append(events=()))
    await world.quiet()

    assert [d.purpose for d in receiver.arrived[before:]] == ["", REQUEST]


async def test_a_skipped_event_is_explained(world: World, receiver: Receiver) -> None:
    """Its delivery is settled, with the function's own reason."""
    await world.hook("h")
    delivery = await run(world, receiver, effect("skip", "too small"))
    (entry,) = await world.why(delivery.seq)

    assert (entry["state"], entry["reason"]) == ("skipped_by_function", "too small")
    assert DeliverySkipped(seq=delivery.seq, reason="too small") in await world.facts()


async def test_a_test_by_hand_skips_nothing(world: World, receiver: Receiver) -> None:
    """There is no delivery that could be settled, but requests and emissions count."""
    await world.hook("h")
    delivery = msgspec.structs.replace(await run(world, receiver), seq=0, id="by hand")
    await Effects(world.log).store(
        delivery, [effect("skip", "no"), effect("set", {}), effect("request", ASKED)]
    )
    facts = await world.facts()

    assert facts[-1] == RequestQueued(seq=0, **ASKED)
    assert not any(isinstance(fact, DeliverySkipped) for fact in facts)


@pytest.mark.parametrize(
    "wrong",
    [
        Effect("emit", b"{"),
        Effect("emit", b'{"event":"a/b","data":{}}'),
        Effect("emit", b'{"event":"","data":{}}'),
        Effect("emit", b'{"event":"a","data":[]}'),
        Effect("emit", b"[" * 100_000),
        Effect("skip", b"1"),
        Effect("request", b'{"method":"GET"}'),
        effect("request", {**ASKED, "method": "GET / HTTP/1.1\r\n"}),
        effect("request", {**ASKED, "headers": {"a": 1}}),
    ],
)
async def test_a_worker_is_not_believed(world: World, receiver: Receiver, wrong: Effect) -> None:
    """What is not as it has to be stores nothing, not even the effects beside it."""
    await world.hook("h")
    delivery = await run(world, receiver)
    head = world.log.head
    with pytest.raises(EffectsRefused):
        await Effects(world.log).store(delivery, [emission(), wrong])

    assert world.log.head == head


async def test_broken_text_is_stored_as_text(world: World, receiver: Receiver) -> None:
    """Lua cuts characters in two; what reaches the log is UTF-8."""
    await world.hook("h")
    await world.hook("other", source="lambda", event="done")
    await run(world, receiver, Effect("emit", b'{"event":"done","data":{"a":"\xc5"}}'))

    assert receiver.arrived[-1].data == {"a": "�"}


async def test_a_full_log_is_said(world: World, receiver: Receiver) -> None:
    """Nobody believes that an effect is stored when it is not."""
    await world.hook("h")
    delivery = await run(world, receiver)
    await world.fill_up()
    with pytest.raises(LogUnavailable):
        await Effects(world.log).store(delivery, [emission()])


async def test_effects_are_about_the_same_person(world: World, receiver: Receiver) -> None:
    """So that whoever erases a person erases what functions made of their events."""
    await world.hook("h")
    delivery = msgspec.structs.replace(await run(world, receiver), subject=b"digest")
    wanted = [emission(), effect("request", ASKED)]
    before = world.log.head
    await Effects(world.log).store(delivery, wanted)
    stored = await world.log.read(before, limit=2)

    assert [event.subject for event in stored] == [b"digest", b"digest"]

"""What the log says about deliveries, by the keys it is looked up with."""

import msgspec

from eventstore.events import (
    DeliveriesCancelled,
    DeliveriesSettled,
    DeliveryFailed,
    DeliveryParked,
    DeliveryResent,
    EntityCreated,
    Event,
    HookPaused,
    Suppressed,
)
from projections.deliveries import Deliveries, Fact, evolve
from tests.spec import fact, given, recorded


def keys(body: Event) -> list[str]:
    """Where a fact about hook h at position 1 is found, without the padding of numbers."""
    (event,) = recorded([fact("deliveries/h", body)])
    return [key.replace("0" * 19, "") for key in evolve(event)]


def settled(after: int, upto: int, **fields: object) -> DeliveriesSettled:
    whole = {"id": "r", "after": after, "upto": upto, "delivered": 1, "hook_version": 0} | fields
    return msgspec.convert(whole, DeliveriesSettled)


def test_every_fact_is_found_by_hook() -> None:
    """In log order."""
    assert keys(HookPaused()) == ["h/fact/1"]


def test_facts_about_an_event_are_found_by_it() -> None:
    """Failed, parked, sent again, cancelled, arrived late."""
    parked = DeliveryParked(
        seq=7,
        event_id="id",
        reason="no",
        attempts=1,
        source="s",
        event="e",
        data=msgspec.Raw(b'{"a":1}'),
    )

    for body in (
        DeliveryFailed(seq=7, reason="no", hook_version=0),
        parked,
        DeliveryResent(seq=7),
        DeliveriesCancelled(seqs=[7], reason="no"),
    ):
        assert keys(body) == ["h/fact/1", "h/event/7/1"]
    assert keys(settled(5, 5, late=[(2, ""), (3, "")])) == [
        "h/fact/1",
        "h/event/2/1",
        "h/event/3/1",
    ]


def test_receipts_are_found_by_the_end_of_their_range() -> None:
    """Unless it is empty: it would hide the one that ends there."""
    assert keys(settled(2, 5)) == ["h/fact/1", "h/settled/5"]
    assert keys(settled(5, 5)) == ["h/fact/1"]


def test_a_fact_has_everything_but_the_copy_of_the_event() -> None:
    """What was to be sent stays in the log, where it can be erased."""
    parked = DeliveryParked(
        seq=7,
        event_id="id",
        reason="no",
        attempts=1,
        source="s",
        event="e",
        data=msgspec.Raw(b'{"secret":1}'),
        status=500,
    )
    (event,) = recorded([fact("deliveries/h", parked)])
    found = Fact(
        position=1,
        time_us=event.time_us,
        type="delivery_parked",
        body={
            "seq": 7,
            "event_id": "id",
            "reason": "no",
            "attempts": 1,
            "source": "s",
            "event": "e",
            "status": 500,
        },
    )

    assert set(map(repr, evolve(event).values())) == {repr(found)}


def test_what_is_said_about_one_event_does_not_repeat_the_others() -> None:
    """A receipt with a thousand late deliveries is not stored a thousand times."""
    receipt = settled(
        0,
        5000,
        late=[(n, "") for n in range(1000)],
        open=[(n, "") for n in range(1000, 2000)],
        suppressed=[Suppressed("snooze", 1, 2, 2)],
    )
    (event,) = recorded([fact("deliveries/h", receipt)])
    items = evolve(event)
    stored = sum(len(msgspec.json.encode(item)) for item in items.values())

    assert len(items) == 1002
    assert stored < 300_000


def test_the_model_is_idempotent_and_rebuildable() -> None:
    """Other events and erased facts leave no trace."""
    said = fact("deliveries/h", HookPaused())
    model = given(Deliveries, said._replace(erased=True)).when(
        fact("consumers/1", EntityCreated(entity={})), said
    )
    expected = Fact(
        position=3, time_us=3_000_000, type="hook_paused", body={"reason": "paused by hand"}
    )

    model.then({f"h/fact/{3:020d}": msgspec.structs.replace(expected, body={})})

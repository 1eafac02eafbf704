"""How targets are, folded from what was said about them."""

from typing import Literal

from eventstore.events import EntityCreated, EntityDeleted, TargetHealthSet
from projections.health import Health, TargetHealth, Told
from tests.spec import Fact, fact, given, recorded

TARGET = "t1"


def said(health: Literal["healthy", "unhealthy"], *addresses: str, erased: bool = False) -> Fact:
    body = TargetHealthSet(upstream="u", health=dict.fromkeys(addresses, health))
    return fact(f"target_health/{TARGET}", body, erased=erased)


def test_the_last_word_about_an_address_counts() -> None:
    """Other addresses of the target keep theirs."""
    health = (
        given(Health, said("healthy", "a:1", "b:1"))
        .when(said("unhealthy", "a:1"))
        .then({TARGET: TargetHealth({"a:1": Told("unhealthy", 2), "b:1": Told("healthy", 1)})})
    )

    assert health.of(TARGET) == {"a:1": "unhealthy", "b:1": "healthy"}
    assert health.of("other") == {}


def test_a_deleted_target_is_forgotten() -> None:
    """Also when it is made again under its id."""
    gone = fact(f"targets/{TARGET}", EntityDeleted(entity={"id": TARGET}))
    made = fact(f"targets/{TARGET}", EntityCreated(entity={"id": TARGET}))

    given(Health, said("healthy", "a:1")).when(gone, made).then({})
    given(Health, gone).when(made).then({})


def test_an_erased_statement_may_have_been_about_any_address() -> None:
    """Nothing said before it still holds; what is said after it does."""
    first, gone = said("healthy", "a:1", "b:1"), said("unhealthy", "a:1", erased=True)

    given(Health, first).when(gone).then({})
    given(Health, first, gone).when(said("healthy", "c:1")).then(
        {TARGET: TargetHealth({"c:1": Told("healthy", 3)})}
    )


def test_an_erasure_leaves_what_a_rebuild_would() -> None:
    """What was said after the erased statement, whatever was said by it."""
    facts = [said("healthy", "a:1", "b:1"), said("unhealthy", "a:1"), said("healthy", "c:1")]
    events = recorded(facts)
    live, rebuilt = Health(), Health()
    for event in events:
        live.apply(live.evolve(event))
    erased = recorded([facts[0], facts[1]._replace(erased=True), facts[2]])
    live.apply(live.erase(erased[1], None))
    for event in erased:
        rebuilt.apply(rebuilt.evolve(event))

    assert live.of(TARGET) == rebuilt.of(TARGET) == {"c:1": "healthy"}
    assert live.key(events[0]) == TARGET
    assert live.erase(events[0], None) == {}


def test_other_events_say_nothing_about_targets() -> None:
    """Neither deletions of other entities, nor changes of targets."""
    others = [
        fact(f"consumers/{TARGET}", EntityDeleted(entity={"id": TARGET})),
        fact(f"targets/{TARGET}", EntityCreated(entity={"id": TARGET})),
    ]

    given(Health, said("healthy", "a:1")).when(*others).then(
        {TARGET: TargetHealth({"a:1": Told("healthy", 1)})}
    )

"""How targets are, folded from what was said about them."""

from typing import Literal

from eventstore.events import EntityCreated, EntityDeleted, TargetHealthSet
from projections.health import Health, TargetHealth
from tests.spec import Fact, fact, given

TARGET = "t1"


def said(health: Literal["healthy", "unhealthy"], *addresses: str, erased: bool = False) -> Fact:
    body = TargetHealthSet(upstream="u", health=dict.fromkeys(addresses, health))
    return fact(f"target_health/{TARGET}", body, erased=erased)


def test_the_last_word_about_an_address_counts() -> None:
    """Other addresses of the target keep theirs."""
    health = (
        given(Health, said("healthy", "a:1", "b:1"))
        .when(said("unhealthy", "a:1"))
        .then({TARGET: TargetHealth({"a:1": "unhealthy", "b:1": "healthy"})})
    )

    assert health.of(TARGET) == {"a:1": "unhealthy", "b:1": "healthy"}
    assert health.of("other") == {}


def test_a_deleted_target_is_forgotten() -> None:
    """Also when it is made again under its id."""
    gone = fact(f"targets/{TARGET}", EntityDeleted(entity={"id": TARGET}))
    made = fact(f"targets/{TARGET}", EntityCreated(entity={"id": TARGET}))

    given(Health, said("healthy", "a:1")).when(gone, made).then({})
    given(Health, gone).when(made).then({})


def test_an_erased_statement_says_nothing() -> None:
    """What was said before still holds."""
    given(Health, said("healthy", "a:1")).when(said("unhealthy", "a:1", erased=True)).then(
        {TARGET: TargetHealth({"a:1": "healthy"})}
    )


def test_other_events_say_nothing_about_targets() -> None:
    """Neither deletions of other entities, nor changes of targets."""
    others = [
        fact(f"consumers/{TARGET}", EntityDeleted(entity={"id": TARGET})),
        fact(f"targets/{TARGET}", EntityCreated(entity={"id": TARGET})),
    ]

    given(Health, said("healthy", "a:1")).when(*others).then(
        {TARGET: TargetHealth({"a:1": "healthy"})}
    )

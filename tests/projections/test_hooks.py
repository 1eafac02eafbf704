"""The hook registry: every version, and when it was in force."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis.strategies import DrawFn, composite, integers, lists, sampled_from

from eventstore.events import (
    CompactionFinished,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    EventEmitted,
)
from projections.hooks import Hook, Hooks, HookVersion, announced
from projections.tables import DEFAULT_WORKSPACE
from tests.spec import Fact, fact, given as given_facts, recorded

OTHER = fact("consumers/1", EntityCreated(entity={"id": "1"}))
EMITTED = fact("emitted/s/e", EventEmitted(data=msgspec.Raw(b"{}")))


def entity(hook_id: str = "h", **fields: Any) -> dict[str, Any]:
    return {
        "id": hook_id,
        "source": "s",
        "event": "e",
        "handler": "webhook",
        "config": {"url": "http://localhost"},
        "created_at": 1,
        "updated_at": 1,
    } | fields


def made(hook_id: str = "h", **fields: Any) -> Fact:
    return fact(f"event_hooks/{hook_id}", EntityCreated(entity=entity(hook_id, **fields)))


def changed(hook_id: str = "h", **fields: Any) -> Fact:
    updated = EntityUpdated(entity=entity(hook_id, **fields), old_entity={})
    return fact(f"event_hooks/{hook_id}", updated)


def deleted(hook_id: str = "h") -> Fact:
    return fact(f"event_hooks/{hook_id}", EntityDeleted(entity=entity(hook_id)))


def version(number: int, **fields: Any) -> Hook:
    return Hook(
        workspace=DEFAULT_WORKSPACE,
        version=number,
        **{"on_change": False, "snooze": None} | entity(**fields),
    )


def after(*facts: Fact) -> Hooks:
    hooks = Hooks()
    for event in recorded(facts):
        hooks.apply(hooks.evolve(event))
    return hooks


def test_a_hook_is_made() -> None:
    """It is in force for what comes after."""
    given_facts(Hooks).when(made()).then({"h": [HookVersion(1, None, version(0))]})


def test_a_hook_is_changed() -> None:
    """The old version ends where the new one begins."""
    given_facts(Hooks, made(), OTHER).when(changed(event="x")).then(
        {"h": [HookVersion(1, 3, version(0)), HookVersion(3, None, version(1, event="x"))]}
    )


def test_a_hook_is_deleted() -> None:
    """It stays known, with its end."""
    given_facts(Hooks, made()).when(OTHER, deleted()).then({"h": [HookVersion(1, 3, version(0))]})


def test_a_hook_is_made_again() -> None:
    """A gap separates its lives."""
    given_facts(Hooks, made(), deleted()).when(OTHER, made()).then(
        {"h": [HookVersion(1, 2, version(0)), HookVersion(4, None, version(2))]}
    )


def test_an_erased_configuration_ends_a_hook() -> None:
    """Nobody knows any more what it would do."""
    given_facts(Hooks, made()).when(changed()._replace(erased=True)).then(
        {"h": [HookVersion(1, 2, version(0))]}
    )


@pytest.mark.parametrize("happened", [OTHER, EMITTED, deleted(), changed()._replace(erased=True)])
def test_what_concerns_no_hook_changes_nothing(happened: Fact) -> None:
    """Other tables, other kinds, and hooks that never were."""
    given_facts(Hooks).when(happened).then({})


def test_secrets_are_put_back() -> None:
    """The hook is complete, for whoever performs its deliveries."""
    created = EntityCreated(entity=entity(), secrets={"config.secret": "s3"})
    hooks = after(fact("event_hooks/h", created))
    hook = hooks.current("h")

    assert hook is not None
    assert hook.config == {"url": "http://localhost", "secret": "s3"}
    assert hook.settings.secret == "s3"  # type: ignore[union-attr]


def test_defaults_of_what_was_left_out() -> None:
    """Stored entities have no nulls."""
    hook = after(made(event=None, snooze=None)).current("h")
    bare = {k: v for k, v in entity().items() if k not in ("event", "config")}
    other = after(fact("event_hooks/h", EntityCreated(entity=bare))).current("h")

    assert hook is not None
    assert other is not None
    assert (other.event, other.snooze, other.on_change, other.config) == (None, None, False, {})


@pytest.mark.parametrize(
    ("facts", "over"),
    [
        ([], 0),
        ([made()], 0),
        ([OTHER, OTHER, made()], 2),
        ([OTHER, made(), changed(), changed()], 1),
        ([made(), OTHER, deleted()], 3),
        ([made(), deleted(), OTHER], 2),
        ([made(), deleted(), OTHER, made()], 3),
        ([made(), deleted(), made(), changed(), OTHER], 2),
        ([made(), deleted(), made(), deleted()], 4),
    ],
)
def test_what_is_over(facts: list[Fact], over: int) -> None:
    """Nothing up to there concerns the hook any more."""
    assert after(*facts).over_until("h") == over


def test_lookups() -> None:
    """By id, now and then; and all of them."""
    hooks = after(made("a"), made("b"), changed("b", event="x"), deleted("a"), made("c"))
    current = hooks.current("b")

    assert hooks.current("a") is None
    assert hooks.current("unknown") is None
    assert current is not None
    assert current.event == "x"
    assert [hooks.as_of("b", seq) and hooks.as_of("b", seq).event for seq in range(1, 6)] == [  # type: ignore[union-attr]
        None,
        "e",
        "x",
        "x",
        "x",
    ]
    assert hooks.known() == ["a", "b", "c"]
    assert [hook.id for hook in hooks.all()] == ["b", "c"]
    assert hooks.workspace("a") == DEFAULT_WORKSPACE
    assert hooks.workspace("unknown") == ""
    assert [v.since for v in hooks.history("b")] == [2, 3]


def test_a_ping_shows_the_content_type_it_is_sent_with() -> None:
    """Unless the hook has its own, however that is written."""
    assert announced(entity())["config"]["headers"] == {"content-type": "application/json"}
    own = entity(config={"url": "x", "headers": {"Content-Type": "text/plain", "a": "b"}})
    assert announced(own) == own


def test_a_ping_shows_the_type_of_its_format() -> None:
    """A binary CloudEvent has the type of its data, so no hook says which."""
    structured = entity(config={"url": "x", "format": "cloudevents"})
    binary = entity(config={"url": "x", "format": "cloudevents-binary"})

    assert announced(structured)["config"]["headers"] == {
        "content-type": "application/cloudevents+json"
    }
    assert announced(binary)["config"]["headers"] == {}


IDS = ["a", "b"]
SUBSCRIPTIONS = [("s", "e"), ("s", None), ("t", "e")]


@composite
def histories(draw: DrawFn) -> list[Fact]:
    """Hooks made, changed, deleted and made again, between other events."""
    facts: list[Fact] = []
    alive: set[str] = set()
    for _ in range(draw(integers(1, 15))):
        hook_id = draw(sampled_from(IDS))
        source, event = draw(sampled_from(SUBSCRIPTIONS))
        if draw(integers(0, 3)) == 0:
            facts.append(EMITTED)
        elif hook_id not in alive:
            alive.add(hook_id)
            facts.append(made(hook_id, source=source, event=event))
        elif draw(integers(0, 1)):
            facts.append(changed(hook_id, source=source, event=event))
        else:
            alive.remove(hook_id)
            facts.append(deleted(hook_id))
    return facts


@given(histories(), lists(sampled_from(SUBSCRIPTIONS), min_size=1))
def test_who_was_in_force_has_one_answer(
    facts: list[Fact], questions: list[tuple[str, str | None]]
) -> None:
    """Whenever it is asked: right after the event, at the end, or of a rebuilt registry."""
    live = Hooks()
    answers: dict[tuple[int, tuple[str, str | None]], set[tuple[str, int]]] = {}
    for event in recorded(facts):
        for question in questions:
            found = live.in_force(*question, event.seq)
            answers[event.seq, question] = {(hook.id, hook.version) for hook in found}
        live.apply(live.evolve(event))
        live.apply(live.evolve(event))
    rebuilt = after(*facts)

    for (seq, question), expected in answers.items():
        for hooks in (live, rebuilt):
            found = hooks.in_force(*question, seq)
            assert {(hook.id, hook.version) for hook in found} == expected
            one_by_one = {
                (hook.id, hook.version)
                for hook_id in IDS
                if (hook := hooks.as_of(hook_id, seq - 1)) is not None
                and (hook.source, hook.event) == question
            }
            assert one_by_one == expected
    assert [rebuilt.over_until(hook_id) for hook_id in IDS] == [
        live.over_until(hook_id) for hook_id in IDS
    ]


def compacted(floor: int) -> Fact:
    finished = CompactionFinished(id="c", floor=floor, count=floor - 1, snapshot=floor)
    return fact("system/compaction", finished)


def test_a_compaction_takes_away_what_no_event_left_can_meet() -> None:
    """Versions that ended below the floor, and hooks that were gone by then."""
    hooks = after(
        made("changed"),
        made("deleted"),
        deleted("deleted"),
        changed("changed", event="f"),
        EMITTED,
        changed("changed", event="g"),
        compacted(6),
    )

    assert hooks.known() == ["changed"]
    assert [
        (version.since, version.until, version.hook.event) for version in hooks.history("changed")
    ] == [(1, 6, "f"), (6, None, "g")]
    assert hooks.in_force("s", "e", 3) == ()
    assert hooks.history("deleted") == []


def in_force(hooks: Hooks, seq: int) -> list[Hook]:
    return sorted(hooks.in_force("s", "e", seq), key=lambda hook: hook.id)


@given(
    lists(sampled_from([made(), changed(), deleted(), OTHER, made("other")]), max_size=12),
    integers(1, 14),
)
def test_from_the_floor_on_nothing_changes(facts: list[Fact], floor: int) -> None:
    """Which versions are in force, and up to where nothing concerns a hook that is there."""
    before, now = after(*facts), after(*facts, compacted(floor))

    for hook_id in ("h", "other"):
        for seq in range(floor, len(facts) + 3):
            assert now.as_of(hook_id, seq - 1) == before.as_of(hook_id, seq - 1)
            assert in_force(now, seq) == in_force(before, seq)
        if before.current(hook_id) is not None:
            assert now.over_until(hook_id) == before.over_until(hook_id)
        assert now.current(hook_id) == before.current(hook_id)

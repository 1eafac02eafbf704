"""Names, matches and payloads, decided from single events."""

from typing import Any

import msgspec
import pytest

from delivery.matching import (
    PING,
    PING_SOURCE,
    REQUEST,
    emitters,
    match,
    match_hook,
    mismatch,
    names,
    payload,
    purposes,
)
from eventstore import RecordedEvent, UnknownEvent
from eventstore.events import (
    DeliveryFailed,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    Event,
    EventEmitted,
    RequestQueued,
    SourcePublished,
)
from projections.hooks import Hooks
from projections.tables import DEFAULT_WORKSPACE
from tests.delivery.world import entity
from tests.spec import Fact, fact, recorded

ADA = {"id": "1", "username": "Ada"}
CREATED = fact("consumers/1", EntityCreated(entity=ADA))
UPDATED = fact("consumers/1", EntityUpdated(entity=ADA, old_entity={"id": "1"}))
DELETED = fact("consumers/1", EntityDeleted(entity=ADA))
EMITTED = fact("emitted/balancer/health", EventEmitted(data=msgspec.Raw(b'{"ip":"10.0.0.1"}')))
OTHER = "another workspace"


def hook(hook_id: str = "h", *, workspace: str = DEFAULT_WORKSPACE, **fields: Any) -> Fact:
    created = EntityCreated(entity=entity(hook_id, **fields))
    return fact(f"event_hooks/{hook_id}", created, workspace=workspace)


def changed(hook_id: str = "h", **fields: Any) -> Fact:
    updated = EntityUpdated(entity=entity(hook_id, **fields), old_entity=entity(hook_id))
    return fact(f"event_hooks/{hook_id}", updated)


def story(*facts: Fact) -> tuple[Hooks, list[RecordedEvent]]:
    """The registry after all of these, and the events themselves."""
    hooks, events = Hooks(), recorded(facts)
    for event in events:
        hooks.apply(hooks.evolve(event))
    return hooks, events


def matched(*facts: Fact) -> list[tuple[str, str, str, str]]:
    """Whom the last of these concerns, and under which names."""
    hooks, events = story(*facts)
    return [(m.hook.id, m.source, m.event, m.purpose) for m in match(events[-1], hooks)]


@pytest.mark.parametrize(
    ("happened", "known"),
    [
        (CREATED, [("crud", "consumers"), ("crud", "consumers:create"), ("dao:crud", "create")]),
        (UPDATED, [("crud", "consumers"), ("crud", "consumers:update"), ("dao:crud", "update")]),
        (DELETED, [("crud", "consumers"), ("crud", "consumers:delete"), ("dao:crud", "delete")]),
        (EMITTED, [("balancer", "health")]),
        (fact("event_hook_sources/s/e", SourcePublished(source="s", event="e")), []),
        (fact("deliveries/h", DeliveryFailed(seq=1, reason="no", hook_version=0)), []),
    ],
)
def test_names(happened: Fact, known: list[tuple[str, str]]) -> None:
    """A change of an entity has three names, an emitted event one, everything else none."""
    (event,) = recorded([happened])

    assert list(names(event)) == known


@pytest.mark.parametrize("happened", [CREATED, EMITTED])
def test_names_outlive_the_body(happened: Fact) -> None:
    """Erasing what an event says leaves it clear whom it concerned."""
    whole, erased = recorded([happened, happened._replace(erased=True)])

    assert names(erased) == names(whole)


@pytest.mark.parametrize(
    ("fields", "happened", "known_as"),
    [
        ({"source": "crud", "event": "consumers"}, CREATED, ("crud", "consumers")),
        ({"source": "crud", "event": "consumers:create"}, CREATED, ("crud", "consumers:create")),
        ({"source": "crud", "event": "consumers:update"}, CREATED, None),
        ({"source": "crud", "event": "services"}, CREATED, None),
        ({"source": "crud", "event": "create"}, CREATED, None),
        ({"source": "crud", "event": None}, DELETED, ("crud", "consumers")),
        ({"source": "dao:crud", "event": "create"}, CREATED, ("dao:crud", "create")),
        ({"source": "dao:crud", "event": "create"}, UPDATED, None),
        ({"source": "dao:crud", "event": None}, UPDATED, ("dao:crud", "update")),
        ({"source": "balancer", "event": "health"}, EMITTED, ("balancer", "health")),
        ({"source": "balancer", "event": None}, EMITTED, ("balancer", "health")),
        ({"source": "balancer", "event": "sickness"}, EMITTED, None),
        ({"source": "health", "event": "balancer"}, EMITTED, None),
    ],
)
def test_a_hook_gets_an_event_once_under_the_name_it_knows(
    fields: dict[str, Any], happened: Fact, known_as: tuple[str, str] | None
) -> None:
    """Exact names match exactly; without `event`, the first name of the source is used."""
    expected = [] if known_as is None else [("h", *known_as, "")]

    assert matched(hook(**fields), happened) == expected


@pytest.mark.parametrize(
    ("workspace", "event_workspace", "seen"),
    [
        (DEFAULT_WORKSPACE, OTHER, True),
        (DEFAULT_WORKSPACE, DEFAULT_WORKSPACE, True),
        (OTHER, OTHER, True),
        (OTHER, DEFAULT_WORKSPACE, False),
    ],
)
def test_a_hook_sees_its_workspace(workspace: str, event_workspace: str, *, seen: bool) -> None:
    """A hook of the default workspace sees all of them, another one only its own."""
    subscribed = hook(workspace=workspace, source="balancer", event="health")
    found = matched(subscribed, EMITTED._replace(workspace=event_workspace))

    assert bool(found) is seen


@pytest.mark.parametrize(
    ("subscribed", "happened", "clause"),
    [
        (hook(source="balancer", event="health"), EMITTED, None),
        (
            hook(workspace=OTHER, source="balancer", event="health"),
            EMITTED,
            f"workspace: the hook sees only workspace {OTHER}",
        ),
        (hook(source="crud", event="health"), EMITTED, "source: the hook wants crud"),
        (hook(source="balancer", event="x"), EMITTED, "event: the hook wants x"),
        (
            hook(),
            fact("deliveries/h", DeliveryFailed(seq=1, reason="no", hook_version=0)),
            "deliveries and the log's own events match no hook",
        ),
    ],
)
def test_a_mismatch_names_its_clause(subscribed: Fact, happened: Fact, clause: str | None) -> None:
    """Whoever asks why a hook did not fire is told what does not fit."""
    hooks, (_, event) = story(subscribed, happened)
    version = hooks.current("h")

    assert version is not None
    assert mismatch(version, event) == clause
    assert (match_hook(event, hooks, "h") is None) == (clause is not None)


def test_a_hook_is_matched_as_of_the_event() -> None:
    """Later versions change nothing about earlier events, and neither does a deletion."""
    hooks, events = story(
        EMITTED,  # before there was a hook
        hook(source="balancer", event="health"),
        EMITTED,
        changed(source="balancer", event="sickness"),
        EMITTED,
        changed(source="balancer", event="health"),
        fact("event_hooks/h", EntityDeleted(entity=entity("h"))),
        EMITTED,
    )
    versions = [
        [m.hook.version for m in match(event, hooks)]
        for event in events
        if event.stream.startswith("emitted")
    ]

    assert versions == [[], [0], [], []]


def test_match_and_match_hook_agree() -> None:
    """Asking for one hook gives what asking for all gives."""
    hooks, events = story(
        hook("exact", source="crud", event="event_hooks:update"),
        hook("any", source="crud", event=None),
        hook("dao", source="dao:crud", event="update"),
        hook("h", handler="webhook", source="crud", event="event_hooks"),
        changed("h", handler="webhook", source="crud", event="event_hooks"),
        CREATED,
    )

    for event in events:
        one_by_one = [
            m
            for purpose in ("", PING)
            for hook_id in ("exact", "any", "dao", "h")
            if (m := match_hook(event, hooks, hook_id, purpose)) is not None
        ]
        assert sorted(map(repr, match(event, hooks))) == sorted(map(repr, one_by_one))


def test_a_webhook_is_pinged_when_it_is_made_or_changed() -> None:
    """The ping is a delivery of the hook's own event, to no other hook."""
    ping = ("h", PING_SOURCE, PING, PING)

    assert matched(hook(handler="webhook")) == [ping]
    assert matched(hook(handler="webhook"), changed(handler="webhook")) == [ping]
    assert matched(hook("other", handler="webhook"), hook(handler="webhook")) == [ping]


def test_other_handlers_are_not_pinged() -> None:
    """Only webhooks are, and not when they are deleted."""
    deleted = fact("event_hooks/h", EntityDeleted(entity=entity("h")))

    assert matched(hook(handler="log")) == []
    assert matched(hook(handler="webhook"), deleted) == []


def test_a_hook_sees_its_own_deletion() -> None:
    """As Kong's own crud event of a deleted hook does."""
    subscribed = hook(source="crud", event="event_hooks:delete")
    deleted = fact("event_hooks/h", EntityDeleted(entity=entity("h")))

    assert matched(subscribed, deleted) == [("h", "crud", "event_hooks:delete", "")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            EntityCreated(entity=ADA, secrets={"password": "s3"}),
            {"operation": "create", "schema": "consumers", "entity": ADA},
        ),
        (
            EntityUpdated(entity=ADA, old_entity={"id": "1"}),
            {
                "operation": "update",
                "schema": "consumers",
                "entity": ADA,
                "old_entity": {"id": "1"},
            },
        ),
        (
            EntityDeleted(entity=ADA),
            {"operation": "delete", "schema": "consumers", "entity": ADA | {"ws_id": OTHER}},
        ),
    ],
)
def test_the_payload_of_a_change(body: Event, expected: dict[str, Any]) -> None:
    """As Kong posts it, without secrets; only a deleted entity names its workspace."""
    (event,) = recorded([fact("consumers/1", body, workspace=OTHER)])

    assert payload(event) == expected


def test_the_payload_of_an_emitted_event() -> None:
    """Its data as they were emitted."""
    (event,) = recorded([EMITTED])

    assert payload(event) == {"ip": "10.0.0.1"}


def test_the_payload_of_a_ping() -> None:
    """The hook itself and the operation."""
    (event,) = recorded([hook(handler="webhook", config={"url": "http://localhost"})])
    sent = payload(event, PING)

    assert sent is not None
    assert sent["operation"] == "create"
    assert sent["event_hooks"]["id"] == "h"
    assert sent["event_hooks"]["config"]["url"] == "http://localhost"


@pytest.mark.parametrize("happened", [CREATED, EMITTED])
def test_an_erased_body_has_no_payload(happened: Fact) -> None:
    """There is nothing left to send."""
    (event,) = recorded([happened._replace(erased=True)])

    assert payload(event) is None


def test_a_payload_from_the_future_is_refused() -> None:
    """A newer program's event is not guessed at."""
    (event,) = recorded([EMITTED])

    with pytest.raises(UnknownEvent):
        payload(msgspec.structs.replace(event, schema_version=99))


QUEUED = RequestQueued(seq=1, method="POST", url="http://a/", headers={"a": "b"}, body="c")


def emitted_by(*hooks: str) -> Fact:
    """An event that the functions of these hooks led to."""
    event = fact("emitted/lambda/done", EventEmitted(data=msgspec.Raw(b"{}")))
    return event._replace(actor=f"event_hooks/{','.join(hooks)}")


def test_a_queued_request_concerns_its_hook_alone() -> None:
    """It is a delivery of its own, whatever the hook subscribes to."""
    request = fact("deliveries/h", QUEUED)

    assert matched(hook("h"), hook("other"), request) == [("h", "lambda", "request", REQUEST)]
    assert matched(hook("other"), request) == []


def test_a_queued_request_is_its_own_payload() -> None:
    """What the handler of requests is given."""
    (event,) = recorded([fact("deliveries/h", QUEUED)])

    assert purposes(event, "h") == (REQUEST,)
    assert payload(event, REQUEST) == {
        "method": "POST",
        "url": "http://a/",
        "headers": {"a": "b"},
        "body": "c",
    }


def test_a_hook_does_not_hear_itself() -> None:
    """Neither directly nor through others; those that had no part in it do hear it."""
    listening = {"source": "lambda", "event": "done"}
    hooks = [hook(name, **listening) for name in ("a", "b", "c")]
    registry, events = story(*hooks, emitted_by("a", "b"))

    assert [name for name, *_ in matched(*hooks, emitted_by("a", "b"))] == ["c"]
    assert match_hook(events[-1], registry, "a") is None
    assert match_hook(events[-1], registry, "c") is not None


def test_only_what_functions_emitted_has_emitters() -> None:
    """The actor of any other event says who wrote it, not which hooks led to it."""
    theirs, plain = recorded([emitted_by("a", "b"), EMITTED._replace(actor="event_hooks/a")])

    assert emitters(theirs) == ("a", "b")
    assert emitters(plain) == ()

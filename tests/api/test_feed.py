"""The public form of events whose body is gone."""

from typing import Any

import pytest
from msgspec import Raw

from api.feed import public, timestamp
from eventstore.events import (
    EntityCreated,
    Event,
    EventEmitted,
    HookPaused,
    RequestQueued,
    SourcePublished,
    TargetHealthSet,
)
from tests.spec import fact, recorded


@pytest.mark.parametrize(
    ("stream", "body", "left"),
    [
        (
            "emitted/app/paid",
            EventEmitted(data=Raw(b'{"a":1}'), id="x"),
            {"source": "app", "event": "paid", "data": None},
        ),
        (
            "consumers/1",
            EntityCreated(entity={"id": "1"}),
            {"table": "consumers", "operation": "create", "entity": None},
        ),
        (
            "event_hook_sources/app/paid",
            SourcePublished(source="app", event="paid"),
            {"source": "app", "event": "paid", "definition": None},
        ),
        (
            "target_health/t",
            TargetHealthSet(upstream="u", health={"a:1": "healthy"}),
            {"target": "t", "fact": None},
        ),
        ("deliveries/h", HookPaused(), {"hook": "h", "fact": None}),
    ],
)
def test_an_erased_event_keeps_its_names(stream: str, body: Event, left: dict[str, Any]) -> None:
    """Who, when and what kind outlive the erasure; the content is null and said to be erased."""
    (event,) = recorded([fact(stream, body, erased=True)])
    shown = public(event)

    assert shown.items() >= left.items()
    assert shown["erased"] is True
    assert "caller_id" not in shown


def test_times_are_exact() -> None:
    """Microseconds since the epoch, in UTC, without rounding."""
    assert timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert timestamp(1_795_265_069_355_882) == "2026-11-21T12:44:29.355882Z"


def test_headers_of_queued_requests_are_not_shown() -> None:
    """They may hold the token of a receiver."""
    queued = RequestQueued(seq=1, method="GET", url="http://a/", headers={"x-key": "secret"})
    (event,) = recorded([fact("deliveries/h", queued)])

    assert public(event)["fact"] == RequestQueued(seq=1, method="GET", url="http://a/")

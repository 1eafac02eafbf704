"""From a gateway's report of a request to events."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from api.bodies import DECODE_ERRORS
from api.kong_log import FACTS, Record, Unusable, events, read
from api.responses import RequestError
from api.settings import Settings
from tests.api.kong_records import (
    CONSUMER,
    MINUTE,
    REQUEST_ID,
    ROUTE,
    SECRETS,
    SERVICE,
    answered,
    failed,
    limited,
    record,
)

DEFAULTS = Settings().ingest_events
LOG = ("http-log/log",)
LIMITS = ("rate-limiting-advanced/rate-limit-exceeded",)
HEALTH = ("balancer/health",)


def found(body: dict[str, Any], wanted: Collection[str] = DEFAULTS) -> list[dict[str, Any]]:
    """The events of one record, with their stream and the id they are known by."""
    parsed = read(msgspec.json.encode(body))[""]
    assert isinstance(parsed, Record)
    made = events(parsed, wanted, "w")
    return [{"stream": each.stream, **msgspec.json.decode(each.body)} for each in made]


def data(body: dict[str, Any], wanted: Collection[str] = DEFAULTS) -> list[dict[str, Any]]:
    return [event["data"] for event in found(body, wanted)]


def test_the_catalogue_of_facts_is_what_can_be_switched_on() -> None:
    """The setting's words are exactly the known types."""
    assert set(DEFAULTS) | {"http-log/log"} == set(FACTS)


def test_a_request_that_went_well_is_no_event() -> None:
    """By default only limits and failures are stored."""
    assert found(record()) == []


def test_every_request_may_be_one() -> None:
    """The fields of Kong's example, whole entities, under the gateway's own id."""
    (event,) = found(record(consumer=CONSUMER), LOG)

    assert event == {
        "stream": "emitted/http-log/log",
        "id": REQUEST_ID,
        "data": {"consumer": CONSUMER, "ip": "192.168.65.1", "service": SERVICE, "route": ROUTE},
    }


@pytest.mark.parametrize("empty", [None, {}, []])
def test_what_is_not_known_is_an_empty_record(empty: object) -> None:
    """As Kong does it, so that templates find something to look into."""
    request = record(consumer=empty, service=empty, route=empty)
    (event,) = data(request, LOG)

    assert event == {"consumer": {}, "ip": "192.168.65.1", "service": {}, "route": {}}


def test_a_stream_session_is_a_request_too() -> None:
    """Reports of TCP and TLS have no request and no response."""
    session = {"session": {"sent": 1}, "client_ip": "10.0.0.1", "service": {"name": "s"}}
    (event,) = found(session | {"tries": [failed("10.0.0.5", 9000)]}, HEALTH)

    assert event["data"] == {"ip": "10.0.0.5", "port": 9000, "health": "unhealthy"}
    assert "id" not in event


def test_no_secret_is_kept() -> None:
    """Neither headers, nor cookies, nor the query, whatever is switched on."""
    requests = [record(tries=[failed("10.0.0.5", 80)]), limited(MINUTE, consumer=CONSUMER)]
    kept = msgspec.json.encode([found(each, tuple(FACTS)) for each in requests]).decode()

    assert "rate-limit-exceeded" in kept
    assert [secret for secret in SECRETS if secret in kept] == []


def test_a_limit_exceeded() -> None:
    """The fields of Kong's plugin; an anonymous consumer is an empty record."""
    (event,) = found(limited(MINUTE))

    assert event == {
        "stream": "emitted/rate-limiting-advanced/rate-limit-exceeded",
        "id": REQUEST_ID,
        "data": {
            "consumer": {},
            "ip": "192.168.65.1",
            "service": SERVICE,
            "rate": 4,
            "limit": 3,
            "window": "minute",
        },
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"X-RateLimit-Limit-Minute": 3, "X-RateLimit-Remaining-Minute": 0},
            {"rate": 4, "limit": 3, "window": "minute"},
        ),
        (
            {
                "x-ratelimit-limit-minute": "3",
                "x-ratelimit-remaining-minute": "0",
                "x-ratelimit-limit-hour": "100",
                "x-ratelimit-remaining-hour": "97",
            },
            {"rate": 4, "limit": 3, "window": "minute"},
        ),
        (
            {
                "x-ratelimit-limit-second": "1",
                "x-ratelimit-remaining-second": "0",
                "x-ratelimit-limit-hour": "100",
                "x-ratelimit-remaining-hour": "0",
            },
            {"rate": 101, "limit": 100, "window": "hour"},
        ),
        ({"x-ratelimit-limit-30": "5"}, {"rate": 6, "limit": 5, "window": "30"}),
        (
            {"x-ratelimit-limit-videos-day": "7", "x-ratelimit-remaining-videos-day": ["0"]},
            {"rate": 8, "limit": 7, "window": "day"},
        ),
        ({"ratelimit-limit": "5", "ratelimit-remaining": "0"}, {"rate": 6, "limit": 5}),
        ({"x-ratelimit-limit": "5"}, {"rate": 6, "limit": 5}),
    ],
)
def test_the_limit_that_was_hit(headers: dict[str, Any], expected: dict[str, Any]) -> None:
    """The one with the least left, then the longest window; without a window none is named."""
    (event,) = data(limited(headers))

    assert {name: event.get(name) for name in expected} == expected
    assert ("window" in event) == ("window" in expected)


@pytest.mark.parametrize(
    "request_",
    [
        limited({"retry-after": "3"}),
        limited({"ratelimit-limit": "many"}),
        limited({"x-ratelimit-limit-minute": []}),
        limited(MINUTE, response={"status": 429, "headers": []}),
        limited(MINUTE, response={"status": 403, "headers": MINUTE}),
        limited(MINUTE, response={}),
        limited(MINUTE, response=None),
        limited(MINUTE, upstream_status="429"),
        limited(MINUTE, upstream_status="502, 429"),
    ],
)
def test_not_every_refusal_is_a_limit(request_: dict[str, Any]) -> None:
    """Other answers, no limit told, or an upstream that has limits of its own."""
    assert data(request_, LIMITS) == []


def test_failed_tries() -> None:
    """Each address once, though it was tried twice; the one that answered is not mentioned."""
    tries = [failed("10.0.0.5", 80), failed("10.0.0.5", 80, 504), failed("10.0.0.6", 80)]
    made = found(record(tries=[*tries, answered("10.0.0.7", 80)]))

    assert [event["id"] for event in made] == [f"{REQUEST_ID}:1", f"{REQUEST_ID}:3"]
    assert {event["stream"] for event in made} == {"emitted/balancer/health"}
    assert made[0]["data"] == {
        "ip": "10.0.0.5",
        "port": 80,
        "hostname": "httpbin.konghq.com",
        "health": "unhealthy",
    }


@pytest.mark.parametrize(
    "tries", [{}, [], None, [{}], [{"state": "failed"}], [{"state": "next", "ip": "x", "port": 1}]]
)
def test_no_try_failed(tries: object) -> None:
    """An empty table, an unknown address, or a server that answered with something bad."""
    assert data(record(tries=tries), HEALTH) == []


def test_a_report_without_an_id_can_only_be_counted() -> None:
    """Two requests may look the same: without an id none of them may get lost."""
    (event,) = found(record(None), LOG)

    assert "id" not in event


@pytest.mark.parametrize("id_", ["", "a b", "a\0b", "x" * 201])
def test_an_impossible_id_is_refused(id_: str) -> None:
    """It would not be safe to look for it."""
    with pytest.raises(Unusable):
        found(record(id_), LOG)


@pytest.mark.parametrize("consumer", [5, "Ada", [1], {"a": [[[]]]}])
def test_entities_are_records(consumer: object) -> None:
    """Anything else is refused, and so is what is nested without end."""
    deep: Any = consumer
    for _ in range(70 if isinstance(consumer, dict) else 0):
        deep = {"a": deep}
    with pytest.raises(Unusable):
        found(record(consumer=deep), LOG)


def test_good_and_bad_are_told_apart() -> None:
    """Each record of an array by its place; what is wrong is said without the value."""
    records = read(msgspec.json.encode([record(), 5, record(client_ip=7), record()]))

    assert [isinstance(each, Record) for each in records.values()] == [True, False, False, True]
    assert records["[1]"] == "Expected `object`, got `int`"
    assert records["[2]"] == "Expected `str | null`, got `int` - at `$.client_ip`"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.dictionaries(st.sampled_from(sorted(limited(MINUTE))), _JSON)


@given(st.binary(max_size=300) | _FIELDS.map(lambda f: msgspec.json.encode(limited(MINUTE) | f)))
def test_hostile_bodies_are_refused_or_read(body: bytes) -> None:
    """No body whatsoever, and no value in any place, is an unexpected error."""
    try:
        for each in read(body).values():
            if isinstance(each, Record):
                events(each, tuple(FACTS), "w")
    except (RequestError, *DECODE_ERRORS):
        return

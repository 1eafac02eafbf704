"""What operators and machines ask."""

from typing import NamedTuple

import pytest

from api.status import About, Status
from tests.api.admin_api import Api, Deliveries, Jail

HEALTH = {"source": "balancer", "event": "health", "data": {}}


async def test_the_root_introduces_the_service(api: Api) -> None:
    """Tools read the version from here."""
    shown = (await api.client.get("/")).json()

    assert shown["tagline"] == "Welcome to hooktape"
    assert (shown["version"], shown["hostname"]) == ("1.2.3", "here")
    assert shown["node_id"] == api.log.log_id
    assert shown["configuration"] == {"data_dir": "x"}


async def test_the_status_speaks_of_log_and_deliveries(api: Api) -> None:
    """Kong's keys first, then ours."""
    await api.client.post("/events", json=HEALTH)
    shown = (await api.client.get("/status")).json()

    assert shown["database"] == {"reachable": True}
    assert shown["server"]["total_requests"] == 1
    assert shown["memory"]["peak_resident_bytes"] > 1_000_000
    assert shown["delivery"] == {"in_flight": 3}
    assert shown["audit"] == {"size": 0, "problem": None}
    assert shown["jail"] == Jail().state()
    assert shown["log"] == {
        "log_id": api.log.log_id,
        "first": 1,
        "head": 1,
        "config_head": 0,
        "failure": None,
        "durable": "fsync on commit",
        "sqlite_version": "3",
    }


async def test_a_healthy_service_is_ready(api: Api) -> None:
    """Live and ready."""
    assert (await api.client.get("/health/live")).json() == {"status": "live"}
    assert (await api.client.get("/health/ready")).json() == {"status": "ready"}


class Levels(NamedTuple):
    """A log, a registry and an audit in one, as bad as needed."""

    log_id: str = "id"
    first: int = 1
    head: int = 7
    config_head: int = 5
    failure: str | None = None
    position: int = 5
    size: int = 7
    problem: str | None = None


def status(levels: Levels, *faults: str) -> Status:
    about = About(version="1", node_id="n", hostname="h", configuration={}, sqlite_version="3")
    deliveries = Deliveries()
    deliveries.faults = list(faults)
    return Status(levels, about, levels, deliveries, Jail(), levels)


@pytest.mark.parametrize(
    ("levels", "faults", "reasons"),
    [
        (Levels(), [], []),
        (Levels(failure="disk on fire"), [], ["log: disk on fire"]),
        (Levels(position=3), [], ["registry: 2 positions behind the log"]),
        (Levels(), ["the consumer crashed"], ["delivery: the consumer crashed"]),
        (Levels(failure="a"), ["b", "c"], ["log: a", "delivery: b", "delivery: c"]),
    ],
)
def test_each_impairment_is_a_reason(levels: Levels, faults: list[str], reasons: list[str]) -> None:
    """Writes that fail, configuration not yet in force, deliveries that stand still."""
    impaired = status(levels, *faults)

    assert impaired.impairments() == reasons
    assert impaired.levels()["ready"] == (not reasons)


async def test_an_impaired_service_is_alive_but_not_ready(api: Api) -> None:
    """503 takes it out of rotation; a restart would not help."""
    api.deliveries.faults = ["the consumer crashed"]
    ready, live = await api.client.get("/health/ready"), await api.client.get("/health/live")

    assert (ready.status_code, live.status_code) == (503, 200)
    assert ready.json() == {"status": "not ready", "reasons": ["delivery: the consumer crashed"]}


async def test_metrics_count_requests_by_route(api: Api) -> None:
    """Templates of paths, known methods, statuses, and the levels of the moment."""
    await api.client.post("/events", json=HEALTH)
    await api.client.get("/events/1")
    await api.client.request("BREW", "/nothing")
    response = await api.client.get("/metrics")
    lines = response.text.splitlines()

    assert response.headers["content-type"].startswith("text/plain; version=")
    for line in (
        'hooktape_http_requests_total{method="POST",path="/events",status="202"} 1.0',
        'hooktape_http_requests_total{method="GET",path="/events/{id}",status="200"} 1.0',
        'hooktape_http_requests_total{method="other",path="unrouted",status="404"} 1.0',
        'hooktape_http_request_seconds_bucket{le="+Inf",method="POST",path="/events"} 1.0',
        'hooktape_http_request_seconds_count{method="POST",path="/events"} 1.0',
        "hooktape_log_head 1.0",
        "hooktape_log_writable 1.0",
        "hooktape_delivery_in_flight 3.0",
        "hooktape_ready 1.0",
    ):
        assert line in lines


async def test_metrics_speak_openmetrics_when_asked(api: Api) -> None:
    """The format follows the Accept header."""
    accept = "application/openmetrics-text; version=1.0.0"
    response = await api.client.get("/metrics", headers={"accept": accept})

    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")

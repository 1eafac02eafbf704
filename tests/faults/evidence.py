"""What the log file and the receiver say about a campaign, read without any code of the service."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.checks import Arrival, Stored
from tests.receiver import Received

EVERYTHING, SOME, PEOPLE = "/everything", "/some", "/people"
REFUSING, FAILING_FIRST = "/status/400", "/second-try"
HOOKS: dict[str, dict[str, Any]] = {
    EVERYTHING: {"source": "team", "handler": "webhook"},
    SOME: {"source": "team", "event": "a", "handler": "webhook"},
    PEOPLE: {"source": "crud", "event": "consumers:create", "handler": "webhook"},
    REFUSING: {"source": "team", "event": "b", "handler": "webhook"},
    FAILING_FIRST: {"source": "team", "event": "a", "handler": "webhook"},
}
"""By the path of their receiver."""

MARK = "/killed"
"""Where the receiver is told, twice, that a run of the service is over."""


def integrity(path: Path) -> str:
    """What SQLite says about a file."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def read_stored(path: Path) -> list[Stored]:
    """Every event of the log in order, read without any code of the service."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT seq, stream, version, type, body FROM event ORDER BY seq"
        ).fetchall()
    finally:
        connection.close()
    return [
        Stored(seq, stream, version, _name(type_, body))
        for seq, stream, version, type_, body in rows
    ]


def _name(type_: str, body: bytes) -> str | None:
    content = msgspec.json.decode(body)
    if type_ == "event_emitted":
        return str(content["id"])
    name = content["entity"].get("username") if type_ == "entity_created" else None
    return None if name is None else str(name)


def read_arrivals(requests: Sequence[Received]) -> Iterator[Arrival]:
    """What the receiver saw, but for the pings of new hooks."""
    marks = 0
    for request in requests:
        if request.path == MARK:
            marks += 1
            continue
        body = msgspec.json.decode(request.body)
        if body["event"] != "ping":
            name = body["name"] if "name" in body else body["entity"]["username"]
            delivery = request.header("webhook-id") or ""
            yield Arrival(request.path, name, delivery, run=marks // 2)


def on_healthy_hooks(arrivals: Iterable[Arrival]) -> list[Arrival]:
    """The arrivals that only a crash repeats."""
    return [arrival for arrival in arrivals if arrival.hook != FAILING_FIRST]


def wanted(stored: Sequence[Stored]) -> dict[str, set[str]]:
    """What each hook has to get of what is stored."""
    streams = {
        EVERYTHING: ("emitted/team/a", "emitted/team/b"),
        SOME: ("emitted/team/a",),
        FAILING_FIRST: ("emitted/team/a",),
        REFUSING: ("emitted/team/b",),
        PEOPLE: ("consumers/",),
    }
    return {
        hook: {event.name for event in stored if event.name and event.stream.startswith(prefixes)}
        for hook, prefixes in streams.items()
    }

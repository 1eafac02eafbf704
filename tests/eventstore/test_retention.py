"""How much may go, by age, size and kind."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from eventstore import EventLog, LogOptions
from eventstore.retention import Policy, floor, weight
from tests.eventstore.samples import created, emitted, failed, of

SECOND = 1_000_000
NOW = 100 * SECOND
"""Ten events are stored at 10, 20, ... 100 seconds: five emitted, a fact, three emitted, config."""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    directory = tmp_path_factory.mktemp("log")
    anyio.run(_fill, directory)
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        yield connection


async def _fill(directory: Path) -> None:
    seconds = count(10, 10)
    options = LogOptions(clock=lambda: next(seconds) * SECOND)
    async with EventLog.open(directory, options=options) as log:
        for event in [*[emitted()] * 5, failed(), *[emitted(b"x" * 1000)] * 3, created()]:
            await log.append(of(event))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, 1),
        ({"before": 4}, 4),
        ({"before": 400}, 11),
        ({"older_than": 0}, 10),
        ({"older_than": 45}, 6),
        ({"older_than": 50}, 5),
        ({"older_than": 1000}, 1),
        ({"max_events": 3}, 8),
        ({"max_events": 0}, 11),
        ({"max_events": 30}, 1),
        ({"max_bytes": 0}, 11),
        ({"max_bytes": 10**9}, 1),
        # Any reason is enough.
        ({"older_than": 45, "max_events": 3}, 8),
        # What is kept is stronger, and all that follows stays with it.
        ({"max_events": 0, "keep": {"delivery": 1000}}, 6),
        ({"max_events": 0, "keep": {"delivery": 35}}, 11),
        ({"max_events": 0, "keep": {"emitted": 35}}, 7),
        ({"max_events": 0, "keep": {"emitted": 35, "config": 1000}}, 7),
        ({"max_events": 0, "keep": {"config": 1000}}, 10),
        ({"max_events": 0, "keep": {"system": 1000}}, 11),
        ({"before": 3, "keep": {"config": 1000}}, 3),
    ],
)
def test_the_floor(connection: sqlite3.Connection, policy: dict[str, Any], expected: int) -> None:
    """The first position that must stay."""
    assert floor(connection, Policy(**policy), NOW) == expected


def test_what_is_left_weighs_no_more(connection: sqlite3.Connection) -> None:
    """By bodies and columns, about: to a page of positions exactly, as the oldest go first."""
    most = weight(connection, 1, 11) - 1

    assert floor(connection, Policy(max_bytes=most), NOW) > 1
    assert weight(connection, 7, 10) > 3000


def test_an_empty_log_has_nothing_to_give(directory: Path) -> None:
    """Whatever is asked for."""
    anyio.run(_open, directory)
    with closing(sqlite3.connect(directory / "log.db")) as connection:
        assert floor(connection, Policy(max_events=0, before=7), NOW) == 1


async def _open(directory: Path) -> None:
    async with EventLog.open(directory):
        pass


def test_an_unknown_kind_is_refused() -> None:
    """A misspelt one would keep nothing."""
    with pytest.raises(ValueError, match="emited"):
        Policy(keep={"emited": 5})

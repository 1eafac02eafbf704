"""Who changed what, when, and from where."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from eventstore.audit_source import reading_from
from eventstore.changes import Change, changes
from eventstore.selection import Selection
from tests.eventstore.audited import CONSUMERS, HOOK, OTHER, SECRET, log_with_everything


@pytest.fixture
def found(directory: Path) -> list[Change]:
    return list(read(log_with_everything(directory)))


def read(directory: Path, selection: Selection | None = None) -> Iterator[Change]:
    with reading_from(directory) as source:
        yield from changes(source.log, selection or Selection())


def test_changes_and_orders_are_told(found: list[Change]) -> None:
    """By position; what was emitted or delivered is no change."""
    assert [(each.position, each.action, each.what) for each in found] == [
        (1, "entity_created", f"event_hooks/{HOOK}"),
        (2, "entity_created", CONSUMERS),
        (7, "entity_updated", f"event_hooks/{HOOK}"),
        (8, "entity_deleted", CONSUMERS),
        (9, "hook_paused", f"deliveries/{HOOK}"),
    ]


def test_it_is_told_who_and_from_where(found: list[Change]) -> None:
    """Actor, request, workspace, and the log's own time."""
    assert [(each.actor, each.request_id, each.workspace) for each in found] == [
        ("root", "req-1", "one"),
        ("root", "req-1", "one"),
        ("ops", "req-2", "one"),
        ("ops", "req-2", "one"),
        ("ops", "req-2", "one"),
    ]
    times = [each.time for each in found]
    assert times == sorted(times)
    assert times[0].tzinfo is not None


def test_it_is_told_what_changed(found: list[Change]) -> None:
    """Field by field: what was there, and what is there now."""
    created, consumer, updated, deleted, paused = found

    assert created.fields == {
        "config.url": (None, "http://x/"),
        "id": (None, HOOK),
        "source": (None, "shop"),
    }
    assert updated.fields == {"config.url": ("http://x/", "http://y/")}
    assert consumer.fields == {"id": (None, OTHER), "username": (None, "ada")}
    assert deleted.fields == {"id": (OTHER, None), "username": ("ada", None)}
    assert paused.fields == {}


def test_secrets_are_named_and_not_shown(found: list[Change]) -> None:
    """Nowhere in the report."""
    assert [each.secrets for each in found[:3]] == [["config.secret"], [], ["config.secret"]]
    assert SECRET.encode() not in msgspec.json.encode(found)


def test_filters_apply(directory: Path) -> None:
    """The same ones as for exports."""
    log_with_everything(directory)
    by_ops = [each.position for each in read(directory, Selection(actor="ops", last=8))]
    of_hook = [each.position for each in read(directory, Selection(hook=HOOK, first=2))]

    assert by_ops == [7, 8]
    assert of_hook == [7, 9]


def test_an_erased_change_is_still_told(directory: Path) -> None:
    """That it was, by whom and when; not what it said."""
    log_with_everything(directory)
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute("UPDATE event SET salt = NULL, body = NULL WHERE seq = 2")
    (erased,) = read(directory, Selection(first=2, last=2))

    assert (erased.actor, erased.fields, erased.secrets) == ("root", None, [])

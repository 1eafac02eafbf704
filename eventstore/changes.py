"""Who changed what, when, and from where: the log's changes as people read them.

Changes are those of the configuration, orders given to deliveries (pause, resume, resend), and what
the log says about itself. Secrets are named, never shown. "From where" is the id of the request;
the service's own log has the rest of it under that id.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from eventstore import evidence
from eventstore.records import Kind
from eventstore.segment import Line
from eventstore.selection import Selection

_ORDERS = ("hook_paused", "hook_resumed", "delivery_resent")
_SILENT = "snapshot_part"
_CHANGES = (
    f"(kind = {int(Kind.CONFIG)} OR (kind = {int(Kind.SYSTEM)} AND type <> '{_SILENT}')"
    f" OR (kind = {int(Kind.DELIVERY)} AND type IN {_ORDERS}))"
)
_ABSENT = object()


class Change(msgspec.Struct, frozen=True):
    """`fields` maps a dotted path to what was there and what is there now, None for nothing.

    It is None where the body was erased. `secrets` names those the entity has.
    """

    position: int
    time: datetime
    workspace: str
    actor: str | None
    request_id: str | None
    action: str  #: the type of the event
    what: str  #: the stream, e.g. `consumers/<id>`
    fields: dict[str, tuple[Any, Any]] | None
    secrets: list[str]


def changes(log: sqlite3.Connection, selection: Selection) -> Iterator[Change]:
    """The changes among the events selected, by position. Raises LogDamaged."""
    where, values = selection.where()
    where = f"{_CHANGES} AND {where}" if where else _CHANGES
    after, last = (selection.first or 1) - 1, selection.last or 2**63 - 1
    while page := evidence.matching(log, after, last, where, values):
        for each in page:
            yield _change(each.line)
        after = page[-1].line.seq


def _change(line: Line) -> Change:
    seq, stream, _, _, action, _, _, time_us, _, workspace, actor, request_id, _ = line.columns
    body = None if line.body is None else msgspec.json.decode(line.body, type=dict[str, Any])
    return Change(
        position=seq,
        time=datetime.fromtimestamp(time_us / 1_000_000, UTC),
        workspace=workspace,
        actor=actor,
        request_id=request_id,
        action=action,
        what=stream,
        fields=None if body is None else _fields(action, body),
        secrets=sorted((body or {}).get("secrets", ())),
    )


def _fields(action: str, body: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    new = dict(_flat(body.get("entity", {} if "old_entity" in body else body)))
    old = dict(_flat(body.get("old_entity", {})))
    if action == "entity_deleted":
        old, new = new, old
    return {
        path: (old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path, _ABSENT) != new.get(path, _ABSENT)
    }


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested objects by their dotted paths; arrays are leaves."""
    if isinstance(value, dict) and (value or not path):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value

"""Which events of the log, which tables and which hooks a request may be shown. Pure."""

from typing import Any, Final

from api.permissions import action_of
from eventstore.events import DELIVERIES_PREFIX, EMITTED_PREFIX, HEALTH_PREFIX, SOURCES_PREFIX
from eventstore.records import RecordedEvent
from projections.tables import TABLES, Table

_READ: Final = action_of("GET")


def sees_event(scope: Any, event: RecordedEvent) -> bool:
    """Whether the sender of a request may be shown an event.

    A path with a workspace is about that one alone, a plain path about all. With RBAC enforced the
    sender also needs the right to read, in the event's own workspace, what the event is about.
    """
    state = scope["state"]
    if state["prefix"] and event.workspace != state["workspace"]:
        return False
    principal = state.get("principal")
    if principal is None:
        return True
    return bool(principal.may(_READ, _path(event) or scope["path"], event.workspace))


def sees_table(scope: Any, table: Table) -> bool:
    """Whether the sender may list the entities of a table, in the workspace of the path."""
    state = scope["state"]
    principal = state.get("principal")
    return principal is None or bool(principal.may(_READ, f"/{table.path}", state["workspace"]))


def sees_all_hooks(scope: Any) -> bool:
    """Whether the sender may learn of hooks outside of the workspace of the path."""
    principal = scope["state"].get("principal")
    return principal is None or bool(principal.permissions.allow_everywhere(scope["path"], _READ))


def _path(event: RecordedEvent) -> str | None:
    """Where one could read what an event is about; None where only the log tells of it."""
    table, _, identity = event.stream.partition("/")
    if table in TABLES:
        return f"/{TABLES[table].path}/{identity}"
    if event.stream.startswith(DELIVERIES_PREFIX):
        return f"/event-hooks/{identity}/deliveries"
    if event.stream.startswith(SOURCES_PREFIX):
        return "/event-hooks/sources"
    if event.stream.startswith(HEALTH_PREFIX):
        return "/upstreams"
    return None if event.stream.startswith(EMITTED_PREFIX) else "/status"

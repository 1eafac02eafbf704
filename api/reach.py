"""Whether a request stays in the workspace of its path, or reaches beyond. Pure.

A permission for one workspace is enough for what stays within. What reaches beyond needs one for
all workspaces, for it shows or changes something that all of them share:

- entities that belong to no workspace, the node itself, and whatever is not named here;
- publishing a source, for there is one catalogue;
- in the default workspace: users, roles and admins, whose permissions may be for any workspace, and
  all of a hook but reading its definition, for such a hook sees the events of all workspaces.
"""

from typing import Final

from api.permissions import Segments
from projections.tables import DEFAULT_WORKSPACE, TABLES

_OWN: Final = frozenset(
    {
        "docs",
        "endpoints",
        "event-hooks",
        "events",
        "ingest",
        "openapi.json",
        "schemas",
        "tags",
        *(table.path.partition("/")[0] for table in TABLES.values() if table.scoped),
    }
)
_SHARED: Final = frozenset(table.path for table in TABLES.values() if not table.scoped)
_RULING: Final = ("admins", "rbac")


def beyond(workspace: str | None, path: Segments, action: str) -> bool:
    """Whether the action at `path` concerns other workspaces too. `path` has no workspace."""
    root, *more = path
    if root not in _OWN or not _SHARED.isdisjoint(more[1:2]):
        return True
    if root == "event-hooks" and more[:1] == ["sources"]:
        return action != "read"
    if workspace != DEFAULT_WORKSPACE:
        return False
    if root == "event-hooks":
        return action != "read" or len(more) > 1
    return root in _RULING

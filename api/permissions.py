"""What a role may do: permissions on endpoints, and the decision that they come to. Pure.

Kong's order of precedence: the endpoint in this workspace, the endpoint in any workspace, any
endpoint in this workspace, any endpoint in any workspace. The first of them that says something
about the action decides; where nothing does, the answer is no. Within one of them a path without
wildcards wins over one with them, fewer wildcards over more, and at last a denial over a grant.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

ANY: Final = "*"
"""Any endpoint, any workspace; as a segment of a path any one segment."""

_DEPTH: Final = 6
_ACTIONS: Final = {
    "GET": "read",
    "HEAD": "read",
    "OPTIONS": "read",
    "POST": "create",
    "DELETE": "delete",
}

Segments = tuple[str, ...]


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """What a role may do at an endpoint, or with `negative` must not.

    `workspace` is an id or `*`, `endpoint` is `*` or a path without workspace.
    """

    workspace: str
    endpoint: str
    actions: frozenset[str]
    negative: bool = False

    @classmethod
    def of(cls, entity: dict[str, Any]) -> "Permission":
        """From an entity of `rbac_role_endpoints`. One whose body was erased permits nothing."""
        return cls(
            workspace=entity.get("workspace", ""),
            endpoint=entity.get("endpoint", ""),
            actions=frozenset(entity.get("actions", ())),
            negative=entity.get("negative", False),
        )


class _Rule(msgspec.Struct, frozen=True):
    """A permission, ready to be held against requests. `pattern` None stands for any endpoint."""

    permission: Permission
    pattern: Segments | None

    def fits(self, path: Segments, action: str) -> bool:
        """Whether the rule says something about the action there, in some workspace."""
        if action not in self.permission.actions:
            return False
        pattern = self.pattern
        return pattern is None or (
            len(pattern) == len(path)
            and all(want in (ANY, given) for want, given in zip(pattern, path, strict=True))
        )


class Permissions:
    """All permissions of a user, whichever roles they come from."""

    def __init__(self, permissions: Iterable[Permission]) -> None:
        rules = [_Rule(each, _pattern(each.endpoint)) for each in permissions]
        self._rules = sorted(rules, key=_precedence)

    def allow(self, workspace: str | None, path: str, action: str) -> bool:
        """Whether the action is permitted at `path` in a workspace, given by its id.

        None is a workspace that nobody names: only permissions for any workspace are about it.
        """
        return self._decision((ANY, workspace), segments(path), action)

    def allow_everywhere(self, path: str, action: str) -> bool:
        """Whether it is permitted for all workspaces at once, present and future ones."""
        where = segments(path)
        return self._decision((ANY,), where, action) and not any(
            rule.permission.negative and rule.permission.workspace != ANY
            for rule in self._rules
            if rule.fits(where, action)
        )

    def _decision(self, workspaces: tuple[str | None, ...], path: Segments, action: str) -> bool:
        for rule in self._rules:
            if rule.permission.workspace in workspaces and rule.fits(path, action):
                return not rule.permission.negative
        return False


def action_of(method: str) -> str:
    """Kong's word for what a method does. What is not known counts as a change."""
    return _ACTIONS.get(method, "update")


def segments(path: str) -> Segments:
    """The parts between slashes. What follows the sixth slash belongs to the sixth part.

    So `/rbac/*/*/*/*/*` covers `/rbac/roles/r/endpoints/w/consumers/ada`, which names an endpoint
    in its last part.
    """
    return tuple(path.removeprefix("/").split("/", _DEPTH - 1))


def _pattern(endpoint: str) -> Segments | None:
    return None if endpoint == ANY else segments(endpoint)


def _precedence(rule: _Rule) -> tuple[bool, bool, int, bool]:
    pattern, permission = rule.pattern, rule.permission
    return (
        pattern is None,
        permission.workspace == ANY,
        0 if pattern is None else pattern.count(ANY),
        not permission.negative,
    )

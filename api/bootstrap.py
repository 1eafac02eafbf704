"""The first super-admin, without whom nobody could let anybody in.

With RBAC enforced and no user in the role, a start makes one: `super-admin`, with the token of the
setting `admin_token`, or with a random one that is printed. That happens once: later the setting
changes nothing, and the token is changed like any other, `PATCH /rbac/users/super-admin`. Whoever
has lost it starts once with RBAC off and sets another, or deletes the user.
"""

import logging
import secrets
import sys
from typing import Final

from api.admin import Admin, Circumstances
from api.authentication import Principals
from api.commands import Decision, Request, decide_upsert
from api.rbac import link
from api.submission import made_up
from projections.built_in import SUPER_ADMIN
from projections.entities import Entities
from projections.tables import DEFAULT_WORKSPACE, TABLES

NAME: Final = "super-admin"
"""Kong puts a user of this name into the role of this name."""

_PRINTED: Final = """\
hooktape: RBAC is enforced. The token of the first super-admin, shown now and never again:
hooktape: {token}
hooktape: Send it as Kong-Admin-Token.
"""

_logger = logging.getLogger("hooktape.api")


async def first_super_admin(admin: Admin, given: str) -> None:
    """Make the first super-admin, unless there is one. `given` is the setting.

    A random token is printed to the standard error before anything is stored, and is no part of the
    log's records: should storing it fail, the next start prints another one.
    """
    if _exists(admin.view):
        if given and Principals(admin.view, admin.digest).find(given) is None:
            _logger.warning("admin_token is not used: there is a super-admin, with another token")
        return
    token = given or secrets.token_urlsafe(24)
    if not given:
        sys.stderr.write(_PRINTED.format(token=token))
        sys.stderr.flush()
    request = Request(
        table=TABLES["rbac_users"],
        workspace=DEFAULT_WORKSPACE,
        args={"user_token": token, "comment": "the first super-admin"},
        origin=made_up(admin),
        digest=admin.digest,
    )
    await admin.store(
        lambda: _decide(admin.view, request), Circumstances(workspace=DEFAULT_WORKSPACE)
    )
    _logger.info("the user %s was made, in the role super-admin", NAME)


def _exists(view: Entities) -> bool:
    return bool(view.children("rbac_user_roles", "role", SUPER_ADMIN))


def _decide(view: Entities, request: Request) -> Decision:
    """A user of the name, in whatever roles, is taken over."""
    if _exists(view):
        return Decision((), None)
    decision = decide_upsert(view, request, NAME)
    role = view.get("rbac_roles", SUPER_ADMIN)
    assert role is not None  # noqa: S101 - a default role cannot be deleted
    assert decision.entity is not None  # noqa: S101 - what was put is there
    given = link(decision.entity["id"], role, request.origin)
    return Decision((*decision.events, given), decision.entity)

"""Stops hooks whose code has to be killed again and again."""

from typing import Final

from projections.hooks import Hook

from .jail.ran import Ran
from .outcome import Outcome

KILLS: Final = 5
"""So many in a row suspend the hook: each may have cost a worker its whole time limit."""


class Breaker:
    """Counts kills per hook. The count is in memory: a restart gives every hook another chance."""

    def __init__(self) -> None:
        self._kills: dict[str, int] = {}

    def failure(self, hook: Hook, ran: Ran) -> Outcome | None:
        """What a call of the hook's code comes to if it failed; None after success."""
        if not ran.killed:
            self._kills.pop(hook.id, None)
            return None if ran.error is None else Outcome(ok=False, reason=ran.error)
        kills = self._kills[hook.id] = self._kills.get(hook.id, 0) + 1
        if kills < KILLS:
            return Outcome(ok=False, reason=ran.error)
        del self._kills[hook.id]
        reason = f"its code had to be killed {KILLS} times in a row: {ran.error}"
        return Outcome(ok=False, reason=reason, gone=True)

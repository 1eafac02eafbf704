"""For one event and one hook: fire, suppress, or not now. In log order for each hook.

An event is decided whole, between two awaits. Of the two deliveries that a change of a hook can
make for that hook itself, only the first waits for a place; the ping then waits among the retries.
"""

import logging
from collections.abc import Callable
from typing import Final

from eventstore.records import RecordedEvent
from projections.sources import Sources

from .attempts import Attempts
from .ledger import Ledger
from .matching import PING, Match, payload
from .outbox import Outbox
from .state import Item
from .suppression import Rule, decide, remember, subject

_logger = logging.getLogger("hooktape.delivery")

_SECOND: Final = 1_000_000


class Decisions:
    """Decides, and starts the first attempt of what fires. `digest` is the log's keyed digest."""

    def __init__(
        self,
        ledger: Ledger,
        attempts: Attempts,
        sources: Sources,
        digest: Callable[[str], bytes],
    ) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._sources = sources
        self._digest = digest

    def decide(self, event: RecordedEvent, m: Match, outbox: Outbox) -> bool:
        """False when the hook is stopped or has no place now: then nothing was decided.

        What is known or settled already, because `state.db` was lost, only folds the memory.
        """
        item = (event.seq, m.purpose)
        rule = rule_for(event, m, self._sources, self._digest)
        reason = decide(outbox.memory, rule) if rule is not None else None
        if event.seq <= outbox.progress.settled or outbox.knows(item):
            if reason is None and not outbox.skips(event.seq):
                self._remember(outbox, rule)
            outbox.end_run()
            return True
        if outbox.stopped is not None:
            return False
        if outbox.skips(event.seq):
            outbox.suppress("skipped", event.seq)
        elif reason is not None:
            outbox.suppress(reason, event.seq)
        elif not self._start(event, m, outbox, item):
            return False
        else:
            self._remember(outbox, rule)
        self._ledger.touch(outbox)
        return True

    def _start(self, event: RecordedEvent, m: Match, outbox: Outbox, item: Item) -> bool:
        if m.purpose == PING:
            outbox.fire(item)
            outbox.due.append(item)
            self._attempts.start_due(outbox)
            return True
        place = self._attempts.admit_new(outbox)
        if place is None:
            return False
        outbox.fire(item)
        self._attempts.start(outbox, item, place, event, m)
        return True

    def _remember(self, outbox: Outbox, rule: Rule | None) -> None:
        if rule is not None:
            outbox.remembered(remember(outbox.memory, rule))
            self._ledger.touch(outbox)


def rule_for(
    event: RecordedEvent, m: Match, sources: Sources, digest: Callable[[str], bytes]
) -> Rule | None:
    """What on_change and snooze compare; None when neither applies. A ping is always sent.

    Neither applies to an event that cannot be read: it fires, and its attempt says why not.
    """
    hook = m.hook
    if m.purpose or not (hook.on_change or hook.snooze):
        return None
    try:
        data = payload(event)
        if data is None:
            return None
        definition = sources.as_of(m.source, m.event, event.seq)
        unique = definition.unique if definition is not None else None
        return Rule(
            changed=digest(subject(data, unique, whole=True)) if hook.on_change else None,
            snoozed=digest(subject(data, unique, whole=False)) if hook.snooze else None,
            snooze_us=(hook.snooze or 0) * _SECOND,
            wall_us=event.wall_us,
        )
    except Exception:
        _logger.exception("event %d cannot be compared for hook %s", event.seq, hook.id)
        return None

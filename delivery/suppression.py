"""`on_change` and `snooze`: a fold over the matched events of one hook, in log order.

*Fired* means decided for delivery, whatever became of it. The memory belongs to the hook's cursor:
whoever folds the same events again decides the same.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Reason = Literal["on_change", "snooze"]

LAST = b""
"""The key under which the digest of the last fired event is remembered."""

_ENCODER = msgspec.json.Encoder(order="deterministic")
_FORGET_FROM = 1024
_FORGET_AFTER_US = 24 * 3600 * 1_000_000


class Fired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered under a key: the digest that fired (for `LAST`) and when, in wall µs."""

    digest: bytes
    wall_us: int


Memory = dict[bytes, Fired]
"""Per hook: `LAST`, and one entry for each digest that `snooze` counts from."""


class Rule(msgspec.Struct, frozen=True, gc=False):
    """What applies to one event: None turns a rule off.

    `changed` is the digest that on_change compares, `snoozed` the one that snooze counts by.
    """

    changed: bytes | None
    snoozed: bytes | None
    snooze_us: int
    wall_us: int


def subject(data: Mapping[str, Any], unique: list[str] | None, *, whole: bool) -> str:
    """Canonical text of what makes an event the same as another one.

    The `unique` fields if the source declares them; else the whole payload when `whole`, or nothing
    at all: `snooze` without `unique` counts per hook. Numbers and booleans take part (Kong 3.10).
    """
    if unique is not None:
        return _ENCODER.encode({field: data.get(field) for field in unique}).decode()
    return _ENCODER.encode(data).decode() if whole else ""


def decide(memory: Mapping[bytes, Fired], rule: Rule) -> Reason | None:
    """Why the event is not sent, or None when it fires.

    A snooze is over when the recorded wall time is before the firing or `snooze_us` after it, so a
    clock that was set back can only deliver more.
    """
    last = memory.get(LAST)
    if rule.changed is not None and last is not None and last.digest == rule.changed:
        return "on_change"
    if rule.snoozed is not None:
        fired = memory.get(rule.snoozed)
        if fired and fired.wall_us <= rule.wall_us < fired.wall_us + rule.snooze_us:
            return "snooze"
    return None


def remember(memory: Memory, rule: Rule) -> list[bytes]:
    """Note that the event fired; answers the keys that changed (a missing one was forgotten).

    What has been over for a day is forgotten, so that memory follows the traffic of a day and a
    clock set back by less changes nothing.
    """
    keys = []
    if rule.changed is not None:
        memory[LAST] = Fired(rule.changed, rule.wall_us)
        keys.append(LAST)
    if rule.snoozed is not None:
        full = len(memory) >= _FORGET_FROM and len(memory).bit_count() == 1
        if full and rule.snoozed not in memory:
            keys.extend(_forget(memory, rule))
        memory[rule.snoozed] = Fired(b"", rule.wall_us)
        keys.append(rule.snoozed)
    return keys


def _forget(memory: Memory, rule: Rule) -> list[bytes]:
    horizon = rule.wall_us - rule.snooze_us - _FORGET_AFTER_US
    over = [key for key, fired in memory.items() if key != LAST and fired.wall_us < horizon]
    for key in over:
        del memory[key]
    return over

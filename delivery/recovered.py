"""What the log says about the deliveries of a hook, and how a snapshot holds it. Pure functions."""

from collections.abc import Iterable, Mapping

import msgspec

from eventstore.errors import LogError
from eventstore.snapshots import Items, State

from .state import Item, Open, Parked
from .suppression import Fired, Memory

SECTIONS: Mapping[str, int] = {
    "outbox": 1,
    "outbox_open": 1,
    "outbox_parked": 1,
    "outbox_fired": 1,
}
"""What a snapshot holds of all this, by hook or by `<hook>/<rest of the key>`; and the versions."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class Recovered(msgspec.Struct):
    """What the log says about one hook. `skipped` are ranges that were passed over by hand.

    `memory` is that of on_change and snooze as of a snapshot's floor; what follows in the log is
    decided on again, which adds to it.
    """

    settled: int = 0
    open: dict[Item, Open] = {}
    parked: dict[Item, Parked] = {}
    stopped: str | None = None
    stopped_at: int = 0
    skipped: list[tuple[int, int]] = []
    memory: Memory = {}


class _Rest(msgspec.Struct, frozen=True):
    """What a snapshot's section `outbox` holds: `Recovered` without what grows."""

    settled: int
    stopped: str | None
    stopped_at: int
    skipped: list[tuple[int, int]]


def sections(hooks: Mapping[str, Recovered], floor: int) -> dict[str, Items]:
    """All of it for a snapshot, but for what no event from `floor` on can meet."""
    found: dict[str, Items] = {name: {} for name in SECTIONS}
    for hook_id, hook in hooks.items():
        skipped = sorted({run for run in hook.skipped if run[1] >= floor})
        rest = _Rest(hook.settled, hook.stopped, hook.stopped_at, skipped)
        found["outbox"][hook_id] = _encode(rest)
        for item, opened in hook.open.items():
            found["outbox_open"][_key(hook_id, item)] = _encode(opened)
        for item, parked in hook.parked.items():
            found["outbox_parked"][_key(hook_id, item)] = _encode(parked)
        for digest, fired in hook.memory.items():
            value = (fired.digest.hex(), fired.wall_us)
            found["outbox_fired"][f"{hook_id}/{digest.hex()}"] = _encode(value)
    return found


def recovered(state: State) -> dict[str, Recovered]:
    """The way back. Raises LogError if a newer or older program took the snapshot."""
    if any(state.versions.get(name) != version for name, version in SECTIONS.items()):
        raise LogError("the log's snapshot holds the state of deliveries in another shape")
    hooks: dict[str, Recovered] = {}
    for hook_id, raw in state.sections["outbox"].items():
        rest = msgspec.json.decode(raw, type=_Rest)
        hooks[hook_id] = Recovered(
            settled=rest.settled,
            stopped=rest.stopped,
            stopped_at=rest.stopped_at,
            skipped=rest.skipped,
        )
    for hook_id, seq, purpose, raw in _items(state.sections["outbox_open"]):
        hooks[hook_id].open[seq, purpose] = msgspec.json.decode(raw, type=Open)
    for hook_id, seq, purpose, raw in _items(state.sections["outbox_parked"]):
        hooks[hook_id].parked[seq, purpose] = msgspec.json.decode(raw, type=Parked)
    for key, raw in state.sections["outbox_fired"].items():
        hook_id, _, digest = key.rpartition("/")
        fired, wall_us = msgspec.json.decode(raw, type=tuple[str, int])
        hooks[hook_id].memory[bytes.fromhex(digest)] = Fired(bytes.fromhex(fired), wall_us)
    return hooks


def _key(hook_id: str, item: Item) -> str:
    return f"{hook_id}/{item[0]:020d}/{item[1]}"


def _items(items: Items) -> Iterable[tuple[str, int, str, bytes]]:
    for key, raw in items.items():
        hook_id, seq, purpose = key.split("/", 2)
        yield hook_id, int(seq), purpose, raw

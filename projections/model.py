"""What the runner needs of a read model. Every read model here can be deleted and rebuilt."""

from collections.abc import Mapping
from typing import Any, Protocol

from eventstore.codec import decode
from eventstore.events import CompactionFinished
from eventstore.records import RecordedEvent

Changes = Mapping[str, Any]
"""Changed items by key; None deletes."""


def floor(compacted: RecordedEvent) -> int:
    """The first position that is left after a `compaction_finished`."""
    body = decode(compacted)
    return body.floor if isinstance(body, CompactionFinished) else 0


class ReadModel(Protocol):
    """State folded from the log: pure `evolve`, and an in-memory view that `apply` keeps.

    `item` is the type of the stored items. Raise `version` when items of an older program no longer
    fit: the model is then rebuilt. A model that is not `resident` keeps nothing in memory; its
    items are looked up in the database. They are facts, each with the `position` it comes from, and
    go when that is compacted away; of the others, `evolve` says what a compaction takes away.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def item(self) -> Any: ...
    @property
    def resident(self) -> bool: ...

    def evolve(self, event: RecordedEvent) -> Changes:
        """The items that `event` changes. No effects, and the same answer for a repeat."""
        ...

    def key(self, event: RecordedEvent) -> str:
        """The key of the item that `erase` has to be given, if the model is not resident."""
        ...

    def erase(self, event: RecordedEvent, found: Any) -> Changes:
        """What changes when the body of `event`, folded before, is gone: then all is as if it had
        been gone when it was folded. `found` is the item of that `key`, None if there is none.
        """
        ...

    def apply(self, changes: Changes) -> None:
        """Take over changed items: from `evolve`, or from the database at start."""
        ...

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        ...

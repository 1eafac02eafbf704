"""What the runner needs of a read model. Every read model here can be deleted and rebuilt."""

from collections.abc import Mapping
from typing import Any, Protocol

from eventstore.records import RecordedEvent

Changes = Mapping[str, Any]
"""Changed items by key; None deletes."""


class ReadModel(Protocol):
    """State folded from the log: pure `evolve`, and an in-memory view that `apply` keeps.

    `item` is the type of the stored items. Raise `version` when items of an older program no longer
    fit: the model is then rebuilt. A model that is not `resident` keeps nothing in memory; its
    items are looked up in the database.
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

    def apply(self, changes: Changes) -> None:
        """Take over changed items: from `evolve`, or from the database at start."""
        ...

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        ...

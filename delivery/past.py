"""What the archive says about an event that was compacted away: the hooks of then, the facts."""

from pathlib import Path
from typing import Final

import anyio.to_thread

from eventstore.archive import Archive
from eventstore.log import EventLog
from eventstore.records import Kind, RecordedEvent
from projections import deliveries
from projections.deliveries import Fact
from projections.hooks import Hooks

from .explain import Lookup

_PAGE: Final = 1000


class Past:
    """The registry with every version there ever was, and what became of one event."""

    def __init__(self, seq: int) -> None:
        self.hooks = Hooks()
        self._seq = seq
        self._facts: dict[str, Fact] = {}

    @classmethod
    async def read(cls, log: EventLog, seq: int) -> "Past":
        """Read the whole archive. Raises Truncated if it is not complete, and LogDamaged."""
        past = cls(seq)
        await anyio.to_thread.run_sync(past._read_archive, log.path.parent, log.log_id, log.first)
        after = log.first - 1
        while page := await log.read(after, limit=_PAGE, kinds=(Kind.CONFIG,)):
            for event in page:
                past._fold(event)
            after = page[-1].seq
        return past

    async def lookup(self, live: Lookup, hook_id: str, seq: int) -> tuple[Fact | None, list[Fact]]:
        """The receipt and the facts, from the archive and then from what the log still has."""
        receipt, later = await live(hook_id, seq)
        about = f"{hook_id}/event/{seq:020d}/"
        facts = [fact for key, fact in sorted(self._facts.items()) if key.startswith(about)]
        covering = [
            fact
            for key, fact in sorted(self._facts.items())
            if key.startswith(f"{hook_id}/settled/")
        ]
        return covering[0] if covering else receipt, facts + later

    def _read_archive(self, directory: Path, log_id: str, first: int) -> None:
        archive = Archive(directory / "archive", log_id)
        for event in archive.events(kinds=(Kind.CONFIG, Kind.DELIVERY)):
            if event.seq >= first:
                return
            self._fold(event)

    def _fold(self, event: RecordedEvent) -> None:
        self.hooks.apply(self.hooks.evolve(event))
        if event.kind == Kind.DELIVERY and event.seq > self._seq:
            for key, fact in deliveries.evolve(event).items():
                if self._tells(key, fact):
                    self._facts[key] = fact

    def _tells(self, key: str, fact: Fact) -> bool:
        _, kind, seq, *_ = key.split("/")
        if kind == "settled":
            return bool(fact.body["after"] < self._seq <= int(seq))
        return kind == "event" and int(seq) == self._seq

"""What the log says about its own compactions, and how that gets there: once each."""

from typing import Final

from eventstore.codec import decode, new_event
from eventstore.errors import OutcomeUnknown
from eventstore.events import (
    COMPACTION_STREAM,
    CompactionAbandoned,
    CompactionFinished,
    CompactionStarted,
    SnapshotTaken,
)
from eventstore.log import EventLog
from eventstore.records import Append, Idempotency, Kind, NewEvent
from eventstore.snapshots import State

_PAGE: Final = 1000


class Journal:
    """Reads and writes the log's own events."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def unfinished(self) -> tuple[CompactionStarted, int] | None:
        """The compaction that was begun, and neither finished nor abandoned; its position."""
        unfinished = None
        after = -1
        while page := await self._log.read_stream(COMPACTION_STREAM, after=after, limit=_PAGE):
            after = page[-1].version
            for event in page:
                body = decode(event)
                unfinished = (body, event.seq) if isinstance(body, CompactionStarted) else None
        return unfinished

    async def taken(self, started: CompactionStarted, position: int, state: State) -> int | None:
        """The position of the snapshot that was taken before a crash, if it still says the same."""
        digest = state.digest
        found, after = None, position
        while page := await self._log.read(after, limit=_PAGE, kinds=(Kind.SYSTEM,)):
            after = page[-1].seq
            for event in page:
                body = decode(event) if event.type == "snapshot_taken" else None
                if isinstance(body, SnapshotTaken) and body.id == started.id:
                    found = event.seq if body.digest == digest else None
        return found

    async def erased_since(self, position: int) -> bool:
        """Whether anything was erased after a position."""
        while page := await self._log.read(position, limit=_PAGE, kinds=(Kind.SYSTEM,)):
            if any(event.type == "events_erased" for event in page):
                return True
            position = page[-1].seq
        return False

    async def say(self, body: CompactionStarted | CompactionFinished | CompactionAbandoned) -> int:
        """Store what happened; its position. Raises what appending raises."""
        event = new_event(body, stream=COMPACTION_STREAM, kind=Kind.SYSTEM)
        return await self.append((event,), f"{event.type}\0{body.id}")

    async def append(self, events: tuple[NewEvent, ...], name: str) -> int:
        """Store events under a name of their own, so that doing it again stores nothing."""
        key = Idempotency(f"system\0{name}", b"".join(event.body for event in events))
        append = Append(events=events, idempotency=key)
        try:
            appended = await self._log.append(append)
        except OutcomeUnknown:
            appended = await self._log.append(append)
        return appended.positions[-1]

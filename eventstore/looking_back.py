"""An event by its position, also when it was compacted away."""

import anyio.to_thread

from eventstore.archive import Archive
from eventstore.errors import Truncated
from eventstore.log import EventLog
from eventstore.records import RecordedEvent


async def event_at(log: EventLog, position: int) -> RecordedEvent:
    """The event from the log, or else from the archive.

    There must have been one. Raises Truncated where the archive does not go back so far.
    """
    if position >= log.first:
        (event,) = await log.read(position - 1, limit=1)
        return event
    archive = Archive(log.path.parent / "archive", log.log_id)
    found = await anyio.to_thread.run_sync(archive.read, position - 1, 1)
    if not found:
        raise Truncated(log.first)
    return found[0]

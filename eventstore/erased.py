"""What is left of erased events: everything but their bodies."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.to_thread
import msgspec

from eventstore.archive import Archive
from eventstore.errors import LogDamaged, LogError
from eventstore.events import EventsErased
from eventstore.log import EventLog
from eventstore.records import Kind, RecordedEvent
from eventstore.runs import Runs

_log = logging.getLogger("hooktape.eventstore")

_PAGE = 1000
_KINDS = (Kind.CONFIG, Kind.DELIVERY)


async def folded(log: EventLog, record: EventsErased) -> AsyncIterator[RecordedEvent]:
    """The events whose bodies an erasure took from those who fold configuration and deliveries.

    Those that were archived before are found there, if they are about configuration.
    """
    if log.first > 1 and record.what != "subject":
        for event in await anyio.to_thread.run_sync(_archived, log, record):
            yield event
    for first, last in record.runs:
        after = max(first, log.first) - 1
        while after < last:
            page = await log.read(after, limit=min(_PAGE, last - after), kinds=_KINDS)
            for event in page:
                if event.seq > last:
                    break
                yield event
            after = page[-1].seq if page else last


def _archived(log: EventLog, record: EventsErased) -> list[RecordedEvent]:
    try:
        return list(_matching(log.path.with_name("archive"), log, record))
    except (LogError, OSError) as error:
        _log.error(
            "what is archived of the erased stays in view.db: %s;"
            " make it anew with `hooktape rebuild` once the archive is whole",
            error,
        )
        return []


def _matching(directory: Path, log: EventLog, record: EventsErased) -> Iterator[RecordedEvent]:
    chosen, archive = Runs(record.runs), Archive(directory, log.log_id)
    if max((each.last for each in archive.segments()), default=0) < log.first - 1:
        raise LogDamaged(f"the archive ends before position {log.first - 1}")
    for event in archive.events(kinds=(Kind.CONFIG,)):
        if event.seq >= log.first:
            return
        of_workspace = record.what == "workspace" and event.workspace == record.key
        if of_workspace or event.seq in chosen:
            yield msgspec.structs.replace(event, body=None)

"""Events and appends for tests of the log."""

import sqlite3
from contextlib import closing
from pathlib import Path

from eventstore import Append, Kind, NewEvent


def emitted(
    body: bytes = b'{"data":{}}',
    *,
    stream: str = "emitted/source/event",
    identity: str | None = None,
    subject: str | None = None,
) -> NewEvent:
    return NewEvent(
        stream=stream,
        type="event_emitted",
        kind=Kind.EMITTED,
        body=body,
        identity=identity,
        subject=subject,
    )


def created(stream: str = "consumers/1", body: bytes = b'{"entity":{}}') -> NewEvent:
    return NewEvent(stream=stream, type="entity_created", kind=Kind.CONFIG, body=body)


def failed(stream: str = "deliveries/1") -> NewEvent:
    return NewEvent(
        stream=stream,
        type="delivery_failed",
        kind=Kind.DELIVERY,
        body=b'{"seq":1,"reason":"refused","hook_version":0}',
    )


def of(*events: NewEvent) -> Append:
    return Append(events=events)


def truncate(directory: Path, upto: int) -> None:
    """What compaction will do, with the means the schema allows."""
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'truncated_to'", (upto,))
        connection.execute("DELETE FROM event WHERE seq <= ?", (upto,))

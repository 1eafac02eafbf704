"""The log: append, read, follow, checkpoint.

Promised: an append that was answered is on disk, in order, once, all of it or nothing; positions
have no holes and are never used twice; repeating a request with its key stores nothing new, for
the life of the log. Not promised: that a wake-up comes for every event, or that an `OutcomeUnknown`
was not stored.
"""

from eventstore.codec import decode, encode, new_event
from eventstore.errors import (
    ConfigMoved,
    IdentityReused,
    LogDamaged,
    LogDiverged,
    LogError,
    LogLocked,
    LogTooNew,
    LogUnavailable,
    OutcomeUnknown,
    Refused,
    Truncated,
    UnknownEvent,
    WrongVersion,
)
from eventstore.log import EventLog
from eventstore.options import LogOptions
from eventstore.records import (
    NO_STREAM,
    Append,
    Appended,
    Checkpoint,
    Idempotency,
    Kind,
    NewEvent,
    RecordedEvent,
)

__all__ = [
    "NO_STREAM",
    "Append",
    "Appended",
    "Checkpoint",
    "ConfigMoved",
    "EventLog",
    "Idempotency",
    "IdentityReused",
    "Kind",
    "LogDamaged",
    "LogDiverged",
    "LogError",
    "LogLocked",
    "LogOptions",
    "LogTooNew",
    "LogUnavailable",
    "NewEvent",
    "OutcomeUnknown",
    "RecordedEvent",
    "Refused",
    "Truncated",
    "UnknownEvent",
    "WrongVersion",
    "decode",
    "encode",
    "new_event",
]

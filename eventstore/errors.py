"""Everything the log can raise.

LogError
├── Refused                  nothing was stored, and why
│   ├── WrongVersion         a stream has another version than expected
│   ├── ConfigMoved          configuration changed after the position decided on
│   ├── IdentityReused       an idempotency key or event id came back with other content
│   └── LogUnavailable       no room, queue full, or the log stopped; reading still works
├── OutcomeUnknown           the commit failed and may still be on disk: retry with the same key
├── LogLocked                another process owns this directory
├── LogDiverged              a checkpoint belongs to another or an older log
├── LogRestored              a back-up, and nobody accepted that deliveries are repeated
├── LogDamaged               log.db or keys.db is missing, swapped or not ours
├── Truncated                the positions asked for were compacted away
├── LogTooNew                written by a newer program
├── KeyForgotten             an archived body was erased: the key it was sealed with is gone
└── UnknownEvent             an event type or schema version this program does not know
"""


class LogError(Exception):
    """Base of everything the log raises on purpose."""


class Refused(LogError):
    """Nothing of the request was stored."""


class WrongVersion(Refused):
    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream} is at version {actual}, expected {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class ConfigMoved(Refused):
    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"configuration moved to position {actual}, decided at {expected}")
        self.expected = expected
        self.actual = actual


class IdentityReused(Refused):
    """`index` is the event in the request whose id was reused, None for the idempotency key."""

    def __init__(self, index: int | None) -> None:
        what = "idempotency key" if index is None else f"id of event {index}"
        super().__init__(f"the {what} was used before with other content")
        self.index = index


class LogUnavailable(Refused):
    """`reason` is one clear line. `full` tells a full disk from everything else."""

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.full = full


class OutcomeUnknown(LogError):
    """Stored or not, nobody knows until the same request is sent again with the same key."""


class LogLocked(LogError):
    """Another process is the writer of this directory."""


class LogDiverged(LogError):
    """The log at hand is not the one the checkpoint was taken from, or lost its end."""


class LogRestored(LogError):
    """What was delivered after the back-up was made is not known, and would be delivered again."""


class LogDamaged(LogError):
    """log.db and keys.db do not belong together, or one of them is no file of ours."""


class Truncated(LogError):
    """Reading from there would skip events: the first readable position is `first`."""

    def __init__(self, first: int) -> None:
        super().__init__(f"positions below {first} were compacted away")
        self.first = first


class LogTooNew(LogError):
    """The file was written by a newer program."""


class KeyForgotten(LogError):
    def __init__(self, seq: int) -> None:
        super().__init__(f"the key of position {seq} was forgotten: its body was erased")
        self.seq = seq


class UnknownEvent(LogError):
    def __init__(self, type_: str, schema_version: int) -> None:
        super().__init__(f"event type {type_!r} version {schema_version} is unknown")
        self.type = type_
        self.schema_version = schema_version

"""What leaves the house of an event: never secrets, and of an erased body the reason."""

import sqlite3
from typing import Any, Final

import msgspec

from eventstore import codec, reading
from eventstore.errors import LogDamaged
from eventstore.events import ERASURE_STREAM, EventsErased
from eventstore.records import Kind
from eventstore.runs import Runs
from eventstore.segment import Line

_STATE: Final = "snapshot_part"
"""The state as it is, secrets and all."""

_HIDDEN: Final = ("secrets", "items")
_PAGE: Final = 1000


class Outgoing:
    """Makes lines fit to be shown. With `bodies` False none is. Raises LogDamaged for no JSON."""

    def __init__(self, log: sqlite3.Connection, *, bodies: bool = True) -> None:
        self.withheld = 0
        self.erased = 0
        self._bodies = bodies
        self._erasures = _erasures(log)

    def line(self, line: Line) -> Line:
        """The line, without salt and body if it has secrets; then with the rest of the body."""
        if line.body is None:
            self.erased += 1
            return msgspec.structs.replace(line, erased=self._reason(line.seq))
        if self._bodies and not _has_secrets(line):
            return line
        self.withheld += 1
        shown = _public(line) if self._bodies else None
        return msgspec.structs.replace(line, salt=None, body=None, shown=shown)

    def _reason(self, seq: int) -> int | None:
        return next((position for position, runs in self._erasures if seq in runs), None)


def _erasures(log: sqlite3.Connection) -> list[tuple[int, Runs]]:
    """Where the log tells of erasures, and of which positions."""
    found: list[tuple[int, Runs]] = []
    version, first = -1, reading.first(log)
    while page := reading.stream_page(log, ERASURE_STREAM, version, first, _PAGE):
        for event in page:
            erasure = codec.decode(event)
            if isinstance(erasure, EventsErased):
                found.append((event.seq, Runs(erasure.runs)))
        version = page[-1].version
    return found


def _has_secrets(line: Line) -> bool:
    """Whether the body has fields that are never shown."""
    if line.columns[6] == Kind.EMITTED or line.body is None:
        return False
    return line.columns[4] == _STATE or (b'"secrets"' in line.body and "secrets" in _body(line))


def _public(line: Line) -> msgspec.Raw:
    hidden = _HIDDEN if line.columns[4] == _STATE else _HIDDEN[:1]
    public = {name: value for name, value in _body(line).items() if name not in hidden}
    return msgspec.Raw(msgspec.json.encode(public))


def _body(line: Line) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line.body or b"{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise LogDamaged(f"position {line.seq}: the body is not JSON") from error

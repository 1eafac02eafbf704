"""The log and its archive as one, for programs beside the service. Everything here blocks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from eventstore import files, reading, schema, snapshots
from eventstore.archive import Archive
from eventstore.errors import LogDamaged, LogDiverged, Truncated
from eventstore.records import Checkpoint, Kind, RecordedEvent

_FOLDED: Final = (Kind.CONFIG, Kind.DELIVERY, Kind.SYSTEM)
_PAGE: Final = 1000


class History:
    """The log in `directory`, and its archive, for reading. Close it."""

    def __init__(self, directory: Path) -> None:
        path = directory / "log.db"
        if not path.exists():
            raise LogDamaged(f"there is no log in {directory}")
        self._log = files.read_only(path)
        self.log_id = str(self._log.execute(schema.META, ("log_id",)).fetchone()[0])
        self._archive = Archive(directory / "archive", self.log_id)

    def close(self) -> None:
        self._log.close()

    @property
    def first(self) -> int:
        return reading.first(self._log)

    @property
    def head(self) -> int:
        newest = self._log.execute(schema.NEWEST).fetchone()
        return 0 if newest is None else int(newest[0])

    def snapshot(self) -> snapshots.Snapshot | None:
        """What the log begins with when older events were compacted away."""
        position = reading.snapshot(self._log)
        if position is None:
            return None
        (taken,) = reading.page(self._log, position - 1, position, 1, None)
        after = position - snapshots.parts_of(taken) - 1
        return snapshots.assemble(taken, self._pages(after, position - 1, (Kind.SYSTEM,)))

    def events(self, after: int, upto: int) -> Iterator[RecordedEvent]:
        """Those in (after, upto] that read models fold, from the archive where the log has none.

        Raises Truncated when neither has them.
        """
        first = self.first
        if after < first - 1:
            for event in self._archive.events(after):
                if event.seq > min(upto, first - 1):
                    break
                after = event.seq
                if event.kind != Kind.EMITTED:
                    yield event
            if after < min(upto, first - 1):
                raise Truncated(first)
        yield from self._pages(after, upto, _FOLDED)

    def checkpoint(self, seq: int) -> Checkpoint:
        leaf = reading.leaf(self._log, seq) if seq >= self.first else b""
        return Checkpoint(self.log_id, seq, leaf or b"")

    def verify(self, checkpoint: Checkpoint) -> None:
        """Raises LogDiverged if it was not taken from this log."""
        known = self.checkpoint(checkpoint.seq)
        if known.log_id != checkpoint.log_id or checkpoint.seq > self.head:
            raise LogDiverged("the checkpoint was not taken from this log")
        if known.leaf and checkpoint.leaf and known.leaf != checkpoint.leaf:
            raise LogDiverged(f"another event is at position {checkpoint.seq} than was folded")

    def _pages(self, after: int, upto: int, kinds: Sequence[Kind]) -> Iterator[RecordedEvent]:
        while after < upto:
            page = reading.page(self._log, after, upto, _PAGE, kinds)
            if not page:
                return
            yield from page
            after = page[-1].seq

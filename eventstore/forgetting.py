"""What an erasure means for the archive: which keys are forgotten. Blocks; for a thread."""

from collections.abc import Sequence
from pathlib import Path

from eventstore.archive import Archive
from eventstore.erasing import Wanted
from eventstore.events import EventsErased
from eventstore.subject_keys import SubjectKeys


def remembered(path: Path, wanted: Wanted) -> bool:
    with SubjectKeys.open(path) as keys:
        if wanted.what == "event":
            return keys.remembers_position(wanted.seq)
        if wanted.what == "subject":
            return keys.remembers(subject=bytes.fromhex(wanted.key))
        return keys.remembers(workspace=wanted.key)


def forget(path: Path, records: Sequence[EventsErased]) -> None:
    """The keys; and what `hooktape rebuild` left, which can be made again."""
    for pattern in ("checkpoints/*", "rebuild.db*"):
        for leftover in path.parent.glob(pattern):
            leftover.unlink(missing_ok=True)
    with SubjectKeys.open(path) as keys:
        for record in records:
            workspace = record.key if record.what == "workspace" else None
            subject = bytes.fromhex(record.key) if record.what == "subject" else None
            keys.forget(workspace=workspace, subject=subject, positions=record.runs)


def archived_parts(path: Path, log_id: str) -> list[int]:
    """The positions of the parts of snapshots in the archive that can be read still."""
    archive = Archive(path.with_name("archive"), log_id)
    found = [line.seq for line in archive.lines() if line.columns[4] == "snapshot_part"]
    with SubjectKeys.open(path) as keys:
        return [seq for seq in found if keys.remembers_position(seq)]

"""Audit exports: events that somebody else can check without us.

An export is a directory of three files:

    events.jsonl.gz   the events, one line each as `segment.py` says, by position; and in the place
                      of those left out, lines {"omitted": level, "hash": 64 hex digits}: the hash
                      over 2**level events. All of them folded make the checkpoint's root.
    manifest.json     what was asked for, the checkpoint, the log's keys, size and digest of the
                      events, and the consistency proof from the export before
    export.note       a signed note with the SHA-256 of manifest.json

`scripts/audit_verify.py` checks one, and documents the checks. What it cannot know is whether the
service told the truth when an event was stored, and whether a log with another past was shown to
somebody else: keep the checkpoints you were given, and hand them in as `since`.

A body that holds secrets is withheld with its salt, so nothing here tells what they were: `shown`
has the rest of it. That part no proof covers, only the signature on the export.
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from eventstore import evidence, files, reading, segment
from eventstore.audit_source import Source, reading_from
from eventstore.errors import LogDamaged, LogDiverged, Truncated
from eventstore.evidence import Evidence
from eventstore.merkle import Fold, cover
from eventstore.selection import Selection
from eventstore.signing import PublicKey
from eventstore.withholding import Outgoing

FORMAT = "hooktape-audit-export/1"
EVENTS, MANIFEST, NOTE = "events.jsonl.gz", "manifest.json", "export.note"
LAST = "exported.note"
"""In the data directory: the checkpoint of the last export."""

Progress = Callable[[int, int], None]
"""`progress(done, total)`, in positions."""


class Consistency(msgspec.Struct, frozen=True):
    """That the log of an earlier checkpoint is the beginning of this one (RFC 6962, 2.1.2)."""

    checkpoint: str
    proof: list[bytes]


class Contents(msgspec.Struct, frozen=True):
    """The file of events: its size and SHA-256, and how many lines of which sort are in it."""

    file: str
    size: int
    sha256: str
    events: int
    omissions: int
    withheld: int  #: with secrets in the body, or without bodies as asked
    erased: int


class Manifest(msgspec.Struct, frozen=True):
    """`first` and `last` are the positions that were looked at; `filters` what had to be true."""

    format: str
    log: str
    first: int
    last: int
    filters: dict[str, Any]
    events: Contents
    checkpoint: str
    keys: tuple[PublicKey, ...]
    consistency: Consistency | None


def export(
    directory: Path,
    output: Path,
    selection: Selection,
    *,
    since: str | None = None,
    bodies: bool = True,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Write the export into a new directory `output`, whole or not at all.

    `since` is an earlier checkpoint of the auditor's; without it, that of the last export is used.
    Raises Truncated if `selection` begins below what the log has, LogDamaged with the position
    named, LogDiverged if `since` or the last export is no earlier state of this log, ValueError if
    `since` is no checkpoint of it, FileExistsError.
    """
    if output.exists():
        raise FileExistsError(f"{output} is there already")
    with reading_from(directory) as source, files.new_directory(output) as draft:
        consistency = _since_last(source, directory) if since is None else _grown(source, since)
        events = _Events(source, selection, bodies)
        with segment.writing(draft / EVENTS) as writer:
            for lines in events.pages(progress):
                writer.add(lines)
        manifest = Manifest(
            format=FORMAT,
            log=source.signer.log_id,
            first=events.first,
            last=events.last,
            filters=selection.filters,
            events=events.contents(writer),
            checkpoint=source.checkpoint,
            keys=source.signer.keys,
            consistency=consistency,
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        files.write(draft / MANIFEST, text)
        note = source.signer.statement(sha256(text).hexdigest())
        files.write(draft / NOTE, note.encode())
    files.replace(directory / LAST, source.checkpoint.encode())
    return manifest


class _Events:
    """The lines of an export, and what there is to say about them afterwards."""

    def __init__(self, source: Source, selection: Selection, bodies: bool) -> None:
        floor = reading.first(source.log)
        if selection.first is not None and selection.first < floor:
            raise Truncated(floor)
        self.first = max(selection.first or 1, floor)
        self.last = min(selection.last or source.size, source.size)
        self._source = source
        self._where = selection.where()
        self._outgoing = Outgoing(source.log, bodies=bodies)
        self._fold = Fold()
        self._count = self._omissions = 0

    def pages(self, progress: Progress) -> Iterator[list[bytes]]:
        """Raises LogDamaged if the events are not those of the checkpoint."""
        after = self.first - 1
        while after < self.last and (page := self._page(after)):
            lines: list[bytes] = []
            for each in page:
                lines += self._omitted(each.line.seq - 1)
                lines.append(self._line(each))
            yield lines
            after = page[-1].line.seq
            progress(after - self.first + 1, self.last - self.first + 1)
        if (first := reading.first(self._source.log)) > self.first:
            raise Truncated(first)  # while this was going on
        yield list(self._omitted(self._source.size))
        if self._fold.root != self._source.root:
            raise LogDamaged(
                "the events are not those of the checkpoint: run `hooktape audit verify`"
            )

    def contents(self, writer: segment.Writer) -> Contents:
        return Contents(
            file=EVENTS,
            size=writer.size,
            sha256=writer.digest,
            events=self._count,
            omissions=self._omissions,
            withheld=self._outgoing.withheld,
            erased=self._outgoing.erased,
        )

    def _page(self, after: int) -> list[Evidence]:
        where, values = self._where
        if not where:
            return evidence.page(self._source.log, after, self.last)
        return evidence.matching(self._source.log, after, self.last, where, values)

    def _omitted(self, upto: int) -> Iterator[bytes]:
        for level, number in cover(self._fold.size, upto):
            hash_ = self._source.nodes(level, number)
            self._fold.add(hash_, level)
            self._omissions += 1
            yield b'{"omitted":%d,"hash":"%s"}\n' % (level, hash_.hex().encode())

    def _line(self, each: Evidence) -> bytes:
        self._fold.add(each.leaf)
        self._count += 1
        return segment.encode_parts(each.envelope, self._outgoing.line(each.line))


def _grown(source: Source, since: str) -> Consistency:
    tip = source.signer.verify(since).tip
    if tip.size > source.size or tip.root != source.tree.root(tip.size):
        raise LogDiverged(f"the earlier checkpoint of {tip.size} events is not of this log's past")
    earlier = source.signer.checkpoint(tip.size, tip.root)  # by the newest key, as all else
    return Consistency(earlier, source.tree.consistency(tip.size, source.size))


def _since_last(source: Source, directory: Path) -> Consistency | None:
    path = directory / LAST
    try:
        return _grown(source, path.read_text())
    except FileNotFoundError:
        return None
    except (LogDiverged, ValueError) as error:
        raise LogDiverged(
            f"the last export: {error}. If a backup was restored, tell who has that export, "
            f"and delete {path}"
        ) from error

"""What is sent to and answered by `/compaction` and `/erasures`, and how the document says it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from api.openapi.answers import Fields, LoggedEvent
from api.openapi.operation import Operation
from eventstore.events import CompactionFinished
from eventstore.plans import Plan

_TAG: Final = "Log"


class CompactionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What may go: any of the first four is reason enough, and `keep`, by kind, is stronger.

    Times are seconds, sizes bytes. With `dry_run` the plan is made and nothing done.
    """

    before: int | UnsetType | None = UNSET
    older_than: float | UnsetType | None = UNSET
    max_events: int | UnsetType | None = UNSET
    max_bytes: int | UnsetType | None = UNSET
    keep: dict[str, float] | UnsetType = UNSET
    dry_run: bool = False


class CompactionPlan(msgspec.Struct):
    plan: Plan


class CompactionState(msgspec.Struct):
    """`running` is the step that is under way; `problem` says how the last attempt failed."""

    running: Fields | None
    last: CompactionFinished | None
    problem: str | None


class ErasureRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Exactly one of `event`, `subject` and `workspace`; `source` only beside a caller's own id."""

    reason: str
    event: str | int | UnsetType = UNSET
    subject: str | int | UnsetType = UNSET
    workspace: str | UnsetType = UNSET
    source: str | UnsetType = UNSET


class Erasure(msgspec.Struct):
    """How many bodies are gone, and the positions of the events that say so.

    A dry run only says how many there are.
    """

    erased: int | UnsetType = UNSET
    records: Any = UNSET
    would_erase: int | UnsetType = UNSET


class ErasurePage(msgspec.Struct):
    """`next` is the path of the following page; `log` the id of the log."""

    data: list[LoggedEvent]
    next: str | None
    log: str


UPKEEP: Final[Mapping[str, Operation]] = {
    "GET /compaction": Operation(id="get_compaction", tag=_TAG, answers={200: CompactionState}),
    "POST /compaction": Operation(
        id="compact_log",
        tag=_TAG,
        answers={200: CompactionPlan, 202: CompactionPlan},
        body=CompactionRequest,
        body_required=False,
    ),
    "GET /erasures": Operation(
        id="list_erasures", tag=_TAG, answers={200: ErasurePage}, query=("after", "size")
    ),
    "POST /erasures": Operation(
        id="erase_events",
        tag=_TAG,
        answers={200: Erasure},
        query=("dry_run",),
        body=ErasureRequest,
        problems=(410,),
    ),
}
"""The operations on the log as a whole, by method and path."""

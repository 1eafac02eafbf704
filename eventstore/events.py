"""The vocabulary of the log: one frozen Struct per event type; its JSON is the event's body.

Streams by type:

    entity_created, entity_updated, entity_deleted    <table>/<id>                     CONFIG
    source_published                                  event_hook_sources/<src>/<event> CONFIG
    target_health_set                                 target_health/<target id>        CONFIG
    event_emitted                                     emitted/<source>/<event>         EMITTED
    delivery_failed, delivery_parked,
    delivery_resent, deliveries_settled,
    deliveries_cancelled, delivery_skipped,
    request_queued,
    hook_paused, hook_resumed, hook_suspended         deliveries/<hook id>             DELIVERY
    compaction_started, compaction_abandoned,
    compaction_finished                               system/compaction                SYSTEM
    snapshot_part, snapshot_taken                     system/snapshot                  SYSTEM
    events_erased                                     system/erasures                  SYSTEM
    repeats_accepted                                  system/restore                   SYSTEM

Matching a hook needs only stream, type, workspace and actor, which outlive the erasure of a body.
The actor of an event that functions of hooks emitted is `event_hooks/<id>,<id>`: the hooks whose
emissions led to it, the emitter last.
"""

from typing import Any, Literal

import msgspec

EMITTED_PREFIX = "emitted/"
DELIVERIES_PREFIX = "deliveries/"
HEALTH_PREFIX = "target_health/"
SOURCES_PREFIX = "event_hook_sources/"
HOOKS_PREFIX = "event_hooks/"
LAMBDA_SOURCE = "lambda"
"""The source of what functions emit."""
COMPACTION_STREAM = "system/compaction"
SNAPSHOT_STREAM = "system/snapshot"
ERASURE_STREAM = "system/erasures"
RESTORE_STREAM = "system/restore"


class EntityCreated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`entity` is public and without nulls; `secrets` are its fields that are never shown."""

    entity: dict[str, Any]
    secrets: dict[str, Any] = {}


class EntityUpdated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    entity: dict[str, Any]
    old_entity: dict[str, Any]
    secrets: dict[str, Any] = {}


class EntityDeleted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    entity: dict[str, Any]


class SourcePublished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`subject` is the dotted path in the data that names the person an event is about."""

    source: str
    event: str
    fields: list[str] | None = None
    unique: list[str] | None = None
    description: str | None = None
    subject: str | None = None


class TargetHealthSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody said how the addresses of a target are; `health` is by `<ip or host>:<port>`."""

    upstream: str
    health: dict[str, Literal["healthy", "unhealthy"]]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an event came as a CloudEvent, so that it can go out as it came.

    `attributes` are all of its context attributes but `specversion` and `id`. `wrapped` names the
    member of our data that holds what was sent unless that was a JSON object: `data`, or
    `data_base64` for bytes; `none` says that nothing was sent.
    """

    attributes: dict[str, str | int | bool]
    wrapped: Literal["", "data", "data_base64", "none"] = ""


class EventEmitted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`data` is a JSON object. `id` is the caller's own id."""

    data: msgspec.Raw
    id: str | None = None
    cloudevent: CloudEvent | None = None


Purpose = str
"""Why a delivery exists: "" (an event matched), "ping", "request", or the id of a replay."""


class DeliveryFailed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first failed attempt of a delivery. Later ones are kept in the delivery state only."""

    seq: int
    reason: str
    hook_version: int
    purpose: Purpose = ""
    status: int | None = None


class DeliveryParked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Given up for now. Holds its own copy of what was to be sent.

    `copy_of`: nothing happened, this only takes the place of the fact at that position, which is
    about to be compacted away; `at_us` is when it was given up.
    """

    seq: int
    event_id: str
    reason: str
    attempts: int
    source: str
    event: str
    data: msgspec.Raw
    purpose: Purpose = ""
    status: int | None = None
    copy_of: int | None = None
    at_us: int | None = None


class DeliveryResent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A parked delivery was put back to work by hand."""

    seq: int
    purpose: Purpose = ""


class Suppressed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of matched events that were not sent: `count` of them within first..last."""

    reason: Literal["on_change", "snooze", "skipped"]
    first: int
    last: int
    count: int


class DeliveriesSettled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Receipt for a range: every event in (after, upto] that matched is settled but for `open`.

    `id` is made up once per receipt, so that storing it again stores nothing.

    `late` lists deliveries that an earlier receipt left open and that have arrived since; both
    name a delivery by (seq, purpose). `suppressed` are the matched events of the range that were
    not sent, in runs.
    """

    id: str
    after: int
    upto: int
    delivered: int
    hook_version: int
    open: list[tuple[int, Purpose]] = []
    late: list[tuple[int, Purpose]] = []
    suppressed: list[Suppressed] = []


class DeliveriesCancelled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Open deliveries that will never be made, with the reason.

    `after`: neither will any event after that position that nobody had decided on yet.
    """

    seqs: list[int]
    reason: str
    after: int | None = None


class DeliverySkipped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function of the hook decided that this event is not for it. The delivery is settled."""

    seq: int
    reason: str
    purpose: Purpose = ""


class RequestQueued(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function of the hook wants this HTTP request made, because of the event at `seq`.

    It is delivered like an event that matched the hook alone. `headers` may hold secrets.
    """

    seq: int
    method: str
    url: str
    headers: dict[str, str] = {}
    body: str = ""
    purpose: Purpose = ""


class HookPaused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    reason: str = "paused by hand"


class HookSuspended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stopped by the service itself, e.g. because the receiver answered 410."""

    reason: str
    seq: int | None = None


class HookResumed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`skip_to` is the position up to which waiting events are skipped; None: catch up with all."""

    skip_to: int | None = None


class CompactionStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Positions `first` to `floor` - 1 are to go. `id` names this compaction in what follows."""

    id: str
    first: int
    floor: int


class SnapshotPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some items of one section of a state, by key. Secrets are among them: it is never shown."""

    id: str
    section: str
    items: dict[str, msgspec.Raw]


class SnapshotTaken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `parts` events right before this one hold the state after everything below `floor`.

    `sections` are the versions of the shapes that the items have; `digest` is over all items.
    """

    id: str
    floor: int
    parts: int
    items: int
    sections: dict[str, int]
    digest: str


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """An archived file: its name, the positions in it, its size in bytes and its SHA-256."""

    name: str
    first: int
    last: int
    size: int
    digest: str


class CompactionFinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`count` events below `floor` are gone from the log; they are in the `segments`."""

    id: str
    floor: int
    count: int
    snapshot: int
    segments: list[Segment] = []


class CompactionAbandoned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Nothing was truncated, and why."""

    id: str
    reason: str


Erasable = Literal["event", "subject", "workspace"]


class EventsErased(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bodies of `count` events are gone: those in `runs`, first and last of each.

    `key` is the event's id, the keyed digest of the subject in hex digits, or the workspace's id.
    What an archive holds of them, or of all of that subject or workspace, is unreadable. `streams`
    are those of the emitted events among them, and of changes of entities `<table>/`. `reason`
    stays for good: nothing personal.
    """

    what: Erasable
    key: str
    reason: str
    runs: list[tuple[int, int]]
    count: int
    streams: list[str] = []


class RepeatsAccepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Deliveries go on after `restored`, although some may be repeated."""

    restored: str


Event = (
    EntityCreated
    | EntityUpdated
    | EntityDeleted
    | SourcePublished
    | TargetHealthSet
    | EventEmitted
    | DeliveryFailed
    | DeliveryParked
    | DeliveryResent
    | DeliveriesSettled
    | DeliveriesCancelled
    | DeliverySkipped
    | RequestQueued
    | HookPaused
    | HookSuspended
    | HookResumed
    | CompactionStarted
    | SnapshotPart
    | SnapshotTaken
    | CompactionFinished
    | CompactionAbandoned
    | EventsErased
    | RepeatsAccepted
)

EVENT_TYPES: dict[str, type[Event]] = {
    "entity_created": EntityCreated,
    "entity_updated": EntityUpdated,
    "entity_deleted": EntityDeleted,
    "source_published": SourcePublished,
    "target_health_set": TargetHealthSet,
    "event_emitted": EventEmitted,
    "delivery_failed": DeliveryFailed,
    "delivery_parked": DeliveryParked,
    "delivery_resent": DeliveryResent,
    "deliveries_settled": DeliveriesSettled,
    "deliveries_cancelled": DeliveriesCancelled,
    "delivery_skipped": DeliverySkipped,
    "request_queued": RequestQueued,
    "hook_paused": HookPaused,
    "hook_suspended": HookSuspended,
    "hook_resumed": HookResumed,
    "compaction_started": CompactionStarted,
    "compaction_abandoned": CompactionAbandoned,
    "compaction_finished": CompactionFinished,
    "snapshot_part": SnapshotPart,
    "snapshot_taken": SnapshotTaken,
    "events_erased": EventsErased,
    "repeats_accepted": RepeatsAccepted,
}

"""The shapes of answers that are no entities, for the document at `/openapi.json`.

Where an endpoint encodes a Struct of its own the document is made from that one; these stand for
answers that are put together by hand. Docstrings become descriptions. Further fields may come.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.tags import Tagged
from projections.sources import Definition

Fields = dict[str, Any]


class Message(msgspec.Struct):
    """One sentence."""

    message: str


class Greeting(msgspec.Struct):
    """`configuration` are the settings that are no secrets."""

    tagline: str
    version: str
    node_id: str
    hostname: str
    pid: int
    configuration: Fields


class MemoryStatus(msgspec.Struct):
    peak_resident_bytes: int


class ServerStatus(msgspec.Struct):
    total_requests: int
    uptime_seconds: int


class DatabaseStatus(msgspec.Struct):
    reachable: bool


class LogStatus(msgspec.Struct):
    """Positions of the log, and in `failure` why nothing can be stored, if so."""

    log_id: str
    first: int
    head: int
    config_head: int
    failure: str | None
    durable: str
    sqlite_version: str


class RegistryStatus(msgspec.Struct):
    position: int


class AuditStatus(msgspec.Struct):
    """Up to which position the log is checked and signed; what is wrong with it, if anything."""

    size: int
    problem: str | None


class NodeStatus(msgspec.Struct):
    """`delivery` are counts by name; `jail` says how users' code is kept."""

    memory: MemoryStatus
    server: ServerStatus
    database: DatabaseStatus
    log: LogStatus
    registry: RegistryStatus
    delivery: dict[str, float]
    jail: Fields
    audit: AuditStatus


class Liveness(msgspec.Struct):
    status: Literal["live"]


class Readiness(msgspec.Struct):
    status: Literal["ready"]


class Unreadiness(msgspec.Struct):
    """`reasons` are told to those who may read `/status`."""

    status: Literal["not ready"]
    reasons: list[str] | UnsetType = UNSET


class LoggedEvent(msgspec.Struct):
    """An event of the log, without secrets. What it is about depends on its type.

    An emitted event has `source`, `event` and `data`; a change of an entity `table`, `operation`,
    `entity`, and `old_entity` if there was one; a published source `definition`; what was said
    about a target `target` and `fact`; a delivery fact `hook` and `fact`. With `erased` its content
    is gone for good.
    """

    position: int
    id: str
    type: str
    time: str
    workspace: str
    actor: str | None
    request_id: str | None
    source: str | UnsetType = UNSET
    event: str | UnsetType = UNSET
    data: Fields | UnsetType | None = UNSET
    caller_id: str | UnsetType = UNSET
    cloudevent: Fields | UnsetType = UNSET
    table: str | UnsetType = UNSET
    operation: Literal["create", "update", "delete"] | UnsetType = UNSET
    entity: Fields | UnsetType | None = UNSET
    old_entity: Fields | UnsetType | None = UNSET
    definition: Definition | UnsetType | None = UNSET
    target: str | UnsetType = UNSET
    hook: str | UnsetType = UNSET
    fact: Fields | UnsetType | None = UNSET
    erased: bool | UnsetType = UNSET


class EventPage(msgspec.Struct):
    """`next` is the path of the following page, null at the end of the log; `head` is its last."""

    data: list[LoggedEvent]
    next: str | None
    head: int


class Catalogue(msgspec.Struct):
    """All sources, each with its events."""

    data: dict[str, dict[str, Definition]]


class SourceEvents(msgspec.Struct):
    data: dict[str, Definition]


class SourceEvent(msgspec.Struct):
    data: Definition


class TagPage(msgspec.Struct):
    data: list[Tagged]
    next: str | None
    offset: str | UnsetType = UNSET


class Paths(msgspec.Struct):
    """The paths of all endpoints, in order."""

    data: list[str]
    next: None


class Counts(msgspec.Struct):
    """How many entities a workspace has, by table."""

    counts: dict[str, int]


class EntityDescription(msgspec.Struct):
    """Fields in order, each an object with one key."""

    fields: list[dict[str, Fields]]
    shorthand_fields: list[dict[str, Fields]] | UnsetType = UNSET
    subschema_key: str | UnsetType = UNSET
    subschemas: Fields | UnsetType = UNSET


class PluginDescription(msgspec.Struct):
    name: str
    fields: list[dict[str, Fields]]


class UpstreamHealth(msgspec.Struct):
    """`data` is a list of targets with their health, or with `balancer_health=1` one for all."""

    data: list[Fields] | Fields
    next: None
    node_id: str
    total: int | UnsetType = UNSET


class Granted(msgspec.Struct):
    actions: list[str]
    negative: bool


class PermissionsByEndpoint(msgspec.Struct):
    """By workspace, then by endpoint."""

    endpoints: dict[str, dict[str, Granted]]
    entities: Fields


class RoleNames(msgspec.Struct, forbid_unknown_fields=True):
    """Names or ids of roles, a list of them or one text with commas."""

    roles: str | list[str]

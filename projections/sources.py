"""The sources of events: those that every installation knows, and those that users publish.

Promise: "how was this event defined when event N was emitted" has one answer, whenever it is asked.
"""

from collections.abc import Iterable, Mapping

import msgspec

from eventstore.codec import decode
from eventstore.events import SOURCES_PREFIX, SourcePublished
from eventstore.records import Kind, RecordedEvent

from .model import Changes, floor

RESERVED = frozenset({"crud", "dao:crud", "kong:event_hooks", "lambda"})
"""Sources whose events only this service makes."""

OPERATIONS = ("create", "update", "delete")


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about an event. `unique` are the fields whose values tell two events apart.

    `subject` is the dotted path in the data that names the person an event is about.
    """

    fields: list[str] | None = None
    unique: list[str] | None = None
    description: str | None = None
    subject: str | None = None


class SourceVersion(msgspec.Struct, frozen=True, array_like=True):
    """In force for events after position `since`, until the next version."""

    since: int
    definition: Definition


Versions = list[SourceVersion]
"""All definitions of one event, oldest first. Publishing is never undone."""


def built_in(tables: Iterable[str]) -> dict[str, dict[str, Definition]]:
    """The catalogue of Kong: by source, then by event. `tables` are the names of the entities."""
    change = Definition(fields=["operation", "entity", "old_entity", "schema"])
    rate_limit = Definition(
        fields=["consumer", "ip", "service", "rate", "limit", "window"],
        unique=["consumer", "ip", "service"],
        description="Run an event when a rate limit has been exceeded",
    )
    validation = Definition(
        fields=["consumer", "ip", "service", "err"],
        description="Run an event when a validation has failed",
    )
    request = Definition(
        fields=["consumer", "ip", "service", "route"],
        unique=["consumer", "ip", "service"],
        description="Run an event for a request",
    )
    forms = ("", *(f":{operation}" for operation in OPERATIONS))
    return {
        "ai-rate-limiting-advanced": {"rate-limit-exceeded": rate_limit},
        "balancer": {
            "health": Definition(fields=["upstream_id", "ip", "port", "hostname", "health"])
        },
        "crud": {f"{table}{form}": change for table in tables for form in forms},
        "dao:crud": dict.fromkeys(OPERATIONS, change),
        "http-log": {"log": request},
        "http-log-enterprise": {"log": request},
        "oas-validation": {"validation-failed": validation},
        "rate-limiting-advanced": {"rate-limit-exceeded": rate_limit},
        "service-protection": {"rate-limit-exceeded": rate_limit},
        "validation": {"validation-failed": validation},
    }


def evolve(items: Mapping[str, Versions], event: RecordedEvent) -> dict[str, Versions]:
    """The versions of the definition that `event` adds to, by `<source>/<event>`; or nothing.

    With an erased body the event stays published, and nothing more is known about it.
    A compaction takes away the versions that no event from its floor on can meet.
    """
    if event.type == "compaction_finished":
        return trim(items, floor(event))
    if event.kind != Kind.CONFIG or not event.stream.startswith(SOURCES_PREFIX):
        return {}
    key = event.stream.removeprefix(SOURCES_PREFIX)
    versions = items.get(key, [])
    if versions and versions[-1].since >= event.seq:
        return {}
    match decode(event):
        case SourcePublished() as body:
            definition = Definition(
                fields=body.fields,
                unique=body.unique,
                description=body.description,
                subject=body.subject,
            )
        case _:
            definition = Definition()
    return {key: [*versions, SourceVersion(event.seq, definition)]}


def erase(items: Mapping[str, Versions], event: RecordedEvent) -> dict[str, Versions]:
    """The versions with nothing known about the one that `event` published."""
    if event.kind != Kind.CONFIG or not event.stream.startswith(SOURCES_PREFIX):
        return {}
    key = event.stream.removeprefix(SOURCES_PREFIX)
    versions = items.get(key, [])
    unknown = SourceVersion(event.seq, Definition())
    changed = [unknown if each.since == event.seq else each for each in versions]
    return {key: changed} if changed != versions else {}


def trim(items: Mapping[str, Versions], floor: int) -> dict[str, Versions]:
    """The definitions of which less is needed for events from `floor` on."""
    trimmed = {}
    for key, versions in items.items():
        gone = sum(later.since < floor for later in versions[1:])
        if gone:
            trimmed[key] = versions[gone:]
    return trimmed


class Sources:
    """The catalogue in memory: built-in definitions first, then the published ones."""

    name = "sources"
    version = 1
    item = list[SourceVersion]
    resident = True

    def __init__(self, tables: Iterable[str]) -> None:
        self._built_in = built_in(tables)
        self._items: dict[str, Versions] = {}

    def evolve(self, event: RecordedEvent) -> dict[str, Versions]:
        return evolve(self._items, event)

    def key(self, event: RecordedEvent) -> str:
        return event.stream.removeprefix(SOURCES_PREFIX)

    def erase(self, event: RecordedEvent, found: object) -> dict[str, Versions]:
        return erase(self._items, event)

    def apply(self, changes: Changes) -> None:
        self._items.update(changes)

    def clear(self) -> None:
        self._items.clear()

    def built_in(self, source: str, event: str) -> Definition | None:
        """The definition that nobody can change; None when there is none of that name."""
        return self._built_in.get(source, {}).get(event)

    def as_of(self, source: str, event: str, seq: int) -> Definition | None:
        """The definition in force for the event at `seq`; None when it was not published yet."""
        fixed = self.built_in(source, event)
        if fixed is not None:
            return fixed
        for version in reversed(self._items.get(f"{source}/{event}", [])):
            if version.since < seq:
                return version.definition
        return None

    def current(self, source: str, event: str) -> Definition | None:
        """The definition in force now; None when there is none."""
        fixed = self.built_in(source, event)
        if fixed is not None:
            return fixed
        versions = self._items.get(f"{source}/{event}")
        return versions[-1].definition if versions else None

    def all(self) -> dict[str, dict[str, Definition]]:
        """Every definition in force now, by source and event."""
        found = {source: dict(events) for source, events in self._built_in.items()}
        for key, versions in self._items.items():
            source, _, event = key.partition("/")
            found.setdefault(source, {}).setdefault(event, versions[-1].definition)
        return found

"""The hook registry: every hook with every version it ever had, and when each was in force.

Promise: "which hooks were in force for event N" has one answer, whenever it is asked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from eventstore.codec import decode
from eventstore.events import HOOKS_PREFIX, EntityCreated, EntityUpdated
from eventstore.records import Kind, RecordedEvent

from .fields import EXTENSION
from .model import Changes, floor
from .stored import reveal
from .typedefs import Headers, HttpMethod, HttpUrl, Secret

TemplateEngine = Literal["resty", "jinja2"]
SignatureAlgorithm = Annotated[Literal["sha256", "sha1"], EXTENSION]
WebhookFormat = Literal["kong", "cloudevents", "cloudevents-binary"]

CONTENT_TYPES: Mapping[WebhookFormat, str] = {
    "kong": "application/json",
    "cloudevents": "application/cloudevents+json",
}
"""What a webhook is sent as. A binary CloudEvent has the type of its data."""


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`ssl_verify` is true as in Kong >= 3.14. `secret` signs the exact body.

    `format` says what the body is: Kong's payload, or a CloudEvent.
    """

    url: HttpUrl
    headers: Headers | None = {}
    secret: Secret = None
    ssl_verify: bool = True
    signature_algorithm: SignatureAlgorithm = "sha256"
    format: Annotated[WebhookFormat, EXTENSION] = "kong"


class WebhookCustomConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`body` wins over `payload`; each `*_format` flag says whether its field is a template.

    `template_engine` is what the templates are written in: Kong's, or Jinja.
    """

    url: HttpUrl
    method: HttpMethod
    payload: dict[str, Any] | None = None
    payload_format: bool = True
    body: str | None = None
    body_format: bool = True
    headers: Headers | None = None
    headers_format: bool = False
    secret: Secret = None
    ssl_verify: bool = True
    signature_algorithm: SignatureAlgorithm = "sha256"
    template_engine: Annotated[TemplateEngine, EXTENSION] = "resty"


class LogConfig(msgspec.Struct, frozen=True):
    """The log handler has nothing to configure."""


class LambdaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Each function is a Lua chunk that returns `function (data, event, source, pid)`."""

    functions: Annotated[list[str], Meta(min_length=1)]


HandlerConfig = WebhookConfig | WebhookCustomConfig | LogConfig | LambdaConfig

CONFIGS: Mapping[str, type[HandlerConfig]] = {
    "webhook": WebhookConfig,
    "webhook-custom": WebhookCustomConfig,
    "log": LogConfig,
    "lambda": LambdaConfig,
}


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a hook, complete with its secret. `event` None: every event of `source`."""

    id: str
    workspace: str
    version: int  #: the version of its stream
    source: str
    event: str | None
    handler: str
    on_change: bool
    snooze: int | None  #: seconds
    created_at: int  #: seconds
    updated_at: int  #: seconds
    config: dict[str, Any]

    @property
    def settings(self) -> HandlerConfig:
        """The handler's configuration as its own type."""
        return msgspec.convert(self.config, CONFIGS[self.handler])


def announced(entity: Mapping[str, Any]) -> dict[str, Any]:
    """A webhook as its ping shows it: with the content type that it is sent with, as in Kong."""
    config: Mapping[str, Any] = entity.get("config") or {}
    headers = config.get("headers") or {}
    own = CONTENT_TYPES.get(config.get("format", "kong"))
    if own is not None and all(name.lower() != "content-type" for name in headers):
        headers = {"content-type": own} | headers
    return {**entity, "config": {**config, "headers": headers}}


def hook_from(
    entity: Mapping[str, Any], secrets: Mapping[str, Any], workspace: str, version: int
) -> Hook:
    """The hook that an entity of table `event_hooks` describes."""
    whole = reveal(entity, secrets)
    return Hook(
        id=whole["id"],
        workspace=workspace,
        version=version,
        source=whole["source"],
        event=whole.get("event"),
        handler=whole["handler"],
        on_change=whole.get("on_change", False),
        snooze=whole.get("snooze"),
        created_at=whole["created_at"],
        updated_at=whole["updated_at"],
        config=whole.get("config", {}),
    )


class HookVersion(msgspec.Struct, frozen=True, array_like=True):
    """In force for events at `since` < seq <= `until`; a None `until` means still in force.

    A hook sees the events after its own creation, and the event of its deletion still sees the
    hook, as Kong's own crud event of a deleted hook does.
    """

    since: int
    until: int | None
    hook: Hook


History = list[HookVersion]
"""All versions of one hook, oldest first. Ranges do not overlap; a deletion leaves a gap."""


def evolve(items: Mapping[str, History], event: RecordedEvent) -> Mapping[str, History | None]:
    """The history of the hook that `event` changes, or nothing.

    An erased body ends the version in force, as a deletion does: the configuration is gone.
    A compaction takes away the versions that no event from its floor on can meet.
    """
    if event.type == "compaction_finished":
        return trim(items, floor(event))
    if event.kind != Kind.CONFIG or not event.stream.startswith(HOOKS_PREFIX):
        return {}
    hook_id = event.stream.removeprefix(HOOKS_PREFIX)
    history = items.get(hook_id, [])
    if history and history[-1].since >= event.seq:
        return {}
    match decode(event):
        case EntityCreated() | EntityUpdated() as body:
            hook = hook_from(body.entity, body.secrets, event.workspace, event.version)
            return {hook_id: [*_ended(history, event.seq), HookVersion(event.seq, None, hook)]}
        case _:
            return {hook_id: _ended(history, event.seq)} if history else {}


def erase(items: Mapping[str, History], event: RecordedEvent) -> Mapping[str, History | None]:
    """The history without the version that `event` made, as if it had been erased when folded."""
    hook_id = event.stream.removeprefix(HOOKS_PREFIX)
    history = items.get(hook_id, [])
    if event.kind != Kind.CONFIG or not event.stream.startswith(HOOKS_PREFIX):
        return {}
    left = [each for each in history if each.hook.version != event.version]
    return {hook_id: left or None} if len(left) < len(history) else {}


def trim(items: Mapping[str, History], floor: int) -> dict[str, History | None]:
    """The histories of which less is needed for events from `floor` on; None for nothing at all.

    What is left begins when the hook was made: `over_until` stays what it was.
    """
    trimmed: dict[str, History | None] = {}
    for hook_id, history in items.items():
        gone = sum(version.until is not None and version.until < floor for version in history)
        if gone == len(history):
            trimmed[hook_id] = None
        elif gone:
            born = history[gone].since
            for version in reversed(history[:gone]):
                born = version.since if version.until == born else born
            oldest = msgspec.structs.replace(history[gone], since=born)
            trimmed[hook_id] = [oldest, *history[gone + 1 :]]
    return trimmed


def _ended(history: History, seq: int) -> History:
    if not history or history[-1].until is not None:
        return history
    return [*history[:-1], msgspec.structs.replace(history[-1], until=seq)]


Subscription = tuple[str, str | None]
"""(source, event); None stands for every event of the source."""

_SUBSCRIPTIONS_REMEMBERED = 10_000


class Hooks:
    """The registry in memory. Lookups by subscription are remembered until a hook changes."""

    name = "hooks"
    version = 1
    item = list[HookVersion]
    resident = True

    def __init__(self) -> None:
        self._items: dict[str, History] = {}
        self._subscribed: dict[Subscription, dict[str, History]] = {}
        self._changed_at = 0
        # What is in force after `_changed_at`; dropped by every change.
        self._latest: dict[Subscription, tuple[Hook, ...]] = {}

    def evolve(self, event: RecordedEvent) -> Mapping[str, History | None]:
        return evolve(self._items, event)

    def key(self, event: RecordedEvent) -> str:
        return event.stream.removeprefix(HOOKS_PREFIX)

    def erase(self, event: RecordedEvent, found: object) -> Mapping[str, History | None]:
        return erase(self._items, event)

    def apply(self, changes: Changes) -> None:
        for hook_id, history in changes.items():
            # Those that stay keep their place, so that a hook's matches come in the same order.
            for subscription in _subscriptions(self.history(hook_id)) - _subscriptions(history):
                self._subscribed[subscription].pop(hook_id, None)
            if history is None:
                self._items.pop(hook_id, None)
                continue
            self._items[hook_id] = history
            for version in history:
                subscription = (version.hook.source, version.hook.event)
                self._subscribed.setdefault(subscription, {})[hook_id] = history
                self._changed_at = max(self._changed_at, version.since, version.until or 0)
        if changes:
            self._latest.clear()

    def clear(self) -> None:
        self._items.clear()
        self._subscribed.clear()
        self._latest.clear()
        self._changed_at = 0

    def in_force(self, source: str, event: str | None, seq: int) -> tuple[Hook, ...]:
        """The hooks subscribed to exactly this source and event that were in force at `seq`.

        None stands for the hooks that want every event of the source.
        """
        subscription = (source, event)
        if seq <= self._changed_at:
            return self._as_of(subscription, seq)
        latest = self._latest.get(subscription)
        if latest is None:
            if len(self._latest) >= _SUBSCRIPTIONS_REMEMBERED:
                self._latest.clear()
            latest = self._latest[subscription] = self._as_of(subscription, seq)
        return latest

    def as_of(self, hook_id: str, seq: int) -> Hook | None:
        """The version that exists once the event at `seq` has happened."""
        return _version_at(self._items.get(hook_id, []), seq + 1)

    def history(self, hook_id: str) -> History:
        """Every version of the hook, oldest first; empty for an unknown one."""
        return self._items.get(hook_id, [])

    def current(self, hook_id: str) -> Hook | None:
        """The version in force now; None once deleted."""
        history = self._items.get(hook_id)
        return history[-1].hook if history and history[-1].until is None else None

    def over_until(self, hook_id: str) -> int:
        """The position up to which nothing concerns the hook any more, 0 for an unknown one.

        What happened before its creation never did. Its deletion is the end of everything, also
        for a hook that is created again under the same id.
        """
        history = self.history(hook_id)
        if not history:
            return 0
        if history[-1].until is not None:
            return history[-1].until
        later = reversed(history)
        born = next(later).since
        for version in later:
            if version.until != born:
                break
            born = version.since
        return born - 1

    def workspace(self, hook_id: str) -> str:
        """The workspace of a hook, also of a deleted one; empty for an unknown one."""
        history = self._items.get(hook_id)
        return history[-1].hook.workspace if history else ""

    def known(self) -> list[str]:
        """The ids of all hooks there ever were, but for those that went with a compaction."""
        return list(self._items)

    def all(self) -> list[Hook]:
        """Every hook in force now."""
        return [h[-1].hook for h in self._items.values() if h[-1].until is None]

    def _as_of(self, subscription: Subscription, seq: int) -> tuple[Hook, ...]:
        found = (_version_at(h, seq) for h in self._subscribed.get(subscription, {}).values())
        return tuple(hook for hook in found if hook and (hook.source, hook.event) == subscription)


def _subscriptions(history: History | None) -> set[Subscription]:
    return {(version.hook.source, version.hook.event) for version in history or ()}


def _version_at(history: History, seq: int) -> Hook | None:
    for version in reversed(history):
        if version.since < seq:
            return version.hook if version.until is None or seq <= version.until else None
    return None

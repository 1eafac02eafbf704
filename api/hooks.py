"""What event hooks have beyond other entities: checks at creation, `/test` and `/ping`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.entities import Endpoints
from api.queries import flag
from api.responses import BadGateway, BadRequest, Json, NotFound, SchemaViolation
from api.routing import route
from projections.entities import Entity
from projections.hooks import Hook, announced, hook_from
from projections.stored import shown
from projections.tables import TABLES, Table

CheckHook = Callable[[str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Whether, in a workspace, a handler can work with a config: templates and functions compile.

Answers with what is wrong, nested like the config, with a text at each leaf; empty if nothing is.
"""

_TABLE: Final = TABLES["event_hooks"]
_PROGRAMMED: Final = ("webhook-custom", "lambda")
_LEVELS: Final = {10: "debug", 20: "info", 30: "warn", 40: "err", 50: "crit"}


class Reply(Protocol):
    """A receiver's answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> str: ...


class Sent(Protocol):
    """A request that was made, or would have been."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> bytes: ...


class Result(Protocol):
    """What became of one attempt. `reason` is one clear line when `ok` is false.

    `logs` are (level, text) with the levels of `logging`; `effects` are what functions want done.
    """

    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def response(self) -> Reply | None: ...
    @property
    def result(self) -> Any: ...
    @property
    def request(self) -> Sent | None: ...
    @property
    def logs(self) -> Sequence[tuple[int, str]]: ...
    @property
    def effects(self) -> Sequence[Mapping[str, Any]]: ...


class Dispatch(Protocol):
    """Makes one attempt at once, outside the log: no retry, no record, no on_change, no snooze.

    With `dry_run` only what has no effect: nothing is sent and nothing is stored.
    """

    async def __call__(
        self, hook: Hook, *, source: str, event: str, data: dict[str, Any], dry_run: bool = False
    ) -> Result: ...


def hook_routes(
    admin: Admin,
    dispatch: Dispatch,
    check: CheckHook,
    *,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Route]:
    """The routes under `/event-hooks` but those of `sources`, which have to come before these.

    `defaults` are, by handler, what the config of a new hook gets where it does not say.
    """
    table = _TABLE
    if defaults:
        table = msgspec.structs.replace(table, expand=partial(_expanded, defaults))
    return HookEndpoints(admin, dispatch, check, table).routes()


class HookEndpoints:
    """The endpoints of event hooks: those of any entity, and their own."""

    def __init__(
        self, admin: Admin, dispatch: Dispatch, check: CheckHook, table: Table = _TABLE
    ) -> None:
        self._entities = Endpoints(admin, table, examine=self._compile)
        self._dispatch = dispatch
        self._check = check

    def routes(self) -> list[Route]:
        return [
            route("/event-hooks/{event_hooks}/test", POST=self.test),
            route("/event-hooks/{event_hooks}/ping", GET=self.ping, POST=self.ping),
            *self._entities.routes(),
        ]

    async def test(self, http: Request) -> Response:
        """Fire the handler by hand. Any object is a payload; the hook's own names go into it.

        With `?dry_run=true` nothing is sent and no function has an effect. Handlers that run users'
        code tell what it made: the request, what functions logged and want done, and the time.
        """
        dry_run = flag(http, "dry_run")
        row = self._entities.find(http)
        body = await read_body(http)
        hook = _hook(row)
        data = body.args | {"source": hook.source}
        if hook.event is not None:
            data["event"] = hook.event
        event = data.setdefault("event", None)
        payload = {name: value for name, value in data.items() if name not in ("source", "event")}
        started = perf_counter()
        outcome = await self._dispatch(
            hook,
            source=hook.source,
            event=event if isinstance(event, str) else "",
            data=payload,
            dry_run=dry_run,
        )
        seconds = perf_counter() - started
        details = _details(outcome, seconds) if dry_run or hook.handler in _PROGRAMMED else {}
        return Json({"data": data, "result": _result(outcome, details), **details})

    async def ping(self, http: Request) -> Response:
        """Send the ping again, and show what was sent. It holds no secret."""
        row = self._entities.find(http)
        hook = _hook(row)
        if hook.handler != "webhook":
            raise BadRequest(f"only hooks with handler webhook can be pinged, not {hook.handler}")
        data = {"event_hooks": _public(row)}
        source, event = "kong:event_hooks", "ping"
        outcome = await self._dispatch(hook, source=source, event=event, data=data)
        if not outcome.ok:
            raise BadGateway(outcome.reason or "the ping failed")
        return Json({"source": source, "event": event, **data})

    async def _compile(self, entity: dict[str, Any], workspace: str) -> None:
        wrong = await self._check(workspace, entity["handler"], entity["config"])
        if wrong:
            raise SchemaViolation({"config": dict(wrong)})


def _expanded(defaults: Mapping[str, Mapping[str, Any]], args: dict[str, Any]) -> dict[str, Any]:
    config, handler = args.get("config"), args.get("handler")
    given = defaults.get(handler) if isinstance(handler, str) else None
    if given is None or not isinstance(config, dict):
        return args
    return args | {"config": {**given, **config}}


def _hook(row: Entity) -> Hook:
    """Raises NotFound for a hook of which an erasure left only the id."""
    if "handler" not in row.entity:
        raise NotFound
    return hook_from(row.entity, row.secrets, row.workspace, row.version)


def _public(row: Entity) -> dict[str, Any]:
    """The hook as a ping shows it, without its secret."""
    return announced(shown(_TABLE.record, row.entity, {}))


def _result(outcome: Result, details: Mapping[str, Any]) -> Any:
    """The receiver's answer, whatever it says, or what the handler itself came to."""
    if outcome.response is not None:
        reply = outcome.response
        return {"body": reply.body, "headers": reply.headers, "status": reply.status}
    if not outcome.ok:
        raise BadGateway(outcome.reason or "the handler failed", details)
    return outcome.result


def _details(outcome: Result, seconds: float) -> dict[str, Any]:
    sent = outcome.request
    request = sent and {
        "method": sent.method,
        "url": sent.url,
        "headers": sent.headers,
        "body": sent.body.decode(errors="replace"),
    }
    logs = [{"level": _LEVELS.get(level, "info"), "text": text} for level, text in outcome.logs]
    return {
        "request": request,
        "logs": logs,
        "effects": outcome.effects,
        "duration_ms": round(seconds * 1000, 3),
    }

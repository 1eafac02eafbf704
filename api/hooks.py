"""What event hooks have beyond other entities: checks at creation, `/test` and `/ping`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.admin import Admin
from api.bodies import read_body
from api.entities import Endpoints
from api.responses import BadGateway, BadRequest, Json, NotFound, SchemaViolation
from api.routing import route
from projections.entities import Entity
from projections.hooks import Hook, announced, hook_from
from projections.stored import shown
from projections.tables import TABLES, Table

CheckHook = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Whether a handler can work with a config: its templates and functions compile.

Answers with what is wrong, nested like the config, with a text at each leaf; empty if nothing is.
"""

_TABLE: Final = TABLES["event_hooks"]
_TLS: Final = ("webhook", "webhook-custom")


class Reply(Protocol):
    """A receiver's answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> str: ...


class Result(Protocol):
    """What became of one attempt. `reason` is one clear line when `ok` is false."""

    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def response(self) -> Reply | None: ...
    @property
    def result(self) -> Any: ...


class Dispatch(Protocol):
    """Makes one attempt at once, outside the log: no retry, no record, no on_change, no snooze."""

    async def __call__(
        self, hook: Hook, *, source: str, event: str, data: dict[str, Any]
    ) -> Result: ...


def hook_routes(
    admin: Admin, dispatch: Dispatch, check: CheckHook, *, ssl_verify: bool = True
) -> list[Route]:
    """The routes under `/event-hooks` but those of `sources`, which have to come before these.

    `ssl_verify` is what a new hook gets that does not say.
    """
    table = _TABLE if ssl_verify else msgspec.structs.replace(_TABLE, expand=_trusting)
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
            route("/event-hooks/{key}/test", POST=self.test),
            route("/event-hooks/{key}/ping", GET=self.ping, POST=self.ping),
            *self._entities.routes(),
        ]

    async def test(self, http: Request) -> Response:
        """Fire the handler by hand. Any object is a payload; the hook's own names go into it."""
        row = self._entities.find(http)
        body = await read_body(http)
        hook = _hook(row)
        data = body.args | {"source": hook.source}
        if hook.event is not None:
            data["event"] = hook.event
        event = data.setdefault("event", None)
        payload = {name: value for name, value in data.items() if name not in ("source", "event")}
        outcome = await self._dispatch(
            hook, source=hook.source, event=event if isinstance(event, str) else "", data=payload
        )
        return Json({"data": data, "result": _result(outcome)})

    async def ping(self, http: Request) -> Response:
        """Send the ping again, and show what was sent. It holds no secret."""
        row = self._entities.find(http)
        hook = _hook(row)
        if hook.handler != "webhook":
            raise BadRequest(f"only hooks with handler webhook can be pinged, not {hook.handler}")
        data = {"event_hooks": _public(row)}
        names = {"source": "kong:event_hooks", "event": "ping"}
        outcome = await self._dispatch(hook, **names, data=data)
        if not outcome.ok:
            raise BadGateway(outcome.reason or "the ping failed")
        return Json(names | data)

    async def _compile(self, entity: dict[str, Any]) -> None:
        wrong = await self._check(entity["handler"], entity["config"])
        if wrong:
            raise SchemaViolation({"config": dict(wrong)})


def _trusting(args: dict[str, Any]) -> dict[str, Any]:
    """Kong's default before 3.14, where a handler has TLS at all."""
    config = args.get("config")
    if args.get("handler") not in _TLS or not isinstance(config, dict):
        return args
    return args | {"config": {"ssl_verify": False} | config}


def _hook(row: Entity) -> Hook:
    """Raises NotFound for a hook of which an erasure left only the id."""
    if "handler" not in row.entity:
        raise NotFound
    return hook_from(row.entity, row.secrets, row.workspace, row.version)


def _public(row: Entity) -> dict[str, Any]:
    """The hook as a ping shows it, without its secret."""
    return announced(shown(_TABLE.record, row.entity, {}))


def _result(outcome: Result) -> Any:
    """The receiver's answer, whatever it says, or what the handler itself came to."""
    if outcome.response is not None:
        reply = outcome.response
        return {"body": reply.body, "headers": reply.headers, "status": reply.status}
    if not outcome.ok:
        raise BadGateway(outcome.reason or "the handler failed")
    return True if outcome.result is None else outcome.result

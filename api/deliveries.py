"""What became of deliveries, and the levers: pause, resume, send again."""

from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.bodies import Body, idempotency, read_body
from api.feed import find_event
from api.queries import flag, page_size, position
from api.responses import InvalidPrimaryKey, Json, NotFound, SchemaViolation
from api.routing import route
from api.visibility import sees_all_hooks, sees_event
from eventstore.log import EventLog
from eventstore.records import Append, RecordedEvent

HookExists = Callable[[str, str], bool]
"""Whether a workspace, given by its id second, has a hook with this id."""


class Deliveries(Protocol):
    """What the endpoints need of delivery. Everything answered is ready to be shown."""

    async def history(self, hook_id: str, before: int | None, size: int) -> list[dict[str, Any]]:
        """A hook's delivery facts below position `before`, newest first.

        Each has its own `position`.
        """
        ...

    async def explain(self, event: RecordedEvent) -> list[dict[str, Any]]:
        """For each hook, what became of the event, or why the hook did not fire."""
        ...

    async def parked(self, hook_id: str, after: int, size: int) -> list[dict[str, Any]]:
        """Parked deliveries of events above position `after`, oldest first.

        Each has the `position` of its event.
        """
        ...

    async def resend(self, hook_id: str, delivery_id: str | None, origin: Append) -> int:
        """Put one parked delivery, or all, back to work. How many that were.

        `origin` is an append without events: who asks, and under which idempotency key.
        """
        ...

    async def pause(self, hook_id: str, origin: Append) -> dict[str, Any]:
        """Hold back a hook's deliveries. Answers with the hook's state."""
        ...

    async def resume(self, hook_id: str, skip: bool, origin: Append) -> dict[str, Any]:
        """Deliver again, from where the hook was held, or from now if `skip`."""
        ...


class DeliveryEndpoints:
    """Endpoints under `/event-hooks/{id}` and `/events/{id}`."""

    def __init__(self, log: EventLog, deliveries: Deliveries, hook_exists: HookExists) -> None:
        self._log = log
        self._deliveries = deliveries
        self._hook_exists = hook_exists

    def routes(self) -> list[BaseRoute]:
        parked = "/event-hooks/{id}/parked"
        return [
            route("/events/{id}/deliveries", GET=self.explain),
            route("/event-hooks/{id}/deliveries", GET=self.history),
            route(parked, GET=self.parked),
            route(f"{parked}/resend", POST=self.resend),
            route(f"{parked}/{{delivery}}/resend", POST=self.resend),
            route("/event-hooks/{id}/pause", POST=self.pause),
            route("/event-hooks/{id}/resume", POST=self.resume),
        ]

    async def explain(self, request: Request) -> Response:
        """Why an event did or did not fire, hook by hook."""
        reference, source = request.path_params["id"], request.query_params.get("source")
        event = await find_event(self._log, reference, request.state.workspace, source)
        if not sees_event(request.scope, event):
            raise NotFound
        found = await self._deliveries.explain(event)
        if not sees_all_hooks(request.scope):
            workspace = request.state.workspace
            found = [entry for entry in found if self._hook_exists(entry["hook"], workspace)]
        return Json({"data": found})

    async def history(self, request: Request) -> Response:
        """A hook's deliveries, newest first; `next` leads to older ones."""
        hook, size = self._hook(request), page_size(request)
        found = await self._deliveries.history(hook, position(request, "before"), size)
        return _page(request, "deliveries", "before", found, size)

    async def parked(self, request: Request) -> Response:
        """What was given up for now, oldest first."""
        hook, size = self._hook(request), page_size(request)
        found = await self._deliveries.parked(hook, position(request, "after") or 0, size)
        return _page(request, "parked", "after", found, size)

    async def resend(self, request: Request) -> Response:
        """Send parked deliveries again: the one in the path, or all."""
        hook, delivery = self._hook(request), request.path_params.get("delivery")
        named = None if delivery is None else _uuid(delivery)
        count = await self._deliveries.resend(
            hook, named, _origin(request, await read_body(request))
        )
        if delivery is not None and not count:
            raise NotFound
        return Json({"resent": count}, 202)

    async def pause(self, request: Request) -> Response:
        hook = self._hook(request)
        origin = _origin(request, await read_body(request))
        return Json(await self._deliveries.pause(hook, origin))

    async def resume(self, request: Request) -> Response:
        """Catch up with everything that waited; `skip` drops it and starts from now."""
        hook = self._hook(request)
        body = await read_body(request)
        skip = _skip(request, body)
        return Json(await self._deliveries.resume(hook, skip, _origin(request, body)))

    def _hook(self, request: Request) -> str:
        hook_id = _uuid(request.path_params["id"])
        if not self._hook_exists(hook_id, request.state.workspace):
            raise NotFound
        return hook_id


def _uuid(given: str) -> str:
    try:
        parsed = str(UUID(given))
    except ValueError as error:
        raise InvalidPrimaryKey from error
    if parsed != given.lower():  # UUID() also takes braces, urn: and no dashes
        raise InvalidPrimaryKey
    return parsed


def _origin(request: Request, body: Body) -> Append:
    return Append(
        events=(),
        workspace=request.state.workspace,
        actor=request.state.actor,
        request_id=request.state.request_id,
        idempotency=idempotency(request, body.digest),
    )


def _skip(request: Request, body: Body) -> bool:
    if unknown := {name: "unknown field" for name in body.args if name != "skip"}:
        raise SchemaViolation(unknown)
    given = body.args.get("skip", flag(request, "skip"))
    if body.form and given in ("true", "false"):
        return bool(given == "true")
    if not isinstance(given, bool):
        raise SchemaViolation({"skip": "expected a boolean"})
    return given


def _page(
    request: Request, name: str, cursor: str, found: list[dict[str, Any]], size: int
) -> Response:
    """A page and the way to the following one; a full page may have an empty one after it."""
    following = None
    if len(found) == size:
        path = f"{request.state.prefix}/event-hooks/{request.path_params['id']}/{name}"
        following = f"{path}?{cursor}={found[-1]['position']}&size={size}"
    return Json({"data": found, "next": following})

"""`/events`: reporting facts, and reading the log."""

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.bodies import content_digest, content_type, idempotency, media_type, read_bytes
from api.cloudevents import is_cloudevent, name, read
from api.emission import Emitter
from api.emitted import caller_id
from api.feed import find_event, public
from api.queries import page_size, position, seconds
from api.responses import Json, NotFound
from api.routing import route
from api.visibility import sees_event
from eventstore.log import EventLog
from eventstore.records import Append

_LONGEST_WAIT = 60.0  #: seconds


class Emitted(msgspec.Struct, frozen=True, gc=False):
    """The answer to an emit: all events are on disk. `ids` are the callers' own ones, or null.

    `repeated` says that nothing new was stored: the request, or all of its events, were known.
    """

    positions: tuple[int, ...]
    ids: list[str | None]
    repeated: bool


class Events:
    """The endpoints of the log."""

    def __init__(self, log: EventLog, emitter: Emitter) -> None:
        self._log = log
        self._emitter = emitter

    def routes(self) -> list[BaseRoute]:
        return [
            route("/events", GET=self.feed, POST=self.emit),
            route("/events/{id}", GET=self.show),
        ]

    async def emit(self, request: Request) -> Response:
        """Store all events of the body, or none: 202 once they are durable.

        CloudEvents are known by their content type, or by their headers when those hold the event.
        """
        raw = await read_bytes(request)
        state = request.scope["state"]
        given, headers = content_type(request.scope), request.scope["headers"]
        kind = media_type(given)
        if is_cloudevent(kind, headers):
            received = read(raw, given, kind, headers)
            events = self._emitter.cloudevents(received, state["workspace"])
            # Headers belong to the content: they are part of what was understood.
            raw = b"\n".join(event.stream.encode() + b" " + event.body for event in events)
        else:
            events = self._emitter.events(raw, kind, state["workspace"])
        if not events:
            return Json(Emitted((), [], False), 202)
        appended = await self._log.append(
            Append(
                events=tuple(events),
                idempotency=state["idempotency_key"]
                and idempotency(request, content_digest(request, raw)),
                workspace=state["workspace"],
                actor=state["actor"],
                request_id=state["request_id"],
            )
        )
        ids = [caller_id(event) for event in events]
        return Json(Emitted(appended.positions, ids, appended.repeated), 202)

    async def feed(self, request: Request) -> Response:
        """A page of the log after `?after=`: those of its events that the sender may see.

        `next` is null at the end of the log; `head` is its last position. With `?wait=` seconds,
        a request at the end waits that long for something new.
        """
        after = position(request, "after") or 0
        limit = page_size(request)
        with anyio.move_on_after(seconds(request, "wait", _LONGEST_WAIT)):
            await self._log.wait(after)
        page = await self._log.read(after, limit=limit)
        prefix = request.state.prefix
        shown = [public(event) for event in page if sees_event(request.scope, event)]
        more = bool(page) and page[-1].seq < self._log.head
        following = f"{prefix}/events?after={page[-1].seq}&size={limit}" if more else None
        return Json({"data": shown, "next": following, "head": self._log.head})

    async def show(self, request: Request) -> Response:
        """One event, by position or id; by the caller's own id with `?source=`.

        A source with a slash can only be that of a CloudEvent.
        """
        source = request.query_params.get("source")
        event = await find_event(
            self._log,
            request.path_params["id"],
            request.state.workspace,
            name(source) if source is not None and "/" in source else source,
        )
        if not sees_event(request.scope, event):
            raise NotFound
        return Json(public(event))

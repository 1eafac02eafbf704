"""`/events`: reporting facts, and reading the log."""

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.bodies import content_digest, content_type, idempotency, media_type, read_bytes
from api.emission import Emitter, caller_id
from api.feed import find_event, public
from api.queries import page_size, position, seconds
from api.responses import Json
from api.routing import route
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
        """Store all events of the body, or none: 202 once they are durable."""
        raw = await read_bytes(request)
        state = request.scope["state"]
        events = self._emitter.events(
            raw, media_type(content_type(request.scope)), state["workspace"]
        )
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
        """A page of the log after `?after=`, of one workspace if the path names one.

        `next` is null at the end of the log; `head` is its last position. With `?wait=` seconds,
        a request at the end waits that long for something new.
        """
        after = position(request, "after") or 0
        limit = page_size(request)
        with anyio.move_on_after(seconds(request, "wait", _LONGEST_WAIT)):
            await self._log.wait(after)
        page = await self._log.read(after, limit=limit)
        prefix = request.state.prefix
        shown = [public(e) for e in page if not prefix or e.workspace == request.state.workspace]
        more = bool(page) and page[-1].seq < self._log.head
        following = f"{prefix}/events?after={page[-1].seq}&size={limit}" if more else None
        return Json({"data": shown, "next": following, "head": self._log.head})

    async def show(self, request: Request) -> Response:
        """One event, by position or id; by the caller's own id with `?source=`."""
        event = await find_event(
            self._log,
            request.path_params["id"],
            request.state.workspace,
            request.query_params.get("source"),
        )
        return Json(public(event))

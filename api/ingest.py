"""`/ingest/...`: what gateways report about their requests, as it is."""

import logging
from collections.abc import Collection

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import kong_log
from api.bodies import (
    DECODE_ERRORS,
    content_digest,
    content_type,
    idempotency,
    media_type,
    read_bytes,
)
from api.emission import refusal
from api.responses import Json, UnsupportedMediaType
from api.routing import route
from eventstore.errors import IdentityReused
from eventstore.log import EventLog
from eventstore.records import Append, Appended, NewEvent

logger = logging.getLogger("hooktape.api")


class Ingested(msgspec.Struct, frozen=True, gc=False):
    """What became of a report: all events that follow from it are on disk.

    `records` is how many requests were reported, `refused` how many of them could not be read.
    """

    records: int
    refused: int
    positions: tuple[int, ...]
    repeated: bool


class Ingest:
    """`wanted` are the types of events to store, as `<source>/<event>` (see `api.kong_log`)."""

    def __init__(self, log: EventLog, wanted: Collection[str]) -> None:
        self._log = log
        self._wanted = tuple(wanted)

    def routes(self) -> list[BaseRoute]:
        return [route("/ingest/kong-http-log", POST=self.kong_http_log)]

    async def kong_http_log(self, request: Request) -> Response:
        """Store the events of the requests that a gateway's http-log plugin reports.

        All of them together: 202 once they are durable. The plugin sends a batch again until it is
        taken, so a record that cannot be read does not keep the others out: it is counted in the
        answer and told to the service's log. With none that can be read, the answer is 400.
        """
        raw = await read_bytes(request)
        if media_type(content_type(request.scope)) != "application/json":
            raise UnsupportedMediaType
        events: list[NewEvent] = []
        faults: dict[str, str] = {}
        records = kong_log.read(raw)
        for place, record in records.items():
            try:
                events += self._events(record, request.state.workspace)
            except DECODE_ERRORS as error:
                faults[place] = str(error)
        if faults:
            if len(faults) == len(records):
                raise refusal(faults.items())
            _warn(faults, len(records))
        appended = await self._append(request, raw, events)
        return Json(Ingested(len(records), len(faults), appended.positions, appended.repeated), 202)

    def _events(self, record: kong_log.Record | str, workspace: str) -> list[NewEvent]:
        if isinstance(record, str):
            raise kong_log.Unusable(record)
        return kong_log.events(record, self._wanted, workspace)

    async def _append(self, request: Request, raw: bytes, events: list[NewEvent]) -> Appended:
        """An event of a request that told something else before is left out: the first counts."""
        state = request.scope["state"]
        while events:
            try:
                return await self._log.append(
                    Append(
                        events=tuple(events),
                        idempotency=idempotency(request, content_digest(request, raw)),
                        workspace=state["workspace"],
                        actor=state["actor"],
                        request_id=state["request_id"],
                    )
                )
            except IdentityReused as reused:
                if reused.index is None:
                    raise
                logger.warning(
                    "a gateway reported a request again, and otherwise than before: %s",
                    events.pop(reused.index).stream,
                )
        return Appended(())


def _warn(faults: dict[str, str], records: int) -> None:
    place, fault = next(iter(faults.items()))
    logger.warning(
        "%d of %d records of a gateway were refused, the first at %s: %s",
        len(faults),
        records,
        place,
        fault,
    )

"""`/event-hooks/sources`: which events there are, and publishing one's own."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.admin import Circumstances, Decide
from api.bodies import read_body
from api.commands import Decision
from api.emission import RESERVED_FAULT
from api.entities import circumstances
from api.responses import Conflict, Forbidden, Json, NotFound, SchemaViolation
from api.routing import route
from api.validation import inferred, validated
from eventstore.codec import new_event
from eventstore.events import SOURCES_PREFIX, SourcePublished
from eventstore.records import Kind, NewEvent
from projections.checks import event_name
from projections.fields import compile_record
from projections.sources import RESERVED, Definition, Sources
from projections.tables import Table


class Admin(Protocol):
    """Stores what is decided, once every read model shows it."""

    async def store(self, decide: Decide, circumstances: Circumstances) -> object: ...


def _unique_is_known(definition: Mapping[str, Any]) -> Mapping[str, str]:
    """Without `fields`, anything may be unique."""
    fields, unique = definition["fields"], definition["unique"]
    if not isinstance(fields, list) or not isinstance(unique, list):
        return {}
    unknown = [name for name in unique if name not in fields]
    return {"unique": f"not in fields: {', '.join(unknown)}"} if unknown else {}


_DEFINITION: Final = Table(
    name="event_hook_sources",
    path="event-hooks/sources",
    record=compile_record(Definition),
    checks=(_unique_is_known,),
)


class SourceEndpoints:
    """The catalogue: all of it, by source, by event; and publishing."""

    def __init__(self, sources: Sources, admin: Admin) -> None:
        self._sources = sources
        self._admin = admin

    def routes(self) -> list[BaseRoute]:
        path = "/event-hooks/sources"
        return [
            route(path, GET=self.catalogue),
            route(f"{path}/{{source}}", GET=self.source),
            route(f"{path}/{{source}}/{{event}}", GET=self.event, PUT=self.publish),
        ]

    async def catalogue(self, _request: Request) -> Response:
        return Json({"data": self._sources.all()})

    async def source(self, request: Request) -> Response:
        events = self._sources.all().get(request.path_params["source"])
        if events is None:
            raise NotFound
        return Json({"data": events})

    async def event(self, request: Request) -> Response:
        definition = self._sources.current(**request.path_params)
        if definition is None:
            raise NotFound
        return Json({"data": definition})

    async def publish(self, request: Request) -> Response:
        """Define an event, or define it anew; the same definition again changes nothing."""
        source, event = request.path_params["source"], request.path_params["event"]
        body = await read_body(request)
        args = inferred(_DEFINITION.record, body.args) if body.form else body.args
        _refuse_names(source, event)
        definition = msgspec.convert(validated(_DEFINITION, args), Definition)

        def decide() -> Decision:
            if self._sources.current(source, event) == definition:
                return Decision((), None)
            if self._sources.built_in(source, event) is not None:
                raise Conflict(
                    f"'{event}' of source '{source}' is built in: it cannot be redefined"
                )
            return Decision((_published(source, event, definition),), None)

        await self._admin.store(decide, circumstances(request, body))
        return Json({"data": definition})


def _refuse_names(source: str, event: str) -> None:
    names = {"source": source, "event": event}
    if wrong := {field: fault for field, name in names.items() if (fault := event_name(name))}:
        raise SchemaViolation(wrong)
    if source in RESERVED:
        raise Forbidden(f"source '{source}' {RESERVED_FAULT}")


def _published(source: str, event: str, definition: Definition) -> NewEvent:
    fields = msgspec.structs.asdict(definition)
    return new_event(
        SourcePublished(source=source, event=event, **fields),
        stream=f"{SOURCES_PREFIX}{source}/{event}",
        kind=Kind.CONFIG,
    )

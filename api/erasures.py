"""`/erasures`: take bodies away for good, on the running service.

    POST {"event": "<id or position>", "source"?, "reason"}      one event; by the caller's own id
    POST {"subject": "<as in the data>", "reason"}               with its `source`
    POST {"workspace": "<name or id>", "reason"}

200 once it is gone from every file of ours: `erased` bodies, said by the events at `records`. With
`?dry_run=true` the answer says how many there are. Doing it again does nothing. `GET` lists what
was erased, oldest first.
"""

import asyncio
import logging
import sqlite3
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.bodies import idempotency, read_body
from api.feed import find_event, public
from api.queries import flag, page_size, position
from api.responses import Json, SchemaViolation, Unavailable
from api.routing import route
from eventstore.eraser import Erased, Obeyed
from eventstore.erasing import Wanted
from eventstore.errors import LogError, Truncated
from eventstore.events import ERASURE_STREAM, EventsErased
from eventstore.log import EventLog
from eventstore.records import Append
from projections.checks import uuid

_logger = logging.getLogger("hooktape.api")

_PATIENCE: Final = 30.0  #: seconds
_KINDS: Final = ("event", "subject", "workspace")
_TEXT: Final = "length must be between 1 and 1000"

Act = Callable[[int, EventsErased], Awaitable[None]]


class Registry(Protocol):
    """The read models."""

    async def wait_stored(self, seq: int) -> None:
        """Return once nothing is left of what the event at `seq` erased."""
        ...


class Ask(msgspec.Struct, frozen=True):
    """What is to be erased, in the words of whoever asks, and why."""

    what: str
    key: str
    reason: str
    source: str | None = None


class Erasing:
    """Erases with all who have something of a body: `act` does so for delivery."""

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        act: Act,
        workspace: Callable[[str], str | None],
        tasks: TaskGroup,
        patience: float = _PATIENCE,
    ) -> None:
        self._tasks = tasks
        self._patience = patience
        self._log = log
        self._registry = registry
        self._act = act
        self._workspace = workspace

    async def wanted(self, ask: Ask, workspace: str) -> Wanted:
        """Raises NotFound for an event or a workspace that never was."""
        if ask.what == "subject":
            return Wanted("subject", self._log.subject(ask.key).hex())
        if ask.what == "workspace":
            known = self._workspace(ask.key)
            if known is None and uuid(ask.key) is not None:
                raise SchemaViolation({"workspace": "no such workspace; of a deleted one, the id"})
            return Wanted("workspace", known or ask.key.lower())
        try:
            event = await find_event(self._log, ask.key, workspace, ask.source)
        except Truncated:
            # Its body may be in the archive still; its position is all that is known of it.
            return Wanted("event", f"position {ask.key}", int(ask.key))
        return Wanted("event", event.id, event.seq)

    async def count(self, wanted: Wanted) -> int:
        return await self._log.eraser.count(wanted)

    async def erase(self, wanted: Wanted, reason: str, origin: Append) -> Erased:
        """Returns when nothing is left. Whoever asked may go away, or lose patience: it goes on.

        Raises what `Eraser.erase` raises, and Unavailable when it takes long: ask again.
        """
        outcome: Future[Erased] = Future()
        self._tasks.start_soon(self._work, outcome, wanted, reason, origin)
        with anyio.move_on_after(self._patience):
            return await asyncio.shield(outcome)
        raise Unavailable("the erasure goes on, ask for it again to see its end", 5)

    async def _work(
        self, outcome: Future[Erased], wanted: Wanted, reason: str, origin: Append
    ) -> None:
        try:
            outcome.set_result(await self._log.eraser.erase(wanted, reason, origin, self._obeyed))
        except (LogError, OSError, sqlite3.Error) as error:
            _logger.error("an erasure is not finished: %s", error)
            outcome.set_exception(error)
            outcome.exception()  # seen, should nobody wait any more

    @property
    def _obeyed(self) -> Obeyed:
        async def obeyed(seq: int, record: EventsErased) -> None:
            await self._registry.wait_stored(seq)
            await self._act(seq, record)

        return obeyed


class ErasureEndpoints:
    """The erasures of one log."""

    def __init__(self, log: EventLog, erasing: Erasing) -> None:
        self._log = log
        self._erasing = erasing

    def routes(self) -> list[BaseRoute]:
        return [route("/erasures", GET=self.list, POST=self.erase)]

    async def list(self, request: Request) -> Response:
        """What was erased, oldest first; `?after=` is the number of an erasure, from 1."""
        size, after = page_size(request), position(request, "after") or 0
        page = await self._log.read_stream(ERASURE_STREAM, after=after - 1, limit=size)
        following = None
        if len(page) == size:
            following = f"{request.state.prefix}/erasures?after={page[-1].version + 1}&size={size}"
        listed = [public(event) for event in page]
        return Json({"data": listed, "next": following, "log": self._log.log_id})

    async def erase(self, request: Request) -> Response:
        """Take the bodies of events away for good; answered once nothing of them is left."""
        body = await read_body(request)
        ask = asked(body.args)
        wanted = await self._erasing.wanted(ask, request.state.workspace)
        if flag(request, "dry_run"):
            return Json({"would_erase": await self._erasing.count(wanted)})
        origin = Append(
            events=(),
            actor=request.state.actor,
            request_id=request.state.request_id,
            idempotency=idempotency(request, body.digest),
        )
        erased = await self._erasing.erase(wanted, ask.reason, origin)
        return Json({"erased": erased.count, "records": erased.records})


def asked(args: dict[str, Any]) -> Ask:
    """The body, checked. Raises SchemaViolation."""
    known = {*_KINDS, "reason", "source"}
    faults = {name: "unknown field" for name in args if name not in known}
    faults |= {name: _TEXT for name, value in args.items() if name in known and not _text(value)}
    if "reason" not in args:
        faults["reason"] = "required field missing"
    named = [name for name in _KINDS if name in args]
    if faults or len(named) != 1:
        one = () if len(named) == 1 else ("give exactly one of event, subject and workspace",)
        raise SchemaViolation(faults, one)
    return Ask(named[0], str(args[named[0]]), str(args["reason"]), args.get("source"))


def _text(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return value > 0  # a position, or a subject that is a number
    return isinstance(value, str) and 1 <= len(value) <= 1000

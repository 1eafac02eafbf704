"""`/compaction`: take the oldest part of the log away, on the running service.

    POST {"older_than": 2592000}       202: what will be done; it goes on in the background
    POST {..., "dry_run": true}        200: what would be done
    GET                                how far it is, and how the last one ended

The members of the body are those of `eventstore.retention.Policy`.
"""

import logging
import sqlite3
from typing import Any, Protocol

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.bodies import read_body
from api.responses import Conflict, Json, SchemaViolation
from api.routing import route
from eventstore.compaction import Progress
from eventstore.errors import LogDamaged, LogError
from eventstore.events import CompactionFinished
from eventstore.plans import Plan
from eventstore.retention import Policy

_logger = logging.getLogger("hooktape.api")


class Compacts(Protocol):
    """See `eventstore.compaction.Compaction`."""

    async def plan(self, policy: Policy) -> Plan: ...
    async def run(self, policy: Policy, progress: Progress) -> CompactionFinished | None: ...
    async def resume(self, progress: Progress) -> CompactionFinished | None: ...


class CompactionEndpoints:
    """Compacts one after another, in `run`, which the service keeps in the background."""

    def __init__(self, compaction: Compacts) -> None:
        self._compaction = compaction
        self._wanted: Policy | None = None
        self._asked = anyio.Event()
        self._step: dict[str, Any] | None = None
        self._last: CompactionFinished | None = None
        self._problem: str | None = None

    def routes(self) -> list[BaseRoute]:
        return [route("/compaction", GET=self.show, POST=self.start)]

    async def run(self) -> None:
        """Finish what a crash interrupted, then do what is asked for, until cancelled."""
        await self._attempt(None)
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            await self._attempt(self._wanted)
            self._wanted = None

    async def show(self, _request: Request) -> Response:
        """How far a compaction is, and how the last one ended."""
        running = self._step or ({} if self._wanted is not None else None)
        return Json({"running": running, "last": self._last, "problem": self._problem})

    async def start(self, request: Request) -> Response:
        """Take the oldest part of the log away, or say what that would be; one at a time."""
        body = await read_body(request)
        given = dict(body.args)
        dry_run = given.pop("dry_run", False)
        if not isinstance(dry_run, bool):
            raise SchemaViolation({"dry_run": "expected a boolean"})
        try:
            policy = msgspec.convert(given, Policy, strict=not body.form)
        except (msgspec.ValidationError, ValueError) as error:
            raise SchemaViolation({}, [str(error)]) from error
        try:
            plan = await self._compaction.plan(policy)
        except LogDamaged as error:  # the audit says so: then everything stays
            raise Conflict(str(error)) from error
        if dry_run:
            return Json({"plan": plan})
        if self._wanted is not None or self._step is not None:
            raise Conflict("a compaction is running already")
        self._wanted = policy
        self._asked.set()
        return Json({"plan": plan}, 202)

    async def _attempt(self, policy: Policy | None) -> None:
        """Whatever goes wrong is for whoever asks next; what was begun can be gone on with."""
        self._problem = None
        try:
            if policy is None:
                finished = await self._compaction.resume(self._progress)
            else:
                finished = await self._compaction.run(policy, self._progress)
            self._last = finished or self._last
        except (LogError, OSError, sqlite3.Error) as error:
            _logger.error("the compaction failed: %s", error)
            self._problem = str(error)
        except Exception as error:  # a bug in here is no reason to stop the service
            _logger.exception("the compaction failed inside")
            self._problem = f"internal error: {type(error).__name__}"
        finally:
            self._step = None

    def _progress(self, step: str, done: int, total: int) -> None:
        self._step = {"step": step, "done": done, "total": total}

"""Who we are and how we are: `/`, `/status`, `/health/live`, `/health/ready`, `/metrics`."""

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api.metrics import Metrics
from api.responses import Json
from api.routing import route

# ru_maxrss is in kilobytes but for macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the service runs. `configuration` holds no secrets."""

    version: str
    node_id: str
    hostname: str
    configuration: Mapping[str, Any]
    sqlite_version: str


class Log(Protocol):
    """How the log is: see `eventstore.log.EventLog`."""

    @property
    def log_id(self) -> str: ...
    @property
    def first(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def config_head(self) -> int: ...
    @property
    def failure(self) -> str | None: ...


class Registry(Protocol):
    """The read models: all configuration up to `position` has been applied."""

    @property
    def position(self) -> int: ...


class Consumer(Protocol):
    """What delivery says about itself."""

    def summary(self) -> Mapping[str, float]:
        """Counts and levels by name, e.g. `in_flight` or `parked`."""
        ...

    def problems(self) -> Sequence[str]:
        """Why deliveries do not go on, one line each; empty when they do."""
        ...


class Audit(Protocol):
    """How far the log is checked and signed: see `eventstore.auditor.Auditor`."""

    @property
    def size(self) -> int: ...
    @property
    def problem(self) -> str | None: ...


class Jail(Protocol):
    """How users' code is kept."""

    def state(self) -> Mapping[str, Any]:
        """What it runs in and what it cannot do, and the counts."""
        ...

    def counts(self) -> Mapping[str, float]:
        """Calls, kills and the like by name."""
        ...


class Status:
    """The endpoints for operators and machines."""

    def __init__(
        self,
        log: Log,
        about: About,
        registry: Registry,
        consumer: Consumer,
        jail: Jail,
        audit: Audit,
    ) -> None:
        self._log = log
        self._about = about
        self._registry = registry
        self._consumer = consumer
        self._jail = jail
        self._audit = audit
        self._started = time.monotonic()
        self.metrics = Metrics(self.levels)

    def routes(self) -> list[BaseRoute]:
        return [
            route("/", GET=self.root),
            route("/status", GET=self.status),
            route("/health/live", GET=self.live),
            route("/health/ready", GET=self.ready),
            route("/metrics", GET=self.exposition),
        ]

    async def root(self, _request: Request) -> Response:
        """The greeting that tools read the version from."""
        about = self._about
        return Json(
            {
                "tagline": "Welcome to hooktape",
                "version": about.version,
                "node_id": about.node_id,
                "hostname": about.hostname,
                "pid": os.getpid(),
                "configuration": about.configuration,
            }
        )

    async def status(self, _request: Request) -> Response:
        """Kong's `memory`, `server` and `database`; beside them the log and the deliveries."""
        log = self._log
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        uptime = int(time.monotonic() - self._started)
        return Json(
            {
                "memory": {"peak_resident_bytes": peak},
                "server": {"total_requests": self.metrics.requests, "uptime_seconds": uptime},
                "database": {"reachable": log.failure is None},
                "log": {
                    "log_id": log.log_id,
                    "first": log.first,
                    "head": log.head,
                    "config_head": log.config_head,
                    "failure": log.failure,
                    "durable": "fsync on commit",
                    "sqlite_version": self._about.sqlite_version,
                },
                "audit": {"size": self._audit.size, "problem": self._audit.problem},
                "registry": {"position": self._registry.position},
                "delivery": self._consumer.summary(),
                "jail": self._jail.state(),
            }
        )

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return Json({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """503 while writes, configuration or deliveries are impaired.

        The reasons are not for everybody.
        """
        reasons = self.impairments()
        if reasons and request.scope["state"].get("anonymous"):
            return Json({"status": "not ready"}, 503)
        if reasons:
            return Json({"status": "not ready", "reasons": reasons}, 503)
        return Json({"status": "ready"})

    async def exposition(self, request: Request) -> Response:
        """Prometheus text."""
        content, content_type = self.metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"content-type": content_type})

    def impairments(self) -> list[str]:
        """Why the service is not ready, one line each."""
        reasons = []
        if self._log.failure is not None:
            reasons.append(f"log: {self._log.failure}")
        if self._registry.position < self._log.config_head:
            behind = self._log.config_head - self._registry.position
            reasons.append(f"registry: {behind} positions behind the log")
        return reasons + [f"delivery: {problem}" for problem in self._consumer.problems()]

    def levels(self) -> dict[str, float]:
        """The present values that `/metrics` shows beside the requests."""
        log = self._log
        return {
            "log_head": log.head,
            "log_first": log.first,
            "log_writable": log.failure is None,
            "audit_size": self._audit.size,
            "audit_intact": self._audit.problem is None,
            "registry_position": self._registry.position,
            "ready": not self.impairments(),
            **{f"delivery_{name}": value for name, value in self._consumer.summary().items()},
            **{f"jail_{name}": value for name, value in self._jail.counts().items()},
        }

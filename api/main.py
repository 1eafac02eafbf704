"""The composition root: builds the service from its settings, runs it, and takes it down.

The only module that sees everything, and the only owner of signals. SIGTERM and SIGINT stop it:
no new requests, deliveries in flight get `drain_timeout`, results are written down, the log closes
last, exit 0. A second signal ends the process at once, exit 1.
"""

import logging
import os
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import uvicorn
from anyio.abc import TaskGroup
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from api import __version__, logs
from api.admin import Admin
from api.app import create_app
from api.authentication import Guard, Principals
from api.bootstrap import first_super_admin
from api.compaction import CompactionEndpoints
from api.configuration import configuration, located
from api.deliveries import DeliveryEndpoints
from api.directory import all_routes
from api.emission import Emitter
from api.erasures import Erasing, ErasureEndpoints
from api.events import Events
from api.front_door import Policy
from api.hooks import hook_routes
from api.ingest import Ingest
from api.offline import open_compaction
from api.references import visible
from api.responses import Unavailable
from api.settings import Settings, public
from api.sources import SourceEndpoints
from api.status import About, Status
from delivery.assembly import Configuration, Delivering, open_delivery
from delivery.jail.process import JailUnavailable
from delivery.jail.profile import unknown_names
from eventstore.auditor import Auditor
from eventstore.errors import LogError, LogRestored
from eventstore.log import EventLog
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.health import Health
from projections.hooks import Hooks
from projections.runner import Projections
from projections.sources import Sources
from projections.tables import DEFAULT_WORKSPACE, TABLES

_logger = logging.getLogger("hooktape.main")

_FAILED: Final = 1
_UNAVAILABLE: Final = 69
_MISCONFIGURED: Final = 78
_BACKLOG: Final = 2048
# Requests that are still being sent when the service stops get this long, in seconds.
_UNFINISHED: Final = 2


def serve(settings: Settings) -> int:
    """Run until told to stop; the exit code of the process."""
    logs.configure(settings.log_level, settings.log_format, sys.stderr)
    _raise_file_limit()
    try:
        delivery = configuration(settings, __version__)
    except ValueError as error:
        _logger.critical("%s", error)
        return _MISCONFIGURED
    for warning in unknown_names(delivery.jail.profile):
        _logger.warning("%s", warning)
    code = 0
    try:
        anyio.run(_run, settings, delivery, backend_options={"use_uvloop": sys.platform != "win32"})
    except* (LogError, OSError, sqlite3.Error) as group:
        for problem in _leaves(group):
            _logger.critical("cannot go on: %s", problem)
        code = _UNAVAILABLE
    return code


async def _run(settings: Settings, delivery: Configuration) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with _open(settings, delivery) as service, anyio.create_task_group() as background:
            background.start_soon(service.projections.run)
            background.start_soon(service.auditor.run)
            background.start_soon(service.compaction.run)
            background.start_soon(service.delivering.jail.announce)
            if settings.enforce_rbac == "on":
                await first_super_admin(service.admin, settings.admin_token)
            async with anyio.create_task_group() as working:
                working.start_soon(service.delivering.service.run)
                working.start_soon(service.server.serve)
                await anext(signals)
                background.start_soon(_exit_on, signals)
                _logger.info("stopping")
                service.server.should_exit = True
                service.delivering.service.stop()
            background.cancel_scope.cancel()
    _logger.info("stopped")


class _Service(NamedTuple):
    """What runs."""

    projections: Projections
    admin: Admin
    delivering: Delivering
    auditor: Auditor
    compaction: CompactionEndpoints
    server: "_Server"


class _Server(uvicorn.Server):
    """uvicorn on a socket of ours, and without its hands on our signals."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets or [self._listener])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _open(settings: Settings, delivery: Configuration) -> AsyncIterator[_Service]:
    directory = Path(settings.data_dir)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bound(settings))
        log = await stack.enter_async_context(EventLog.open(directory))
        await _accept_restored(log, accept=settings.accept_repeats)
        auditor = await stack.enter_async_context(Auditor.open(log, directory))
        about = _about(settings, log)
        hooks, sources, entities, deliveries = Hooks(), Sources(TABLES), Entities(), Deliveries()
        health = Health()
        projections = await stack.enter_async_context(
            Projections.open(log, directory, [hooks, sources, entities, deliveries, health])
        )
        delivering = await stack.enter_async_context(
            open_delivery(
                log,
                projections,
                hooks,
                sources,
                deliveries,
                directory=directory,
                configuration=located(
                    delivery,
                    address=listener.getsockname()[:2],
                    node_id=about.node_id,
                    hostname=about.hostname,
                ),
            )
        )
        compaction = CompactionEndpoints(
            open_compaction(log, projections, hooks, delivering.service, auditor)
        )
        await log.eraser.complete()
        erasing = Erasing(
            log,
            projections,
            delivering.service.erased,
            entities.workspace,
            await stack.enter_async_context(_background()),
        )
        admin = Admin(log, projections, entities)
        app = _application(
            settings,
            about,
            log,
            projections,
            admin,
            sources,
            health,
            delivering,
            auditor,
            [*compaction.routes(), *ErasureEndpoints(log, erasing).routes()],
        )
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_UNFINISHED,
        )
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _logger.info("listening on %s, data in %s", url, directory, extra={"fields": {"url": url}})
        yield _Service(
            projections, admin, delivering, auditor, compaction, _Server(config, listener)
        )


async def _accept_restored(log: EventLog, *, accept: bool) -> None:
    """Raises LogRestored unless somebody said that deliveries may be repeated."""
    if log.restored is None:
        return
    if not accept:
        raise LogRestored(
            f"the log was restored to {log.restored}: deliveries made after it may be repeated;"
            " start once with --accept-repeats to go on"
        )
    _logger.warning("deliveries may be repeated: the log was restored to %s", log.restored)
    await log.accept_repeats()


@asynccontextmanager
async def _background() -> AsyncIterator[TaskGroup]:
    """For work that nobody waits for; what is under way at the end is for the next start."""
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


def _application(
    settings: Settings,
    about: About,
    log: EventLog,
    projections: Projections,
    admin: Admin,
    sources: Sources,
    health: Health,
    delivering: Delivering,
    auditor: Auditor,
    upkeep: Sequence[BaseRoute],
) -> ASGIApp:
    def hook_exists(hook_id: str, workspace: str) -> bool:
        return visible(admin.view, TABLES["event_hooks"], workspace, hook_id) is not None

    async def check(workspace: str, handler: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await delivering.check(workspace, handler, config)
        except JailUnavailable as error:
            raise Unavailable(str(error)) from error

    status = Status(log, about, projections, delivering.service, delivering.jail, auditor)
    own = [
        *status.routes(),
        *upkeep,
        *Events(
            log, Emitter(sources.current, allow_unpublished=settings.allow_unpublished)
        ).routes(),
        *Ingest(log, settings.ingest_events).routes(),
        *SourceEndpoints(sources, admin).routes(),
        *DeliveryEndpoints(log, delivering.control, hook_exists).routes(),
        *hook_routes(admin, delivering.dispatch, check, defaults=_hook_defaults(settings)),
    ]
    return create_app(
        all_routes(admin, health, log.log_id, own),
        version=__version__,
        policy=Policy.of(
            (settings.admin_address.host, *settings.admin_hosts), settings.cors_origins
        ),
        resolve_workspace=admin.view.workspace,
        default_workspace=DEFAULT_WORKSPACE,
        body_limit=settings.body_limit,
        observe=status.metrics.observe,
        guard=_guard(settings, admin),
    )


def _guard(settings: Settings, admin: Admin) -> Guard | None:
    if settings.enforce_rbac == "off":
        return None
    return Guard(Principals(admin.view, admin.digest))


def _hook_defaults(settings: Settings) -> dict[str, dict[str, Any]]:
    webhook = {"ssl_verify": settings.ssl_verify_default}
    custom = webhook | {"template_engine": settings.template_engine_default}
    return {"webhook": webhook, "webhook-custom": custom}


def _about(settings: Settings, log: EventLog) -> About:
    return About(
        version=__version__,
        node_id=log.log_id,
        hostname=settings.node_name or socket.gethostname(),
        configuration=public(settings),
        sqlite_version=sqlite3.sqlite_version,
    )


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, taken before anything else is touched. Raises OSError."""
    host, port = settings.admin_address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    with socket.create_server(address[:2], family=family, backlog=_BACKLOG) as listener:
        yield listener


def _raise_file_limit() -> None:
    """Every attempt in flight is a socket; the usual soft limit of 1024 is too low for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _exit_on(signals: AsyncIterator[signal.Signals]) -> None:
    """Whoever signals twice does not want to wait: what is not written down is repeated later."""
    await anext(signals)
    _logger.warning("stopped by a second signal")
    logging.shutdown()
    os._exit(_FAILED)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error

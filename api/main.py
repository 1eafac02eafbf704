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
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import msgspec
import uvicorn
from starlette.types import ASGIApp

from api import __version__, logs
from api.admin import Admin
from api.app import create_app
from api.commands import visible
from api.deliveries import DeliveryEndpoints
from api.emission import Emitter
from api.entities import entity_routes
from api.events import Events
from api.front_door import Policy
from api.hooks import hook_routes
from api.responses import Unavailable
from api.settings import Settings
from api.sources import SourceEndpoints
from api.status import About, Status
from delivery.address import AddressPolicy
from delivery.admission import Limits
from delivery.assembly import Configuration, Delivering, open_delivery
from delivery.lambda_frames import Limits as LambdaLimits
from delivery.lambda_pool import LambdaOptions
from delivery.lambda_process import LambdaUnavailable
from delivery.retry import RetryPolicy
from delivery.service import DeliveryOptions
from eventstore.errors import LogError
from eventstore.log import EventLog
from projections.deliveries import Deliveries
from projections.entities import Entities
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
        addresses = _addresses(settings)
    except ValueError as error:
        _logger.critical("egress_allow: %s", error)
        return _MISCONFIGURED
    code = 0
    try:
        anyio.run(
            _run, settings, addresses, backend_options={"use_uvloop": sys.platform != "win32"}
        )
    except* (LogError, OSError, sqlite3.Error) as group:
        for problem in _leaves(group):
            _logger.critical("cannot go on: %s", problem)
        code = _UNAVAILABLE
    return code


async def _run(settings: Settings, addresses: AddressPolicy) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with _open(settings, addresses) as service, anyio.create_task_group() as background:
            background.start_soon(service.projections.run)
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
    delivering: Delivering
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
async def _open(settings: Settings, addresses: AddressPolicy) -> AsyncIterator[_Service]:
    directory = Path(settings.data_dir)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bound(settings))
        log = await stack.enter_async_context(EventLog.open(directory))
        hooks, sources, entities, deliveries = Hooks(), Sources(TABLES), Entities(), Deliveries()
        projections = await stack.enter_async_context(
            Projections.open(log, directory, [hooks, sources, entities, deliveries])
        )
        delivering = await stack.enter_async_context(
            open_delivery(
                log,
                projections,
                hooks,
                sources,
                deliveries,
                directory=directory,
                configuration=_delivery(settings, addresses, listener),
            )
        )
        app = _application(settings, log, projections, entities, sources, delivering)
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
        yield _Service(projections, delivering, _Server(config, listener))


def _application(
    settings: Settings,
    log: EventLog,
    projections: Projections,
    entities: Entities,
    sources: Sources,
    delivering: Delivering,
) -> ASGIApp:
    def hook_exists(hook_id: str, workspace: str) -> bool:
        return visible(entities, TABLES["event_hooks"], workspace, hook_id) is not None

    async def check(handler: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return await delivering.check(handler, config)
        except LambdaUnavailable as error:
            raise Unavailable(str(error)) from error

    admin = Admin(log, projections, entities)
    status = Status(log, _about(settings, log), projections, delivering.service)
    endpoints = [
        *status.routes(),
        *Events(
            log, Emitter(sources.current, allow_unpublished=settings.allow_unpublished)
        ).routes(),
        *SourceEndpoints(sources, admin).routes(),
        *DeliveryEndpoints(log, delivering.control, hook_exists).routes(),
        *hook_routes(admin, delivering.dispatch, check, ssl_verify=settings.ssl_verify_default),
        *entity_routes(admin),
    ]
    return create_app(
        endpoints,
        version=__version__,
        policy=Policy.of(
            (settings.admin_address.host, *settings.admin_hosts), settings.cors_origins
        ),
        resolve_workspace=entities.workspace,
        default_workspace=DEFAULT_WORKSPACE,
        body_limit=settings.body_limit,
        observe=status.metrics.observe,
    )


def _delivery(
    settings: Settings, addresses: AddressPolicy, listener: socket.socket
) -> Configuration:
    own = listener.getsockname()[:2]
    return Configuration(
        addresses=msgspec.structs.replace(addresses, own=frozenset({own})),
        timeout=settings.delivery_timeout,
        response_cap=settings.response_cap,
        user_agent=f"hooktape/{__version__}",
        options=DeliveryOptions(
            enabled=settings.event_hooks_enabled,
            limits=Limits(
                hook=settings.hook_concurrency,
                host=settings.host_concurrency,
                total=settings.total_concurrency,
            ),
            policy=RetryPolicy(
                schedule=settings.retry_schedule, retry_after_cap=settings.retry_after_cap
            ),
            drain_timeout=settings.drain_timeout,
        ),
        lambdas=LambdaOptions(
            workers=settings.lambda_workers,
            wall_seconds=settings.lambda_timeout,
            limits=LambdaLimits(cpu_seconds=settings.lambda_cpu, lua_memory=settings.lambda_memory),
        ),
        lambda_success=settings.lambda_success,
    )


def _about(settings: Settings, log: EventLog) -> About:
    return About(
        version=__version__,
        node_id=log.log_id,
        hostname=settings.node_name or socket.gethostname(),
        configuration=msgspec.to_builtins(settings),
        sqlite_version=sqlite3.sqlite_version,
    )


def _addresses(settings: Settings) -> AddressPolicy:
    """Loopback receivers are allowed while the Admin API itself is reachable from there only."""
    host = settings.admin_address.host
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return AddressPolicy.parse(settings.egress_allow, allow_loopback=loopback)


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

"""Puts the delivery side together: handlers, consumer, and what the Admin API asks of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from eventstore.log import EventLog
from projections.deliveries import Deliveries
from projections.hooks import Hook, Hooks
from projections.runner import Projections
from projections.sources import Sources

from . import webhook
from .address import AddressPolicy
from .breaker import Breaker
from .control import DeliveryControl
from .effects import Effects
from .egress import Egress
from .jail.overview import Overview
from .jail.pool import JailOptions, WorkerPool
from .lambda_handler import LambdaHandler, LambdaSuccess
from .log_handler import LogHandler
from .matching import REQUEST
from .outcome import Delivery, Outcome, delivery_id
from .perform import Perform
from .queued_request import QueuedRequest
from .rendering import Renderer
from .service import DeliveryOptions, DeliveryService
from .webhook import Webhook
from .webhook_custom import WebhookCustom


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout` in seconds for a whole exchange, `response_cap` in bytes.

    `jail` is where users' code runs. Without `lua`, only Jinja templates do.
    """

    addresses: AddressPolicy
    timeout: float = 15.0
    response_cap: int = 65_536
    user_agent: str = "hooktape"
    options: DeliveryOptions = DeliveryOptions()
    jail: JailOptions = JailOptions()
    lua: bool = True
    lambda_success: LambdaSuccess = "true"


class Delivering:
    """The running parts. `service` delivers from the log; `dispatch` and `check` serve the API."""

    def __init__(
        self,
        service: DeliveryService,
        control: DeliveryControl,
        jail: Overview,
        perform: Perform,
        lambdas: LambdaHandler,
        custom: WebhookCustom,
    ) -> None:
        self.service = service
        self.control = control
        self.jail = jail
        self._perform = perform
        self._lambdas = lambdas
        self._custom = custom

    async def dispatch(
        self, hook: Hook, *, source: str, event: str, data: dict[str, Any], dry_run: bool = False
    ) -> Outcome:
        """One attempt at once, outside the log, for `/test` and `/ping`. Each is a new delivery."""
        by_hand = str(uuid4())
        return await self._perform(
            Delivery(
                id=delivery_id(hook.id, by_hand, "by hand"),
                hook=hook,
                seq=0,
                event_id=by_hand,
                source=source,
                event=event,
                data=data,
                time_us=0,
                purpose="by hand",
                dry_run=dry_run,
            )
        )

    async def check(
        self, workspace: str, handler: str, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What keeps `handler` from working with `config`, nested like it; empty when nothing.

        Raises JailUnavailable when no worker can be had to compile code in.
        """
        if handler == "webhook":
            return nested(webhook.validate(config))
        if handler == "webhook-custom":
            return nested(await self._custom.validate(workspace, config))
        if handler == "lambda":
            return nested(await self._lambdas.validate(workspace, config))
        return {}


@asynccontextmanager
async def open_delivery(
    log: EventLog,
    projections: Projections,
    hooks: Hooks,
    sources: Sources,
    deliveries: Deliveries,
    *,
    directory: Path,
    configuration: Configuration,
) -> AsyncIterator[Delivering]:
    """Everything open and nothing running: that is `service.run`. Raises `LogDiverged`."""
    async with (
        Egress(
            configuration.addresses,
            timeout=configuration.timeout,
            response_cap=configuration.response_cap,
            user_agent=configuration.user_agent,
        ) as egress,
        WorkerPool.open(configuration.jail) as jail,
        WorkerPool.open(
            msgspec.structs.replace(configuration.jail, engine="jinja2", spares=0)
        ) as jinja,
    ):
        lua, breaker = jail if configuration.lua else None, Breaker()
        lambdas = LambdaHandler(lua, Effects(log), breaker, success=configuration.lambda_success)
        custom = WebhookCustom(egress, Renderer(lua, jinja, breaker))
        perform = Perform(
            {
                "webhook": Webhook(egress),
                "webhook-custom": custom,
                "log": LogHandler(),
                "lambda": lambdas,
                REQUEST: QueuedRequest(egress),
            }
        )
        async with DeliveryService.open(
            log,
            projections,
            hooks,
            sources,
            directory=directory,
            perform=perform,
            options=configuration.options,
        ) as service:
            control = DeliveryControl(log, projections, hooks, deliveries, service)
            pools = (jail, jinja) if configuration.lua else (jinja,)
            yield Delivering(service, control, Overview(pools), perform, lambdas, custom)


def nested(faults: Mapping[str, str]) -> dict[str, Any]:
    """`{"config.payload.text": …}` as `{"payload": {"text": …}}`."""
    tree: dict[str, Any] = {}
    for path, fault in faults.items():
        *parents, leaf = path.split(".")[1:] or [path]
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = fault
    return tree

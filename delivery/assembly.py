"""Puts the delivery side together: handlers, consumer, and what the Admin API asks of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from eventstore.log import EventLog
from projections.deliveries import Deliveries
from projections.hooks import Hook, Hooks
from projections.runner import Projections
from projections.sources import Sources

from . import webhook, webhook_custom
from .address import AddressPolicy
from .control import DeliveryControl
from .egress import Egress
from .lambda_handler import LambdaHandler, LambdaSuccess
from .lambda_pool import LambdaOptions, LambdaPool
from .log_handler import LogHandler
from .outcome import Delivery, Outcome, delivery_id
from .perform import Perform
from .service import DeliveryOptions, DeliveryService
from .webhook import Webhook
from .webhook_custom import WebhookCustom


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout` in seconds for a whole exchange, `response_cap` in bytes."""

    addresses: AddressPolicy
    timeout: float = 15.0
    response_cap: int = 65_536
    user_agent: str = "hooktape"
    options: DeliveryOptions = DeliveryOptions()
    lambdas: LambdaOptions = LambdaOptions()
    lambda_success: LambdaSuccess = "true"


class Delivering:
    """The running parts. `service` delivers from the log; `dispatch` and `check` serve the API."""

    def __init__(
        self,
        service: DeliveryService,
        control: DeliveryControl,
        perform: Perform,
        lambdas: LambdaHandler,
    ) -> None:
        self.service = service
        self.control = control
        self._perform = perform
        self._lambdas = lambdas

    async def dispatch(
        self, hook: Hook, *, source: str, event: str, data: dict[str, Any]
    ) -> Outcome:
        """One attempt at once, outside the log, for `/test` and `/ping`."""
        by_hand = str(hook.version)
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
            )
        )

    async def check(self, handler: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """What keeps `handler` from working with `config`, nested like it; empty when nothing.

        Raises LambdaUnavailable when no worker can be had to compile functions in.
        """
        if handler == "webhook":
            return nested(webhook.validate(config))
        if handler == "webhook-custom":
            return nested(webhook_custom.validate(config))
        if handler == "lambda":
            return nested(await self._lambdas.validate(config))
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
        LambdaPool.open(configuration.lambdas) as pool,
    ):
        lambdas = LambdaHandler(pool, success=configuration.lambda_success)
        perform = Perform(
            {
                "webhook": Webhook(egress),
                "webhook-custom": WebhookCustom(egress),
                "log": LogHandler(),
                "lambda": lambdas,
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
            yield Delivering(service, control, perform, lambdas)


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

"""One attempt: the hook's handler, and the edge at which its bugs become outcomes."""

import logging
from collections.abc import Mapping

from .outcome import Delivery, Handler, Outcome

_logger = logging.getLogger("hooktape.delivery")


class Perform:
    """Calls the handler of a delivery's hook. Raises nothing but cancellation."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, delivery: Delivery) -> Outcome:
        try:
            return await self._handlers[delivery.hook.handler](delivery)
        except Exception as error:
            _logger.exception("handler %s raised", delivery.hook.handler)
            return Outcome(ok=False, reason=f"internal error: {type(error).__name__}")

"""One attempt: the hook's handler, and the edge at which its bugs become outcomes."""

import logging
from collections.abc import Mapping

from .matching import REQUEST
from .outcome import Delivery, Handler, Outcome

_logger = logging.getLogger("hooktape.delivery")


class Perform:
    """Calls the handler of a delivery's hook, or `REQUEST` for a request that a function queued.

    Raises nothing but cancellation.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def __call__(self, delivery: Delivery) -> Outcome:
        name = REQUEST if delivery.purpose == REQUEST else delivery.hook.handler
        try:
            return await self._handlers[name](delivery)
        except Exception as error:
            _logger.exception("handler %s raised", name)
            return Outcome(ok=False, reason=f"internal error: {type(error).__name__}")

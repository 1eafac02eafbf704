"""Makes the requests that functions queued, under the rules of every webhook."""

import time
from collections.abc import Callable

import msgspec

from projections.hooks import WebhookConfig

from .egress import Egress
from .outcome import Delivery, Outcome, Outgoing
from .webhook import lower, send


class QueuedRequest:
    """Sends the request that a delivery is. Raises nothing but cancellation.

    It goes out as the function wrote it, with the delivery's id and time beside it and no
    signature: the hook of a function has no secret. Certificates are always verified.
    """

    def __init__(self, egress: Egress, clock: Callable[[], float] = time.time) -> None:
        self._egress = egress
        self._clock = clock

    async def __call__(self, delivery: Delivery) -> Outcome:
        wanted = delivery.data
        request = Outgoing(
            wanted["method"], wanted["url"], lower(wanted["headers"]), wanted["body"].encode()
        )
        config = WebhookConfig(url=request.url)
        outcome = await send(self._egress, request, delivery, config, self._clock())
        if outcome.gone:  # one of the places that the functions write to, not the hook itself
            return msgspec.structs.replace(outcome, gone=False, retryable=False)
        return outcome

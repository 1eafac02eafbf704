"""The `lambda` handler: runs a hook's Lua functions on an event, in a worker process."""

import logging
import os
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from delivery.lambda_frames import Arguments, Call
from delivery.lambda_pool import LambdaPool, Ran
from delivery.lambda_process import LambdaUnavailable
from delivery.outcome import Delivery, Outcome
from projections.hooks import LambdaConfig

_log = logging.getLogger("hooktape.delivery.lambda")

MAX_SOURCE = 64 * 1024
"""Bytes of one function."""

LambdaSuccess = Literal["true", "no_error"]


class LambdaHandler:
    """Performs lambda deliveries and checks lambda configurations.

    `success` says when a function succeeded: "true" if it returns exactly true, as in Kong since
    2025; "no_error" if it returns at all, for functions written before.
    """

    def __init__(self, pool: LambdaPool, *, success: LambdaSuccess = "true") -> None:
        self._pool = pool
        self._lenient = success == "no_error"

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Run the functions in order, up to the first that fails. Logs what they log."""
        hook = delivery.hook
        config = msgspec.convert(hook.config, LambdaConfig)
        call = Call(
            workspace=hook.workspace,
            hook=hook.id,
            functions=tuple(config.functions),
            arguments=Arguments(
                data=msgspec.json.encode(delivery.data),
                event=delivery.event,
                source=delivery.source,
                pid=os.getpid(),
                lenient=self._lenient,
            ),
        )
        try:
            ran = await self._pool.run(call)
        except LambdaUnavailable as problem:
            ran = Ran(str(problem))
        _write_log(hook.id, ran)
        if ran.error is not None:
            return Outcome(ok=False, reason=ran.error)
        return Outcome(ok=True, result=True)

    async def validate(self, config: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a configuration, by the path of the field; empty when nothing is.

        `config` has passed the entity's field checks. Raises LambdaUnavailable.
        """
        functions = msgspec.convert(config, LambdaConfig).functions
        errors = [
            f"function {index} has {size} bytes, at most {MAX_SOURCE} are allowed"
            for index, source in enumerate(functions, 1)
            if (size := len(source.encode())) > MAX_SOURCE
        ]
        errors = errors or await self._pool.check(functions)
        return {"config.functions": "; ".join(errors)} if errors else {}


def _write_log(hook: str, ran: Ran) -> None:
    for level, text in ran.lines:
        _log.log(level, "hook %s: %s", hook, text)
    if ran.error is not None:
        # Kong's words, place included: people search their logs for them.
        _log.error("[kong] event_hooks.lua:190 %s", ran.error, extra={"hook": hook})

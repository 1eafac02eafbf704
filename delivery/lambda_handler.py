"""The `lambda` handler: runs a hook's Lua functions on an event, in a jailed worker."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from eventstore.errors import LogError
from projections.hooks import LambdaConfig

from .breaker import Breaker
from .effects import MAX_DEPTH, EffectsRefused
from .jail.frames import Arguments, Call, Effect, Functions
from .jail.pool import WorkerPool
from .jail.process import JailUnavailable
from .jail.ran import Fault, Ran
from .outcome import Delivery, Outcome

_log = logging.getLogger("hooktape.delivery.lambda")

MAX_SOURCE: Final = 64 * 1024
"""Bytes of one function."""

LUA_OFF: Final = (
    "loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'"
)
"""Kong's words."""

LambdaSuccess = Literal["true", "no_error"]


class StoreEffects(Protocol):
    """Where effects go: see `effects.Effects`."""

    async def store(self, delivery: Delivery, effects: Sequence[Effect]) -> None: ...


class LambdaHandler:
    """Performs lambda deliveries and checks lambda configurations. Without a pool, Lua is off.

    `success` says when a function succeeded: "true" if it returns exactly true, as in Kong since
    2025; "no_error" if it returns at all, for functions written before.
    """

    def __init__(
        self,
        pool: WorkerPool | None,
        effects: StoreEffects,
        breaker: Breaker,
        *,
        success: LambdaSuccess = "true",
    ) -> None:
        self._pool = pool
        self._effects = effects
        self._breaker = breaker
        self._lenient = success == "no_error"

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Run the functions in order, up to the first that fails. Logs what they log.

        What they want done is in the log before this is a success.
        """
        hook = delivery.hook
        ran = await self._run(delivery)
        _write_log(hook.id, ran)
        outcome = self._breaker.failure(hook, ran)
        if outcome is None:
            outcome = await self._finish(delivery, ran)
        return msgspec.structs.replace(outcome, logs=ran.lines, effects=_shown(ran.effects))

    async def validate(self, workspace: str, config: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with a configuration, by the path of the field; empty when nothing is.

        Each chunk is compiled and run, as creating it does in Kong, but not the function it makes.
        `config` has passed the entity's field checks. Raises JailUnavailable.
        """
        if self._pool is None:
            return {"config.functions": LUA_OFF}
        functions = msgspec.convert(config, LambdaConfig).functions
        errors = [
            f"function {index} has {size} bytes, at most {MAX_SOURCE} are allowed"
            for index, source in enumerate(functions, 1)
            if (size := len(source.encode())) > MAX_SOURCE
        ]
        if not errors:
            checked = await self._pool.run(Call(workspace, "", Functions(tuple(functions))))
            errors = [fault.text for fault in checked.faults]
        return {"config.functions": "; ".join(errors)} if errors else {}

    async def _run(self, delivery: Delivery) -> Ran:
        if self._pool is None:
            return _failed(LUA_OFF)
        hook = delivery.hook
        functions = tuple(msgspec.convert(hook.config, LambdaConfig).functions)
        arguments = Arguments(
            data=msgspec.json.encode(delivery.data),
            event=delivery.event,
            source=delivery.source,
            pid=os.getpid(),
            lenient=self._lenient,
            depth=min(len(delivery.emitters), MAX_DEPTH),
        )
        try:
            return await self._pool.run(
                Call(hook.workspace, hook.id, Functions(functions), arguments)
            )
        except JailUnavailable as problem:
            return _failed(str(problem))

    async def _finish(self, delivery: Delivery, ran: Ran) -> Outcome:
        if ran.effects and not delivery.dry_run:
            try:
                await self._effects.store(delivery, ran.effects)
            except (LogError, EffectsRefused) as problem:
                return Outcome(ok=False, reason=f"its effects are not stored: {problem}")
        return Outcome(ok=True, result=_result(ran))


def _failed(text: str) -> Ran:
    return Ran(faults=(Fault(0, None, text),))


def _result(ran: Ran) -> Any:
    return True if ran.result is None else msgspec.json.decode(_text(ran.result))


def _shown(effects: Sequence[Effect]) -> tuple[dict[str, Any], ...]:
    return tuple({effect.kind: msgspec.json.decode(_text(effect.content))} for effect in effects)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _write_log(hook: str, ran: Ran) -> None:
    for level, text in ran.lines:
        _log.log(level, "hook %s: %s", hook, text)
    if ran.error is not None:
        # Kong's words, place included: people search their logs for them.
        _log.error("[kong] event_hooks.lua:190 %s", ran.error, extra={"hook": hook})

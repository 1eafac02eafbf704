"""Administrative writes: one at a time, decided on what is, stored, and then visible."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import anyio
import msgspec

from api.commands import Decision
from api.responses import RequestError, Unavailable
from eventstore.errors import ConfigMoved
from eventstore.log import EventLog
from eventstore.looking_back import event_at
from eventstore.records import Append, Appended, Idempotency
from projections.entities import Entities, Entity, evolve

_ATTEMPTS: Final = 10

Decide = Callable[[], Decision]
Examine = Callable[[dict[str, Any], str], Awaitable[None]]
"""Looks at a whole entity and its workspace before it is stored, at leisure; raises to refuse."""


class Registry(Protocol):
    """Keeps the read models in step with the log."""

    @property
    def position(self) -> int:
        """Every configuration change up to here has been applied."""
        ...

    async def wait_applied(self, seq: int) -> None:
        """Return once the event at `seq` has been applied."""
        ...


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes, where, and under which names the request is known."""

    workspace: str
    actor: str | None = None
    request_id: str | None = None
    idempotency: Idempotency | None = None


class Admin:
    """The write side of the Admin API. `view` is what `registry` keeps in step."""

    def __init__(
        self,
        log: EventLog,
        registry: Registry,
        view: Entities,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.view = view
        self.clock = clock
        self._log = log
        self._registry = registry
        self._lock = anyio.Lock()

    def digest(self, token: str) -> str:
        """What is kept of a token or password: useless without the secret beside the log.

        A keyed digest and no slow hash. It is looked up with every request, so it must be the same
        each time and quick: with a slow hash, which has a salt of its own, every unknown token
        would cost one computation per user. A stolen log alone allows no guessing; whoever has the
        key file too can guess as fast as they compute, so tokens should be random.
        """
        return self._log.digest(f"token\0{token}").hex()

    async def write(
        self,
        decide: Decide,
        circumstances: Circumstances,
        table: str,
        examine: Examine | None = None,
    ) -> Entity | None:
        """Store what `decide` comes to, and answer with the entity of `table` as that left it.

        None when there is none afterwards. Raises what `store` raises.
        """
        stored = await self.store(decide, circumstances, examine)
        if stored is None:
            return None
        first, *more = stored.positions
        events = [await event_at(self._log, seq) for seq in (first, *more)]
        changes = (evolve(event) for event in reversed(events))
        return next(
            entity
            for change in changes
            for stream, entity in change.items()
            if stream.startswith(f"{table}/")
        )

    async def store(
        self, decide: Decide, circumstances: Circumstances, examine: Examine | None = None
    ) -> Appended | None:
        """Store what `decide` comes to; None when that is nothing. The read models show it then.

        `decide` is asked again whenever configuration moved in between, so it must be pure. A
        repeated request stores nothing and is answered as the first time, refused or not by now.
        Raises what `decide` and `examine` raise, and the log's errors.
        """
        try:
            examined = await _examined(decide, examine, circumstances) if examine else None
            async with self._lock:
                return await self._decided(decide, circumstances, examine, examined)
        except RequestError:
            key = circumstances.idempotency
            if key is not None and (first := await self._log.recall(key)):
                return first
            raise

    async def _decided(
        self,
        decide: Decide,
        circumstances: Circumstances,
        examine: Examine | None,
        examined: dict[str, Any] | None,
    ) -> Appended | None:
        for _ in range(_ATTEMPTS):
            position = self._registry.position
            decision = decide()
            if examine is not None and decision.entity not in (None, examined):
                examined = decision.entity
                await examine(examined, circumstances.workspace)
            try:
                return await self._append(decision, position, circumstances)
            except ConfigMoved as moved:
                await self._registry.wait_applied(moved.actual)
        raise Unavailable("configuration keeps changing, try again")

    async def _append(
        self, decision: Decision, position: int, circumstances: Circumstances
    ) -> Appended | None:
        if not decision.events:
            return None
        appended = await self._log.append(
            Append(
                events=decision.events,
                config_since=position,
                idempotency=circumstances.idempotency,
                workspace=circumstances.workspace,
                actor=circumstances.actor,
                request_id=circumstances.request_id,
            )
        )
        await self._registry.wait_applied(appended.positions[-1])
        return appended


async def _examined(
    decide: Decide, examine: Examine, circumstances: Circumstances
) -> dict[str, Any] | None:
    """What `decide` will probably come to, examined before anyone has to wait for it."""
    try:
        decision = decide()
    except RequestError:
        return None  # for the real decision to raise, which knows repeated requests
    if decision.entity is not None:
        await examine(decision.entity, circumstances.workspace)
    return decision.entity

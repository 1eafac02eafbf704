"""A service under load that is killed again and again, and what is wrong with it afterwards.

    violations = await Campaign(directory, seed=7).run(kills=24)

Five hooks want what the producers send, see `evidence`; their receiver is a process of its own. The
seed decides what is sent and when the service is killed; how far it has come by then, the machine
decides.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import msgspec

from tests.faults import checks, evidence
from tests.faults.evidence import FAILING_FIRST, HOOKS
from tests.faults.producers import Producers
from tests.receiver import read_log
from tests.service import ROOT, Service, environment, serving, until

IN_FLIGHT = 80
"""Attempts under way at most: five hooks with 16 each."""

SETTINGS: dict[str, Any] = {
    "hook_concurrency": IN_FLIGHT // len(HOOKS),
    "total_concurrency": IN_FLIGHT,
    "retry_schedule": ",".join(["0.3"] * 10),
}
DERIVED = ("view.db*", "state.db*")

_SAMPLE = 100
"""Events whose fate is asked for, hook by hook; asking for all takes too long."""

State = dict[str, object]
"""What the Admin API says, by what it was asked."""


class Summary(msgspec.Struct, frozen=True):
    """A campaign in numbers."""

    attempted: int
    acknowledged: int
    stored: int
    deliveries: int
    repeated: int  #: after that kill which repeated most


class Campaign:
    """One data directory, one receiver, any number of kills."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._data = directory / "data"
        self._seen = directory / "seen.jsonl"
        self._seed = seed
        self._random = Random(seed)  # noqa: S311 - a reproducible one is wanted

    async def run(self, kills: int, progress: Callable[[], None] = lambda: None) -> list[str]:
        """Kill, recover and compare. The violations, one line each; `progress` after each kill."""
        async with (
            receiving(self._seen) as receiver,
            httpx.AsyncClient(trust_env=False, timeout=10) as client,
        ):
            self._producers = Producers(client, self._seed)
            async with serving(self._data, **SETTINGS) as service:
                await _configure(service, receiver)
            async with anyio.create_task_group() as tasks:
                self._producers.start(tasks)
                for _ in range(kills):
                    await self._live_and_die()
                    await _mark(client, receiver)
                    progress()
                live = await self._recover()
            await _mark(client, receiver)
            for pattern in DERIVED:
                for path in self._data.glob(pattern):
                    path.unlink()
            rebuilt = await self._recover()
        return [*self._violations(kills), *checks.states_are_equal(live, rebuilt)]

    def summary(self) -> Summary:
        """How much was done, as a measure of what no violation means."""
        arrivals = evidence.on_healthy_hooks(evidence.read_arrivals(read_log(self._seen)))
        return Summary(
            attempted=len(self._producers.attempted),
            acknowledged=self._producers.acknowledged,
            stored=len(evidence.read_stored(self._data / "log.db")),
            deliveries=len({arrival.delivery for arrival in arrivals}),
            repeated=max(checks.lost_completions(arrivals).values(), default=0),
        )

    async def _live_and_die(self) -> None:
        """One life of the service. One in five ends before it is ready, or soon after."""
        early = self._random.uniform(0, 1.5) if self._random.random() < 0.2 else None
        late = self._random.uniform(0, 0.5)
        with anyio.move_on_after(early):
            async with serving(self._data, **SETTINGS) as service:
                self._producers.url = service.url
                await anyio.sleep(late)  # not for anything: the kill comes at any moment
                if service.process.returncode is not None:
                    raise AssertionError(f"the service ended by itself:\n{service.output}")

    async def _recover(self) -> State:
        """Start the service once more, let all be sent and delivered, and take down its state."""
        async with serving(self._data, **SETTINGS) as service:
            self._producers.url = service.url
            self._producers.end()
            await until(lambda: self._settled(service), within=120)
            state = await self._state(service)
            if await service.stop() != 0:
                raise AssertionError(f"the service did not stop properly:\n{service.output}")
        return state

    async def _settled(self, service: Service) -> bool:
        if self._producers.acknowledged < len(self._producers.attempted):
            return False
        delivery = (await service.get("/status"))["delivery"]
        return not (delivery["behind"] or delivery["open"] or delivery["in_flight"])

    async def _state(self, service: Service) -> State:
        state: State = {"/event-hooks/sources": await service.get("/event-hooks/sources")}
        for path in ("/event-hooks", "/consumers"):
            state[path] = await _pages(service, path)
        for hook in await _pages(service, "/event-hooks"):
            parked = await _pages(service, f"/event-hooks/{hook['id']}/parked")
            state[f"parked for {hook['id']}"] = [each["id"] for each in parked]
        positions = sorted(self._producers.positions.values())
        for position in Random(self._seed).choices(positions, k=_SAMPLE):  # noqa: S311
            state[f"the fate of {position}"] = await service.states(position)
        return state

    def _violations(self, kills: int) -> Iterator[str]:
        for file in ("log.db", "state.db", "view.db"):
            if (found := evidence.integrity(self._data / file)) != "ok":
                yield f"{file} is damaged: {found}"
        sent, stored = self._producers, evidence.read_stored(self._data / "log.db")
        arrivals = list(evidence.read_arrivals(read_log(self._seen)))
        at = {event.stream: event.seq for event in stored if event.version == 0}
        created = {name: at.get(f"consumers/{id_}", 0) for name, id_ in sent.consumers.items()}
        yield from checks.acknowledged_are_stored_once(sent.positions | created, stored)
        yield from checks.stored_were_attempted(sent.attempted, stored)
        yield from checks.batches_are_whole(sent.batches, stored)
        yield from checks.positions_have_no_holes(stored)
        yield from checks.versions_have_no_holes(stored)
        yield from checks.matches_are_delivered(evidence.wanted(stored), arrivals)
        yield from checks.failures_are_tried_again(
            arrival for arrival in arrivals if arrival.hook == FAILING_FIRST
        )
        yield from checks.deliveries_have_one_id(arrivals)
        yield from checks.repeats_are_bounded(evidence.on_healthy_hooks(arrivals), IN_FLIGHT)
        yield from checks.rebuilding_calls_nobody(arrivals, kills + 1)


@asynccontextmanager
async def receiving(log: Path) -> AsyncIterator[str]:
    """A receiver in a process of its own that writes to `log`; its URL."""
    command = [sys.executable, str(ROOT / "tests/receiver.py"), "--log", str(log)]
    async with await anyio.open_process(
        command, stdin=subprocess.DEVNULL, stderr=None, env=environment()
    ) as process:
        assert process.stdout is not None
        try:
            yield (await process.stdout.receive()).decode().strip()
        finally:
            process.kill()


async def _configure(service: Service, receiver: str) -> None:
    for event in ("a", "b"):
        path = f"/event-hooks/sources/team/{event}"
        (await service.client.put(path, json={})).raise_for_status()
    for path, hook in HOOKS.items():
        await service.post("/event-hooks", hook | {"config": {"url": receiver + path}})


async def _mark(client: httpx.AsyncClient, receiver: str) -> None:
    """Tell the receiver that the service is dead, once it has read what the service had sent.

    Everything sent is in the receiver's sockets by now; the second mark comes by a connection that
    it accepts after it has looked at all of these.
    """
    for _ in range(2):
        headers = {"connection": "close"}
        (await client.post(receiver + evidence.MARK, headers=headers)).raise_for_status()


async def _pages(service: Service, path: str) -> list[dict[str, Any]]:
    """All entries of a list."""
    found: list[dict[str, Any]] = []
    following: str | None = f"{path}?size=1000"
    while following is not None:
        page = await service.get(following)
        found += page["data"]
        following = page["next"]
    return found

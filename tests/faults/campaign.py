"""A service under load that is killed again and again, and everything that was seen of it.

    violations = await Campaign(directory, seed=7).run(kills=24)

Producers send events one by one and in batches, and create consumers; whatever is not acknowledged
is sent again under its old id. Four hooks want them: every event, some events, the consumers, and
one whose receiver refuses everything. The receiver is a process of its own. The seed decides what
is sent and when the service is killed; how far the service has come by then, the machine decides.
"""

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import httpx
import msgspec

from tests.faults import checks
from tests.faults.checks import Arrival, Stored
from tests.receiver import Received, read_log
from tests.service import ROOT, Service, environment, serving, until

PRODUCERS = 8
IN_FLIGHT = 64
"""Attempts under way at most: four hooks with 16 each."""

SETTINGS: dict[str, Any] = {"hook_concurrency": IN_FLIGHT // 4, "total_concurrency": IN_FLIGHT}
DERIVED = ("view.db*", "state.db*")

EVERYTHING, SOME, PEOPLE, REFUSING = "/everything", "/some", "/people", "/status/400"
HOOKS: dict[str, dict[str, Any]] = {
    EVERYTHING: {"source": "team", "handler": "webhook"},
    SOME: {"source": "team", "event": "a", "handler": "webhook"},
    PEOPLE: {"source": "crud", "event": "consumers:create", "handler": "webhook"},
    REFUSING: {"source": "team", "event": "b", "handler": "webhook"},
}
"""By the path of their receiver."""

_MARK = "/killed"
_AGAIN = 0.02
"""Seconds until a producer that was not answered tries again."""

_SAMPLE = 100
"""Events whose fate is asked for, hook by hook; asking for all takes too long."""


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
        self._url = ""
        self._receiver = ""
        self._ending = False
        self.attempted: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        self.created: dict[str, str] = {}  #: consumers that were acknowledged, by name
        self.batches: list[list[str]] = []

    async def run(self, kills: int, progress: Callable[[], None] = lambda: None) -> list[str]:
        """Kill, recover and compare. The violations, one line each; `progress` after each kill."""
        async with (
            receiving(self._seen) as self._receiver,
            httpx.AsyncClient(trust_env=False, timeout=10) as client,
        ):
            async with serving(self._data, **SETTINGS) as service:
                await self._configure(service)
            async with anyio.create_task_group() as producers:
                for number in range(PRODUCERS):
                    producers.start_soon(self._produce, client, number)
                for _ in range(kills):
                    await self._live_and_die()
                    await self._mark(client)
                    progress()
                live = await self._recover()
            await self._mark(client)
            for pattern in DERIVED:
                for path in self._data.glob(pattern):
                    path.unlink()
            rebuilt = await self._recover()
        return list(self._violations(live, rebuilt))

    def summary(self) -> Summary:
        """How much was done, as a measure of what no violation means."""
        arrivals = list(read_arrivals(read_log(self._seen)))
        lost = checks.lost_completions(arrivals)
        return Summary(
            attempted=len(self.attempted),
            acknowledged=len(self.acknowledged) + len(self.created),
            stored=len(read_stored(self._data / "log.db")),
            deliveries=len({arrival.delivery for arrival in arrivals}),
            repeated=max(lost.values(), default=0),
        )

    async def _configure(self, service: Service) -> None:
        for event in ("a", "b"):
            path = f"/event-hooks/sources/team/{event}"
            (await service.client.put(path, json={})).raise_for_status()
        for path, hook in HOOKS.items():
            config = {"url": self._receiver + path}
            await service.post("/event-hooks", hook | {"config": config})

    async def _live_and_die(self) -> None:
        """One life of the service. One in five ends before it is ready, or soon after."""
        early = self._random.uniform(0, 1.5) if self._random.random() < 0.2 else None
        late = self._random.uniform(0, 0.5)
        with anyio.move_on_after(early):
            async with serving(self._data, **SETTINGS) as service:
                self._url = service.url
                await anyio.sleep(late)  # not for anything: the kill comes at any moment
                if service.process.returncode is not None:
                    raise AssertionError(f"the service ended by itself:\n{service.output}")

    async def _mark(self, client: httpx.AsyncClient) -> None:
        """Tell the receiver that the service is dead, once it has read what the service had sent.

        Everything sent is in the receiver's sockets by now; the second mark comes by a connection
        that it accepts after it has looked at all of these.
        """
        for _ in range(2):
            headers = {"connection": "close"}
            (await client.post(self._receiver + _MARK, headers=headers)).raise_for_status()

    async def _recover(self) -> dict[str, object]:
        """Start the service once more, let all be sent and delivered, and take down its state."""
        async with serving(self._data, **SETTINGS) as service:
            self._url = service.url
            self._ending = True
            await until(lambda: self._settled(service), within=120)
            state = await self._state(service)
            if await service.stop() != 0:
                raise AssertionError(f"the service did not stop properly:\n{service.output}")
        return state

    async def _settled(self, service: Service) -> bool:
        if len(self.acknowledged) + len(self.created) < len(self.attempted):
            return False
        delivery = (await service.get("/status"))["delivery"]
        return not (delivery["behind"] or delivery["open"] or delivery["in_flight"])

    async def _state(self, service: Service) -> dict[str, object]:
        state: dict[str, object] = {}
        for path in ("/event-hooks", "/consumers"):
            state[path] = await pages(service, path)
        for hook in await pages(service, "/event-hooks"):
            parked = await pages(service, f"/event-hooks/{hook['id']}/parked")
            state[f"parked for {hook['id']}"] = [each["id"] for each in parked]
        state["/event-hooks/sources"] = await service.get("/event-hooks/sources")
        positions = sorted(self.acknowledged.values())
        for position in Random(self._seed).choices(positions, k=_SAMPLE):  # noqa: S311
            state[f"the fate of {position}"] = await service.states(position)
        return state

    async def _produce(self, client: httpx.AsyncClient, number: int) -> None:
        random = Random(f"{self._seed}/{number}")  # noqa: S311
        count = 0
        while not self._ending:
            size = random.choice((0, 1, 1, 1, 1, 1, 4))
            names = [f"{number}.{count + n}" for n in range(max(size, 1))]
            count += len(names)
            self.attempted.update(names)
            if size:
                await self._emit(client, names, random.choice("ab"))
            else:
                await self._create(client, names[0])

    async def _emit(self, client: httpx.AsyncClient, names: list[str], event: str) -> None:
        events = [
            {"source": "team", "event": event, "data": {"name": name}, "id": name} for name in names
        ]
        self.batches.append(names)
        answer = await self._insist(client, "/events", events)
        self.acknowledged.update(zip(names, answer["positions"], strict=True))

    async def _create(self, client: httpx.AsyncClient, name: str) -> None:
        answer = await self._insist(client, "/consumers", {"username": name}, key=name)
        self.created[name] = answer["id"]

    async def _insist(
        self, client: httpx.AsyncClient, path: str, content: object, key: str | None = None
    ) -> Any:
        """Send until there is an answer; a 503 says to send it again. The JSON answered."""
        headers = {} if key is None else {"idempotency-key": key}
        while True:
            try:
                answer = await client.post(self._url + path, json=content, headers=headers)
            except httpx.TransportError:
                answer = httpx.Response(503)
            if answer.status_code != 503:
                return answer.raise_for_status().json()
            await anyio.sleep(_AGAIN)

    def _violations(self, live: dict[str, object], rebuilt: dict[str, object]) -> Iterator[str]:
        for file in ("log.db", "state.db", "view.db"):
            if (found := integrity(self._data / file)) != "ok":
                yield f"{file} is damaged: {found}"
        stored = read_stored(self._data / "log.db")
        arrivals = list(read_arrivals(read_log(self._seen)))
        at = {event.stream: event.seq for event in stored if event.version == 0}
        acknowledged = self.acknowledged | {
            name: at.get(f"consumers/{id_}", 0) for name, id_ in self.created.items()
        }
        yield from checks.acknowledged_are_stored_once(acknowledged, stored)
        yield from checks.stored_were_attempted(self.attempted, stored)
        yield from checks.batches_are_whole(self.batches, stored)
        yield from checks.positions_have_no_holes(stored)
        yield from checks.versions_have_no_holes(stored)
        yield from checks.matches_are_delivered(wanted(stored), arrivals)
        yield from checks.deliveries_have_one_id(arrivals)
        yield from checks.repeats_are_bounded(arrivals, IN_FLIGHT)
        yield from checks.states_are_equal(live, rebuilt)


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


async def pages(service: Service, path: str) -> list[dict[str, Any]]:
    """All entries of a list."""
    found: list[dict[str, Any]] = []
    following: str | None = f"{path}?size=1000"
    while following is not None:
        page = await service.get(following)
        found += page["data"]
        following = page["next"]
    return found


def integrity(path: Path) -> str:
    """What SQLite says about a file."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def read_stored(path: Path) -> list[Stored]:
    """Every event of the log in order, read without any code of the service."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT seq, stream, version, type, body FROM event ORDER BY seq"
        ).fetchall()
    finally:
        connection.close()
    return [
        Stored(seq, stream, version, _name(type_, body))
        for seq, stream, version, type_, body in rows
    ]


def _name(type_: str, body: bytes) -> str | None:
    content = msgspec.json.decode(body)
    if type_ == "event_emitted":
        return str(content["id"])
    name = content["entity"].get("username") if type_ == "entity_created" else None
    return None if name is None else str(name)


def read_arrivals(requests: Sequence[Received]) -> Iterator[Arrival]:
    """What the receiver saw, but for the pings of new hooks."""
    marks = 0
    for request in requests:
        if request.path == _MARK:
            marks += 1
            continue
        body = msgspec.json.decode(request.body)
        if body["event"] != "ping":
            name = body["name"] if "name" in body else body["entity"]["username"]
            delivery = request.header("webhook-id") or ""
            yield Arrival(request.path, name, delivery, run=marks // 2)


def wanted(stored: Sequence[Stored]) -> dict[str, set[str]]:
    """What each hook has to get of what is stored."""
    streams = {
        EVERYTHING: ("emitted/team/a", "emitted/team/b"),
        SOME: ("emitted/team/a",),
        REFUSING: ("emitted/team/b",),
        PEOPLE: ("consumers/",),
    }
    return {
        hook: {event.name for event in stored if event.name and event.stream.startswith(prefixes)}
        for hook, prefixes in streams.items()
    }

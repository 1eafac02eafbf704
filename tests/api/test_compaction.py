"""`/compaction`: asking for one, and hearing what became of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx

from api.app import create_app
from api.compaction import CompactionEndpoints
from api.front_door import Policy as FrontDoorPolicy
from eventstore.compaction import Abandoned, Progress
from eventstore.errors import LogDamaged, LogError
from eventstore.events import CompactionFinished
from eventstore.plans import Hold, Plan
from eventstore.retention import Policy

PLAN = Plan(
    first=1, head=9, wanted=8, floor=5, events=4, bytes=400, segments=1, held=[Hold(5, "hook h")]
)
FINISHED = CompactionFinished(id="c", floor=5, count=4, snapshot=9)


class Compactor:
    """Stands in for the log's compaction: waits at its first step until it is told how to end."""

    def __init__(self) -> None:
        self.policies: list[Policy] = []
        self.resumed = 0
        self.damage: LogError | None = None
        self.ending: Exception | CompactionFinished | None = FINISHED
        self.begun = anyio.Event()
        self.end = anyio.Event()

    async def plan(self, policy: Policy) -> Plan:
        if self.damage is not None:
            raise self.damage
        return PLAN

    async def run(self, policy: Policy, progress: Progress) -> CompactionFinished | None:
        self.policies.append(policy)
        progress("archive", 2, 4)
        self.begun.set()
        await self.end.wait()
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending

    async def resume(self, progress: Progress) -> CompactionFinished | None:
        self.resumed += 1
        return None


@asynccontextmanager
async def serving(compactor: Compactor) -> AsyncIterator[httpx.AsyncClient]:
    endpoints = CompactionEndpoints(compactor)
    app = create_app(
        endpoints.routes(),
        version="1",
        policy=FrontDoorPolicy.of(),
        resolve_workspace=lambda _: None,
        default_workspace="w",
    )
    transport = httpx.ASGITransport(app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(endpoints.run)
        with anyio.fail_after(5):
            yield client
        tasks.cancel_scope.cancel()


async def ended(client: httpx.AsyncClient) -> httpx.Response:
    """What is said when nothing runs any more."""
    while (answer := await client.get("/compaction")).json()["running"] is not None:
        await anyio.lowlevel.checkpoint()
    return answer


async def test_one_at_a_time() -> None:
    """It runs in the background, says how far it is, and another one is refused meanwhile."""
    compactor = Compactor()
    async with serving(compactor) as client:
        begun = await client.post("/compaction", json={"older_than": 60, "keep": {"config": 99}})
        await compactor.begun.wait()
        running = await client.get("/compaction")
        refused = await client.post("/compaction", json={"max_events": 1})
        compactor.end.set()
        done = await ended(client)

    assert begun.status_code == 202
    assert begun.json()["plan"]["held"] == [{"position": 5, "by": "hook h"}]
    assert running.json()["running"] == {"step": "archive", "done": 2, "total": 4}
    assert refused.status_code == 409
    assert compactor.policies == [Policy(older_than=60, keep={"config": 99})]
    assert (done.json()["last"]["floor"], done.json()["problem"]) == (5, None)


async def test_a_dry_run_begins_nothing() -> None:
    """It is the plan alone."""
    compactor = Compactor()
    async with serving(compactor) as client:
        answer = await client.post("/compaction", json={"max_events": 1, "dry_run": True})

    assert (answer.status_code, answer.json()["plan"]["floor"]) == (200, 5)
    assert compactor.policies == []


async def test_what_went_wrong_is_said() -> None:
    """And forgotten with the next one; a bug does not end the service."""
    compactor = Compactor()
    compactor.end.set()
    problems = []
    async with serving(compactor) as client:
        for ending in (Abandoned("the state differs"), OSError("no disk"), KeyError("x"), None):
            compactor.ending = ending
            await client.post("/compaction", json={"max_events": 1})
            problems.append((await ended(client)).json()["problem"])

    assert problems == ["the state differs", "no disk", "internal error: KeyError", None]


async def test_a_damaged_audit_refuses_it() -> None:
    """What cannot be proved is not moved."""
    compactor = Compactor()
    compactor.damage = LogDamaged("position 7 is not what was stored")
    async with serving(compactor) as client:
        answer = await client.post("/compaction", json={"max_events": 1})

    assert (answer.status_code, "position 7" in answer.text) == (409, True)


async def test_what_was_interrupted_is_resumed_at_the_start() -> None:
    """Before anything else is done."""
    compactor = Compactor()
    async with serving(compactor):
        while not compactor.resumed:
            await anyio.lowlevel.checkpoint()

    assert compactor.policies == []

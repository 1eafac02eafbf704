"""Writes that meet each other, and writes that are looked at before they are stored."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from api.admin import Admin, Circumstances
from api.commands import Decision, Request, decide_create, decide_update
from api.responses import SchemaViolation, Unavailable
from api.stamping import Origin
from eventstore.codec import new_event
from eventstore.errors import IdentityReused
from eventstore.events import EntityCreated
from eventstore.log import EventLog
from eventstore.records import Append, Idempotency, Kind
from projections.entities import Entities
from projections.runner import Projections
from projections.tables import DEFAULT_WORKSPACE, TABLES

ORIGIN = Origin(now=1, seed=bytes(16))
ID = ORIGIN.identity()
HERE = Circumstances(workspace=DEFAULT_WORKSPACE)


class Stage:
    """A log, its registry and the writer under test."""

    def __init__(self, log: EventLog, projections: Projections, view: Entities) -> None:
        self.log = log
        self.view = view
        self.admin = Admin(log, projections, view)

    def creating(self, **args: Any) -> Callable[[], Decision]:
        return lambda: decide_create(self.view, _sent(args))

    def updating(self, **args: Any) -> Callable[[], Decision]:
        return lambda: decide_update(self.view, _sent(args), ID)


def _sent(args: dict[str, Any]) -> Request:
    return Request(
        table=TABLES["consumers"],
        workspace=DEFAULT_WORKSPACE,
        args=args,
        origin=ORIGIN,
        digest=str.upper,
    )


def somebody_elses(name: str) -> Append:
    """A change of configuration that does not go through the writer under test."""
    body = EntityCreated(entity={"id": name, "username": name, "created_at": 1, "updated_at": 1})
    event = new_event(body, stream=f"consumers/{name}", kind=Kind.CONFIG)
    return Append(events=(event,), workspace=DEFAULT_WORKSPACE)


@asynccontextmanager
async def staged(directory: Path) -> AsyncIterator[Stage]:
    view = Entities()
    async with (
        EventLog.open(directory) as log,
        Projections.open(log, directory, [view]) as projections,
        anyio.create_task_group() as background,
    ):
        background.start_soon(projections.run)
        yield Stage(log, projections, view)
        background.cancel_scope.cancel()


async def test_a_decision_that_was_overtaken_is_taken_again(tmp_path: Path) -> None:
    """The registry is behind the log: the log refuses, and the next decision knows more."""
    async with staged(tmp_path) as stage:
        known = []

        def decide() -> Decision:
            known.append(stage.view.find("consumers", DEFAULT_WORKSPACE, "username", "x"))
            return stage.creating(username="ada")()

        await stage.log.append(somebody_elses("x"))
        stored = await stage.admin.write(decide, HERE, "consumers")

        assert stored is not None
        assert (stored.seq, stored.entity["username"]) == (2, "ada")
        assert known[0] is None
        assert known[-1] is not None


async def test_a_writer_that_is_always_overtaken_gives_up(tmp_path: Path) -> None:
    """After a while the caller is told to come again, and nothing was stored."""
    async with staged(tmp_path) as stage:

        class Behind:
            position = 0

            async def wait_applied(self, seq: int) -> None:
                """Never gets there."""

        await stage.log.append(somebody_elses("x"))
        admin = Admin(stage.log, Behind(), stage.view)

        with pytest.raises(Unavailable):
            await admin.write(stage.creating(username="ada"), HERE, "consumers")
        assert stage.log.head == 1


async def test_what_is_examined_is_what_is_stored(tmp_path: Path) -> None:
    """An examiner sees the whole entity once, and its refusal stores nothing."""
    async with staged(tmp_path) as stage:
        seen: list[dict[str, Any]] = []

        async def examine(entity: dict[str, Any], workspace: str) -> None:
            seen.append(entity)
            if entity["username"] == "bad":
                raise SchemaViolation({"username": "no"})

        await stage.admin.write(stage.creating(username="ada"), HERE, "consumers", examine)
        with pytest.raises(SchemaViolation):
            await stage.admin.write(stage.updating(username="bad"), HERE, "consumers", examine)

        assert [entity["username"] for entity in seen] == ["ada", "bad"]
        assert stage.log.head == 1


async def test_what_changed_since_its_examination_is_examined_again(tmp_path: Path) -> None:
    """Examining takes time; what another writer changes meanwhile does not slip through."""
    async with staged(tmp_path) as stage:
        await stage.admin.write(stage.creating(username="ada"), HERE, "consumers")
        seen: list[Any] = []

        async def examine(entity: dict[str, Any], workspace: str) -> None:
            seen.append((entity["custom_id"], entity["tags"]))
            if len(seen) == 1:
                await stage.admin.write(stage.updating(tags=["other"]), HERE, "consumers")

        await stage.admin.write(stage.updating(custom_id="1"), HERE, "consumers", examine)

        assert seen == [("1", None), ("1", ["other"])]


async def test_a_repeated_request_is_known_whatever_is_decided_now(tmp_path: Path) -> None:
    """The first answer counts, though the same decision would be refused, or its entity gone."""
    async with staged(tmp_path) as stage:
        keyed = Circumstances(workspace=DEFAULT_WORKSPACE, idempotency=Idempotency("k", b"1"))
        other = Circumstances(workspace=DEFAULT_WORKSPACE, idempotency=Idempotency("k", b"2"))

        async def refuse(_entity: dict[str, Any], _workspace: str) -> None:
            raise SchemaViolation({"username": "no"})

        first = await stage.admin.write(stage.creating(username="ada"), keyed, "consumers")

        assert await stage.admin.write(stage.creating(username="ada"), keyed, "consumers") == first
        assert await stage.admin.write(stage.updating(foo="refused"), keyed, "consumers") == first
        assert (
            await stage.admin.write(stage.updating(tags=["x"]), keyed, "consumers", refuse) == first
        )
        with pytest.raises(IdentityReused):
            await stage.admin.write(stage.creating(username="ada"), other, "consumers")
        with pytest.raises(IdentityReused):
            await stage.admin.write(stage.updating(tags=["x"]), other, "consumers")
        assert stage.log.head == 1


async def test_a_cancelled_write_leaves_the_next_one_alone(tmp_path: Path) -> None:
    """Whoever goes away while waiting keeps nothing locked."""
    async with staged(tmp_path) as stage:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stage.admin.write(stage.creating(username="ada"), HERE, "consumers")
        with anyio.fail_after(5):
            stored = await stage.admin.write(stage.creating(username="ada"), HERE, "consumers")

        assert stored is not None

"""Logs with a little of everything, and exports of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec

from eventstore import Append, EventLog, Kind, NewEvent, new_event, signing
from eventstore.audit_source import bring_up_to_date, log_id
from eventstore.auditor import Auditor
from eventstore.events import (
    DeliveriesSettled,
    EntityCreated,
    EntityDeleted,
    EntityUpdated,
    EventEmitted,
    HookPaused,
)
from eventstore.exports import export
from eventstore.selection import Selection

HOOK = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
SECRET = "hunter2-do-not-show"
VERIFIER = Path(__file__).parents[2] / "scripts" / "audit_verify.py"

CONSUMERS = f"consumers/{OTHER}"


def config(stream: str, event: EntityCreated | EntityUpdated | EntityDeleted) -> NewEvent:
    return new_event(event, stream=stream, kind=Kind.CONFIG)


def fact(number: int) -> NewEvent:
    data = msgspec.Raw(msgspec.json.encode({"number": number}))
    return new_event(EventEmitted(data=data), stream="emitted/shop/order", kind=Kind.EMITTED)


def delivery(event: DeliveriesSettled | HookPaused, hook: str = HOOK) -> NewEvent:
    return new_event(event, stream=f"deliveries/{hook}", kind=Kind.DELIVERY)


async def tell(log: EventLog) -> None:
    """Ten events of several kinds, by two actors in two workspaces."""
    hook = {"id": HOOK, "source": "shop", "config": {"url": "http://x/"}}
    changed = {**hook, "config": {"url": "http://y/"}}
    await log.append(
        Append(
            events=(
                config(
                    f"event_hooks/{HOOK}",
                    EntityCreated(entity=hook, secrets={"config.secret": SECRET}),
                ),
                config(CONSUMERS, EntityCreated(entity={"id": OTHER, "username": "ada"})),
            ),
            workspace="one",
            actor="root",
            request_id="req-1",
        )
    )
    await log.append(Append(events=(fact(1), fact(2), fact(3)), workspace="two"))
    receipt = DeliveriesSettled(
        id="r1", after=2, upto=5, delivered=2, hook_version=0, open=[(5, "")]
    )
    await log.append(Append(events=(delivery(receipt),), workspace="one"))
    await log.append(
        Append(
            events=(
                config(
                    f"event_hooks/{HOOK}",
                    EntityUpdated(
                        entity=changed, old_entity=hook, secrets={"config.secret": SECRET}
                    ),
                ),
                config(CONSUMERS, EntityDeleted(entity={"id": OTHER, "username": "ada"})),
                delivery(HookPaused()),
            ),
            workspace="one",
            actor="ops",
            request_id="req-2",
        )
    )
    await log.append(Append(events=(fact(4),), workspace="two"))


def log_with_everything(directory: Path, more: int = 0) -> Path:
    """A stopped log of ten events and `more` of one kind, audited."""

    async def make() -> None:
        async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
            await tell(log)
            for start in range(0, more, 500):
                count = min(500, more - start)
                await log.append(Append(events=tuple(fact(n) for n in range(count))))
            await auditor.catch_up()

    anyio.run(make)
    return directory


def grow(directory: Path, count: int) -> None:
    async def more() -> None:
        async with EventLog.open(directory) as log:
            await log.append(Append(events=tuple(fact(n) for n in range(count))))
        await bring_up_to_date(directory)

    anyio.run(more)


def key(directory: Path) -> str:
    """The newest verifier key."""
    return signing.load(directory / "keys.db", log_id(directory)).keys[-1].vkey


def exported(directory: Path, name: str = "export", **selected: Any) -> Path:
    """An export beside the data directory."""
    output = directory.with_name(name)
    export(directory, output, Selection(**selected))
    return output


def verified(path: Path, key: str, *more: str) -> tuple[int, str]:
    """Exit code and words of the verifier as an auditor runs it."""
    command = [sys.executable, "-I", str(VERIFIER), str(path), "--key", key, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stderr == "" or done.returncode == 2
    return done.returncode, done.stdout


def lines(export: Path) -> list[dict[str, Any]]:
    import gzip

    with gzip.open(export / "events.jsonl.gz") as file:
        return [json.loads(line) for line in file]

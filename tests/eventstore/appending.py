"""A process that appends until it is stopped, and tells what it tried and what it was answered.

    python appending.py DIRECTORY CALLERS COUNT

Each line of its output is `[word, request, positions]`: "try" before a request is made, then "ack",
"unknown" or "unavailable". A request of unknown outcome is sent once more. Request n stores two
events, one of them configuration.
"""

import json
import sys
from pathlib import Path

import anyio

from eventstore import (
    Append,
    EventLog,
    Idempotency,
    Kind,
    LogUnavailable,
    NewEvent,
    OutcomeUnknown,
    decode,
)


def request(name: str) -> Append:
    return Append(
        events=(
            NewEvent(
                stream="emitted/source/event",
                type="event_emitted",
                kind=Kind.EMITTED,
                body=json.dumps({"data": {"request": name}}).encode(),
                identity=name,
            ),
            NewEvent(
                stream=f"consumers/{hash(name) % 10}",
                type="entity_created",
                kind=Kind.CONFIG,
                body=json.dumps({"entity": {"request": name}}).encode(),
            ),
        ),
        idempotency=Idempotency(name, name.encode()),
    )


def say(word: str, name: str, positions: tuple[int, ...] = ()) -> None:
    sys.stdout.write(json.dumps([word, name, positions]) + "\n")
    sys.stdout.flush()


async def append(log: EventLog, name: str, *, again: bool = True) -> None:
    say("try", name)
    try:
        answer = await log.append(request(name))
    except OutcomeUnknown:
        say("unknown", name)
        if again:
            await append(log, name, again=False)
    except LogUnavailable:
        say("unavailable", name)
    else:
        say("ack", name, answer.positions)


async def main(directory: Path, callers: int, count: int) -> None:
    async with EventLog.open(directory) as log, anyio.create_task_group() as tasks:
        first = log.head

        async def call(caller: int) -> None:
            for number in range(count):
                await append(log, f"{first}/{caller}/{number}")
                if log.head:
                    (newest,) = await log.read(log.head - 1, limit=1)
                    decode(newest)

        for caller in range(callers):
            tasks.start_soon(call, caller)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""One worker process, and what the service makes of one that does not keep to the protocol."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import msgspec
import pytest

from delivery.jail.frames import (
    HEADER,
    REPLY_LIMIT,
    Arguments,
    Call,
    Functions,
    Limits,
    Profile,
    Ready,
    Reply,
    Report,
    Setup,
    framed,
)
from delivery.jail.process import JailUnavailable, WorkerLost, WorkerProcess, worker_command
from tests.delivery.jail.processes import LOOPS, children, is_reaped, open_files, until_gone

SETUP = Setup("lua", Limits(), Profile(), os.getpid())
CALL = framed(Call("w", "h", Functions(("return function () return true end",)), Arguments(b"{}")))
READY = framed(Ready("a parrot", ("a cage",)))
REPLY = framed(Reply(Report(), retiring=False))

PARROT = """
import os, signal, sys, time
for turn in sys.argv[1:]:
    sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
    said, _, then = turn.partition(" ")
    sys.stdout.buffer.write(bytes.fromhex(said))
    sys.stdout.buffer.flush()
    exec(then)
"""
"""Reads a frame and says the next of its arguments, and then runs what else is in it."""

WAIT = " sys.stdin.buffer.read()"


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Both event loops."""
    return request.param


def parrot(*turns: str) -> list[str]:
    """The command for a process that says these frames, each after one that it is sent."""
    return [sys.executable, "-I", "-S", "-c", PARROT, *turns]


@asynccontextmanager
async def started(command: list[str] | tuple[str, ...]) -> AsyncIterator[WorkerProcess]:
    worker = await WorkerProcess.start(command, SETUP, 30)
    try:
        yield worker
    finally:
        await worker.close()


async def test_a_worker_says_what_it_is_and_answers() -> None:
    """The real one, in an empty environment."""
    async with started(worker_command()) as worker:
        replies = [await worker.ask(CALL, 30) for _ in range(3)]

    assert worker.ready.engine.startswith(("LuaJIT", "Lua 5.1"))
    assert "rlimits" in worker.ready.barriers
    assert [reply.report.failures for reply in replies] == [[], [], []]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("00000003c1c1c1", "the worker's answer makes no sense: ", id="garbage"),
        pytest.param("00000000", "the worker's answer makes no sense: ", id="empty"),
        pytest.param(framed(Ready("again", ())).hex(), "the worker's answer makes", id="wrong"),
        pytest.param(
            HEADER.pack(REPLY_LIMIT + 1).hex(),
            f"the worker's answer takes {REPLY_LIMIT + 1} bytes, over {REPLY_LIMIT}",
            id="too large",
        ),
        pytest.param("ffffffff" + "00" * 1000, "the worker's answer takes 4294967295", id="huge"),
        pytest.param((REPLY * 2).hex(), "the worker sent more than one answer", id="twice"),
    ],
)
async def test_an_answer_that_is_none_ends_the_worker(answer: str, reason: str) -> None:
    """Exactly one frame with exactly one reply is accepted."""
    async with started(parrot(READY.hex(), answer + WAIT)) as worker:
        with anyio.fail_after(10), pytest.raises(WorkerLost) as lost:
            await worker.ask(CALL, 30)

    assert str(lost.value).startswith(reason)
    assert is_reaped(worker.pid)


async def test_an_answer_may_come_in_pieces() -> None:
    """Pipes cut anywhere."""
    pieces = "; ".join(f"time.sleep(0.01); os.write(1, bytes([{byte}]))" for byte in REPLY)
    async with started(parrot(READY.hex(), f" {pieces}")) as worker:
        reply = await worker.ask(CALL, 30)

    assert reply == Reply(Report(), retiring=False)


async def test_a_worker_that_speaks_unasked_is_killed() -> None:
    """A second answer must not be taken for that to the next call, nor fill the memory."""
    again = f"{REPLY.hex()} time.sleep(0.1); os.write(1, b'more'); sys.stdin.buffer.read()"
    async with started(parrot(READY.hex(), again)) as worker:
        reply = await worker.ask(CALL, 30)
        alive = worker.alive
        await until_gone(worker.pid)
        with pytest.raises(WorkerLost, match=r"^the worker spoke without being asked$"):
            await worker.ask(CALL, 30)

    assert (type(reply), alive, worker.alive) == (Reply, True, False)


async def test_silence_ends_with_the_time_limit() -> None:
    """The message tells it from a crash."""
    async with started(parrot(READY.hex(), WAIT)) as worker:
        with anyio.fail_after(10), pytest.raises(WorkerLost) as lost:
            await worker.ask(CALL, 0.1)

    assert str(lost.value) == "time limit of 0.1 s reached, killed"


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("sys.exit(3)", "the worker ended with status 3"),
        ("sys.exit(0)", "the worker ended with status 0"),
        ("os.write(1, bytes(3))", "the worker ended with status 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the worker was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "the worker was killed by SIGXCPU"),
        ("os.kill(os.getpid(), 40)", "the worker was killed by signal 40"),
        (
            "os.kill(os.getpid(), signal.SIGSYS)",
            "the worker was killed by SIGSYS: it tried what the jail forbids",
        ),
        (
            "os.close(1); os.closerange(3, 99); sys.stdin.buffer.read()",
            "the worker closed its pipe",
        ),
    ],
)
async def test_the_end_of_a_worker_is_told(then: str, reason: str) -> None:
    """How it ended is what helps whoever wrote the function."""
    async with started(parrot(READY.hex(), f" {then}")) as worker:
        with anyio.fail_after(10), pytest.raises(WorkerLost) as lost:
            await worker.ask(CALL, 30)

    assert str(lost.value) == reason
    assert not worker.alive


async def test_closing_tells_whoever_waits() -> None:
    """A call under way when the service stops is not left waiting."""
    reasons: list[str] = []

    async def ask(worker: WorkerProcess) -> None:
        with pytest.raises(WorkerLost) as lost:
            await worker.ask(CALL, 30)
        reasons.append(str(lost.value))

    async with started(parrot(READY.hex(), WAIT)) as worker, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, worker)
        await anyio.wait_all_tasks_blocked()
        await worker.close()

    assert reasons == ["the worker was stopped"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/nowhere/python"], "no worker: .*No such file or directory"),
        (parrot(" sys.exit(1)"), "no worker: the worker ended with status 1"),
        (parrot("00000003c1c1c1" + WAIT), "no worker: the worker's answer makes no sense"),
        (parrot(WAIT), "no worker: time limit of 0.5 s reached, killed"),
    ],
)
async def test_a_start_that_fails_leaves_nothing(command: list[str], reason: str) -> None:
    """Neither a process nor an open file, and one line says why."""
    async with started(parrot(READY.hex())):
        pass  # an event loop keeps what it opens for the first process
    files = sorted(open_files().values())
    before = children()
    with pytest.raises(JailUnavailable, match=f"^{reason}"):
        await WorkerProcess.start(command, SETUP, 0.5)

    assert children() == before
    with anyio.fail_after(10):
        while sorted(open_files().values()) != files:  # a loop closes them at its next turn
            await anyio.lowlevel.checkpoint()


async def test_a_worker_that_died_is_known_to_be_dead() -> None:
    """And closing it is no error."""
    async with started(worker_command()) as worker:
        os.kill(worker.pid, signal.SIGKILL)
        await until_gone(worker.pid)
        await anyio.wait_all_tasks_blocked()

        assert not worker.alive
        with pytest.raises(WorkerLost, match=r"^the worker was killed by SIGKILL$"):
            await worker.ask(CALL, 30)


async def test_a_large_call_and_a_large_answer_pass() -> None:
    """Beyond what a pipe holds at once."""
    data = msgspec.json.encode({"text": "x" * 1_000_000})
    source = "return function (data) return #data.text == 1000000 end"
    frame = framed(Call("w", "h", Functions((source,)), Arguments(data)))
    answer = framed(Reply(Report(texts=[b"x" * 1_900_000]), retiring=False))
    head, tail = answer[:40], answer[-40:]
    say = f" sys.stdout.buffer.write({head!r} + b'x' * {len(answer) - 80} + {tail!r})"
    async with started(worker_command()) as worker, started(parrot(READY.hex(), say)) as other:
        there = await worker.ask(frame, 30)
        back = await other.ask(CALL, 30)

    assert there.report.failures == []
    assert len(back.report.texts[0]) == 1_900_000

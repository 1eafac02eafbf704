"""The worker processes: real ones, and functions that do their worst in them."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.lowlevel
import msgspec
import pytest

from delivery.jail.frames import (
    CALL_LIMIT,
    REPLY_LIMIT,
    Arguments,
    Call,
    Functions,
    Limits,
    Templates,
)
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.jail.process import JailUnavailable
from delivery.jail.ran import Fault, Ran
from delivery.jail.schedule import SLICE
from tests.delivery.jail.processes import (
    LOOPS,
    children,
    is_reaped,
    limits_of,
    open_files,
    until_gone,
)

ROOT = Path(__file__).parents[3]
OPTIONS = JailOptions(wall_seconds=30, start_seconds=30, limits=Limits(cpu_seconds=0.1))
SINGLE = msgspec.structs.replace(OPTIONS, workers=1, spares=0)
IMPATIENT = msgspec.structs.replace(OPTIONS, wall_seconds=1)
SUCCESS = Ran(result=b"true")

HANG = "local a = ('a'):rep(40) return a:find(('a?'):rep(40) .. a)"
"""One call of a C function that takes longer than anybody lives: no clock inside Lua sees it."""


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The service runs on uvloop where there is one, and processes differ between the two."""
    return request.param


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool.open(OPTIONS) as pool:
        yield pool


@pytest.fixture
async def impatient() -> AsyncIterator[WorkerPool]:
    """A pool for functions that only a kill can end."""
    async with WorkerPool.open(IMPATIENT) as pool:
        yield pool


def call(lua: str, *, hook: str = "hook", workspace: str = "", data: object = None) -> Call:
    return Call(
        workspace=workspace,
        hook=hook,
        program=Functions((f"return function (data, event, source, pid)\n{lua}\nend",)),
        arguments=Arguments(msgspec.json.encode(data or {}), "consumers", "crud", 1),
    )


REMEMBER = "local seen = secret secret = data.secret print(seen) return true"
"""Says what an earlier call in the same state left behind, and leaves its own."""


def killed(reason: str) -> Ran:
    return Ran(faults=(Fault(0, None, reason),), killed=True)


async def until_stocked(pool: WorkerPool) -> None:
    with anyio.fail_after(30):
        while pool.summary()["jail_workers"] < OPTIONS.workers + OPTIONS.spares:
            await anyio.lowlevel.checkpoint()


async def run(pool: WorkerPool, call: Call) -> Ran:
    """How the call went, without how long it took."""
    return msgspec.structs.replace(await pool.run(call), seconds=0.0)


async def test_a_call_returns_what_the_function_said(pool: WorkerPool) -> None:
    """Text goes in and comes out as it was, with the lines that were logged."""
    ran = await run(
        pool, call("print(data.name) kong.log.err('x') return true", data={"name": "żółć"})
    )

    assert ran == Ran(lines=((20, "żółć"), (40, "x")), result=b"true")


async def test_output_is_made_safe_to_log(pool: WorkerPool) -> None:
    """No function can forge a line of the log or break its encoding."""
    ran = await run(pool, call(r"print('a\nb\27[0m\tc\194\133') error('\255\r\n', 0)"))

    assert ran.faults == (Fault(0, None, "\ufffd\\r\\n"),)
    assert ran.lines == ((20, "a\\nb\\x1b[0m\tc\\x85"),)


async def test_a_loop_is_stopped_inside_its_worker(pool: WorkerPool) -> None:
    """The soft clock answers with a message, and the process survives."""
    await run(pool, call("return true"))
    ran = await run(pool, call("while true do end"))

    assert (ran.error or "").endswith("]:2: time limit of 0.1s exceeded")
    assert await run(pool, call("return true")) == SUCCESS


async def test_a_hanging_worker_is_killed_and_the_next_call_works(impatient: WorkerPool) -> None:
    """The hard clock ends what the soft one cannot see."""
    with anyio.fail_after(10):
        ran = await run(impatient, call(HANG))
        next_one = await run(impatient, call("return true"))

    assert ran == killed("time limit of 1 s reached, killed")
    assert next_one == SUCCESS


@pytest.mark.parametrize(
    "lua",
    [
        "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
        "return ('x'):rep(1e9)",
        "K = {} pcall(function () for i = 1, 1e9 do K[i] = 'x' .. i end end) error('kept')",
        "local t = {} for i = 1, 1e7 do t[i] = coroutine.create(print) end",
        "local function f() return (('x'):gsub('x', f)) end f()",
        "local function f() pcall(f) return f() end f()",
        "for i = 1, 1e9 do print(('flood'):rep(100)) end",
        "local t = {} t[1] = t return t",
        "local t = {} for i = 1, 1e5 do t = { t } end return t",
        "local t = {} for i = 1, 3e5 do t[i] = i end return t",
        "error({ ('x'):rep(1e6) })",
        "error(('x'):rep(1e7))",
        "return unpack({}, 1, 1e7)",
        "return ('x'):format(('%s'):rep(1e6))",
        "string.upper = print",
        "return ('').dump(print)",
        "return io.open('/etc/passwd')",
        "return os.execute('true')",
        "return python.eval('1')",
        "return require('ffi')",
    ],
)
async def test_an_attack_is_a_failed_call_and_nothing_else(impatient: WorkerPool, lua: str) -> None:
    """Attacks end in an error or a kill within the hard limit; the next call works."""
    with anyio.fail_after(10):
        attacked = await run(impatient, call(lua))
        same_hook = await run(impatient, call("return true"))
        other_hook = await run(impatient, call("return ('a'):upper() == 'A'", hook="other"))

    assert attacked.error is not None
    assert len(attacked.error) <= 4096
    assert len(attacked.lines) <= 101
    assert (same_hook, other_hook) == (SUCCESS, SUCCESS)


async def test_a_crashed_worker_is_a_failed_call_with_the_reason() -> None:
    """Killed from outside in mid-call: the caller is told, and a new worker takes the next call."""
    results: list[Ran] = []

    async def hang(pool: WorkerPool) -> None:
        results.append(await run(pool, call(HANG)))

    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hang, pool)
            await anyio.wait_all_tasks_blocked()
            os.kill(pool.pids[0], signal.SIGKILL)
        next_one = await run(pool, call("return true"))

    assert results == [killed("the worker was killed by SIGKILL")]
    assert next_one == SUCCESS


async def test_a_worker_that_died_unused_costs_no_call() -> None:
    """Nobody is given a worker that is known to be dead."""
    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        await until_gone(pid)
        await anyio.wait_all_tasks_blocked()

        assert await run(pool, call("return true")) == SUCCESS
        assert pid not in pool.pids


async def test_a_waiting_call_may_be_given_up() -> None:
    """It costs nothing: neither the worker that it waited for nor the turn of the next one."""
    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        pids = pool.pids
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, pool, call("while true do end"))
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(run, pool, call("return true"))
                await anyio.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()
            last = await run(pool, call("return true"))

        assert last == SUCCESS
        assert pool.pids == pids
        assert pool.summary()["jail_calls"] == 3


async def test_a_call_may_be_given_up_just_when_its_turn_comes() -> None:
    """The worker that it got was not sent anything yet, and serves the next one."""
    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        pids = pool.pids
        waiting = asyncio.create_task(pool.run(call("return true")))
        await pool.run(call("while true do end"))  # leaves its worker to the one that waits
        waiting.cancel()
        await asyncio.wait([waiting])

        assert waiting.cancelled()
        assert await run(pool, call("return true")) == SUCCESS
        assert pool.pids == pids
        assert pool.summary()["jail_calls"] == 3


async def test_a_cancelled_call_takes_its_worker_with_it() -> None:
    """A worker interrupted inside a frame is never used again."""
    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        (pid,) = pool.pids
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, call(HANG))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await until_gone(pid)

        assert await run(pool, call("return true")) == SUCCESS
        assert pid not in pool.pids


async def test_giving_up_the_first_call_leaves_its_worker_to_the_next() -> None:
    """A start goes on when nobody waits for it any more, and closing the pool ends it."""
    before = children()
    async with WorkerPool.open(OPTIONS) as pool:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pool.run, call("return true"))
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        starts = pool.summary()["jail_starts"]
        first = await run(pool, call("return true"))
    async with WorkerPool.open(OPTIONS) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(pool.probe)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert (starts, first) == (1, SUCCESS)
    assert children() == before


async def test_an_answer_beyond_the_cap_ends_the_worker() -> None:
    """What the service is prepared to read from a worker is bounded, whatever the worker thinks."""
    limits = Limits(log_size=2 * REPLY_LIMIT)
    flood = "local x = ('x'):rep(1e5) for i = 1, 30 do print(x) end return true"
    async with WorkerPool.open(msgspec.structs.replace(OPTIONS, limits=limits)) as pool:
        ran = await run(pool, call(flood))

        assert (ran.error or "").startswith("the worker's answer takes ")
        assert ran.killed
        assert await run(pool, call("return true")) == SUCCESS


async def test_a_call_beyond_the_cap_is_not_made(pool: WorkerPool) -> None:
    """An event larger than the limit fails without harm to a worker."""
    ran = await run(pool, call("return true", data={"text": "x" * CALL_LIMIT}))

    assert (ran.error or "").endswith(f"bytes, over {CALL_LIMIT}")


async def test_hooks_do_not_see_each_other() -> None:
    """Globals of one hook are invisible to another, in one worker."""
    async with WorkerPool.open(SINGLE) as pool:
        seen = [
            (await run(pool, call(REMEMBER, hook=hook, data={"secret": hook}))).lines[0][1]
            for hook in "aba"
        ]

        assert seen == ["nil", "nil", "a"]
        assert pool.summary()["jail_starts"] == 1


async def test_a_worker_changes_hands_dead() -> None:
    """What ran code of one workspace is gone before another one gets its place."""
    async with WorkerPool.open(SINGLE) as pool:
        pids: list[int] = []
        seen: list[str] = []
        for workspace in "aaba":
            ran = await run(pool, call(REMEMBER, workspace=workspace, data={"secret": workspace}))
            seen.append(ran.lines[0][1])
            pids += pool.pids
        summary = pool.summary()

    assert seen == ["nil", "a", "nil", "nil"]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3
    assert (summary["jail_handovers"], summary["jail_starts"], summary["jail_calls"]) == (2, 3, 4)


async def test_fifty_workspaces_take_turns(pool: WorkerPool) -> None:
    """All are served, and none sees what another one left."""
    seen: list[tuple[str, str]] = []

    async def ask(workspace: str, hook: str) -> None:
        data = {"secret": workspace}
        ran = await run(pool, call(REMEMBER, hook=hook, workspace=workspace, data=data))
        seen.append((workspace, ran.lines[0][1]))

    async with anyio.create_task_group() as tasks:
        for turn in range(4):
            for number in range(50):
                tasks.start_soon(ask, str(number), str(turn % 2))

    assert len(seen) == 200
    assert all(left in ("nil", workspace) for workspace, left in seen)
    assert len(pool.pids) <= OPTIONS.workers + OPTIONS.spares


async def test_two_busy_tenants_change_hands_by_the_clock() -> None:
    """With one worker for both, whose queues run empty after each call."""
    calls: Counter[str] = Counter()
    began = time.monotonic()
    ends = began + 10 * SLICE

    async def keep_asking(pool: WorkerPool, workspace: str) -> None:
        while time.monotonic() < ends:
            assert await run(pool, call("return true", workspace=workspace)) == SUCCESS
            calls[workspace] += 1

    async with WorkerPool.open(SINGLE) as pool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_asking, pool, "a")
            tasks.start_soon(keep_asking, pool, "b")
        handovers = pool.summary()["jail_handovers"]

    assert 1 <= handovers <= (time.monotonic() - began) / SLICE
    assert min(calls.values()) > 10


async def test_one_hook_cannot_hold_all_workers() -> None:
    """While one hook hangs as often as it can, another is served at once."""
    async with WorkerPool.open(OPTIONS) as pool, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(pool.run, call(HANG, hook="hostile"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            served = [await run(pool, call("return true", hook="kind")) for _ in range(20)]
        tasks.cancel_scope.cancel()

    assert served == [SUCCESS] * 20


async def test_more_callers_than_workers_wait_their_turn(pool: WorkerPool) -> None:
    """Every caller is answered, with its own answer."""
    answers: dict[int, Ran] = {}

    async def ask(number: int) -> None:
        lua = "print(data.n) return true"
        answers[number] = await run(pool, call(lua, hook=str(number % 7), data={"n": number}))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(ask, number)

    assert {number: ran.lines for number, ran in answers.items()} == {
        number: ((20, str(number)),) for number in range(100)
    }
    assert len(pool.pids) <= OPTIONS.workers + OPTIONS.spares


async def test_a_worn_worker_is_replaced_between_calls() -> None:
    """A worker that asks to be replaced is, without a failed call."""
    options = msgspec.structs.replace(OPTIONS, limits=Limits(calls=3))
    async with WorkerPool.open(options) as pool:
        first = [await run(pool, call("return true"))]
        pids = set(pool.pids)
        rest = [await run(pool, call("return true")) for _ in range(12)]

        assert first + rest == [SUCCESS] * 13
        assert not pids & set(pool.pids)


async def test_check_reports_in_kongs_words(pool: WorkerPool) -> None:
    """Every faulty function is named by its own error; a top-level loop is one."""
    good = "return function () return true end"
    sources = (good, "return 7", "syntax error", good, "while true do end")
    checked = await run(pool, Call("", "", Functions(sources)))

    assert [(fault.index, fault.text) for fault in checked.faults] == [
        (1, "Bad return value from function, expected function type, got number"),
        (2, "Error parsing function: [string \"syntax error\"]:1: '=' expected near 'error'"),
        (4, 'Error parsing function: [string "while true do end"]:1: time limit of 0.1s exceeded'),
    ]
    assert (await run(pool, Call("", "", Functions((good,))))).faults == ()


async def test_a_worker_has_no_rights_left(pool: WorkerPool) -> None:
    """Empty environment, a session of its own, two pipes and a null device, and tight limits."""
    await run(pool, call("return true"))
    pid = pool.pids[0]
    limits = limits_of(pid)

    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert os.getsid(pid) == pid != os.getsid(0)
    assert open_files(str(pid)).keys() == {"0", "1", "2"}
    assert open_files(str(pid))["2"] == os.devnull
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max cpu time"] == ["600", "600"]
    assert limits["Max address space"] == [str(512 * 1024 * 1024)] * 2


async def test_a_killed_worker_has_a_warm_successor() -> None:
    """The call after a kill does not wait for a start: a spare takes it."""
    async with WorkerPool.open(IMPATIENT) as pool:
        await run(pool, call("return true"))
        await until_stocked(pool)
        pids = set(pool.pids)
        await run(pool, call(HANG))
        next_one = await run(pool, call("return true"))
        left = set(pool.pids)
        await until_stocked(pool)

        assert next_one == SUCCESS
        assert left < pids
        assert len(pool.pids) == len(pids) == OPTIONS.workers + OPTIONS.spares


async def test_a_probe_tells_how_workers_are_jailed() -> None:
    """One worker is started for it, and only once; it then serves the first call."""
    async with WorkerPool.open(OPTIONS) as pool:
        before = pool.ready
        ready = await pool.probe()
        again = await pool.probe()
        pids = pool.pids

        assert before is None
        assert ready == again == pool.ready
        assert ready.engine.startswith(("LuaJIT", "Lua 5.1"))
        assert "rlimits" in ready.barriers
        assert (len(pids), pool.problem) == (1, None)
        assert await run(pool, call("return true")) == SUCCESS
        assert set(pids) <= set(pool.pids)


async def test_a_worker_for_jinja_has_no_lua() -> None:
    """Each engine is a process of its own, without the other's code."""
    async with WorkerPool.open(msgspec.structs.replace(OPTIONS, engine="jinja2")) as pool:
        ready = await pool.probe()
        loaded = Path(f"/proc/{pool.pids[0]}/maps").read_text()
        ran = await pool.run(Call("w", "h", Templates(("{{ a }}",)), Arguments(b'{"a": "b"}')))

    assert ready.engine.startswith("Jinja")
    assert "msgspec" in loaded
    assert "lupa" not in loaded
    assert ran.texts == ("b",)


async def test_without_the_required_barriers_nothing_runs() -> None:
    """Calls are refused with what is missing, and what there is can still be looked at."""
    options = msgspec.structs.replace(OPTIONS, required=("rlimits", "moat", "drawbridge"))
    async with WorkerPool.open(options) as pool:
        with pytest.raises(JailUnavailable) as refused:
            await pool.run(call("return true"))
        with pytest.raises(JailUnavailable) as at_once:
            await pool.run(call("return true"))
        with pytest.raises(JailUnavailable):
            await pool.probe()

        assert pool.ready is not None
        have = ", ".join(pool.ready.barriers)
        text = f"this system cannot jail user code: no moat, no drawbridge (has {have})"
        assert str(refused.value) == str(at_once.value) == pool.problem == text
        assert (pool.pids, pool.summary()["jail_starts"]) == ([], 1)


async def test_a_call_is_timed(pool: WorkerPool) -> None:
    """From the sending to the answer, waiting for a worker excluded."""
    first = await pool.run(call("return true"))
    slow = await pool.run(call("while true do end"))
    too_large = await pool.run(call("return true", data={"text": "x" * CALL_LIMIT}))

    assert 0 < first.seconds < 5
    assert 0.1 <= slow.seconds < 5
    assert too_large.seconds == 0


async def test_a_summary_counts(impatient: WorkerPool) -> None:
    """What a service's metrics show."""
    before = impatient.summary()
    await impatient.run(call("return true"))
    await impatient.run(call("error('not a kill')"))
    await impatient.run(call(HANG))
    await until_stocked(impatient)

    assert set(before.values()) == {0}
    assert impatient.summary() == {
        "jail_calls": 3,
        "jail_killed": 1,
        "jail_handovers": 0,
        "jail_starts": 4,
        "jail_workers": 3,
    }


async def test_a_worker_that_cannot_start_is_reported() -> None:
    """No worker is not the function's fault, and not an endless wait."""
    async with WorkerPool.open(msgspec.structs.replace(OPTIONS, start_seconds=0.001)) as pool:
        with pytest.raises(JailUnavailable, match=r"^no worker: time limit of 0.001 s"):
            await run(pool, call("return true"))

        assert pool.pids == []


async def test_closing_leaves_nothing_behind() -> None:
    """No process, no zombie, no open file, even with a call under way."""
    files = open_files()
    async with WorkerPool.open(OPTIONS) as pool:
        await run(pool, call("return true"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, call(HANG))
            await anyio.wait_all_tasks_blocked()
            pids = pool.pids
            tasks.cancel_scope.cancel()

    assert pids
    assert all(is_reaped(pid) for pid in pids)
    assert set(open_files().values()) <= set(files.values())
    with pytest.raises(JailUnavailable):
        await run(pool, call("return true"))


async def test_closing_answers_everybody() -> None:
    """Whose call runs is told that it was stopped; whoever waits, that there are no workers."""
    async with WorkerPool.open(SINGLE) as pool:
        await run(pool, call("return true"))
        running = asyncio.create_task(run(pool, call(HANG)))
        waiting = asyncio.create_task(run(pool, call("return true")))
        await anyio.wait_all_tasks_blocked()

    with anyio.fail_after(10):
        assert await running == killed("the worker was stopped")
        with pytest.raises(JailUnavailable, match=r"^the workers are stopped$"):
            await waiting


async def test_workers_end_with_their_service() -> None:
    """A service that is killed takes its workers with it, the busy one too."""
    script = """
import anyio
from tests.delivery.jail.test_pool import HANG, OPTIONS, WorkerPool, call

async def main():
    async with WorkerPool.open(OPTIONS) as pool, anyio.create_task_group() as tasks:
        await pool.run(call("return true"))
        tasks.start_soon(pool.run, call(HANG))
        await anyio.wait_all_tasks_blocked()
        print(*pool.pids, flush=True)

anyio.run(main)
"""
    command = [sys.executable, "-c", script]
    async with await anyio.open_process(
        command, cwd=ROOT, stdin=None, stdout=PIPE, stderr=None
    ) as service:
        assert service.stdout is not None
        pids = [int(pid) for pid in (await service.stdout.receive()).split()]
        service.kill()
        await service.wait()
        for pid in pids:
            await until_gone(pid)

    assert pids


async def test_the_service_never_loads_lua() -> None:
    """Importing everything but the worker's own program does not import lupa."""
    script = "import sys, api.main; sys.exit('lupa' in sys.modules)"
    result = await anyio.run_process([sys.executable, "-c", script], cwd=ROOT, check=False)

    assert result.returncode == 0

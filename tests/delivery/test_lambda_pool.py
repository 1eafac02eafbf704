"""The worker processes: real ones, and functions that do their worst in them."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.lowlevel
import msgspec
import pytest

from delivery.lambda_frames import CALL_LIMIT, Arguments, Call, Limits
from delivery.lambda_pool import LambdaOptions, LambdaPool, Ran
from delivery.lambda_process import LambdaUnavailable

ROOT = Path(__file__).parents[2]
OPTIONS = LambdaOptions(wall_seconds=30, start_seconds=30, limits=Limits(cpu_seconds=0.1))
SINGLE = msgspec.structs.replace(OPTIONS, workers=1, spares=0)
IMPATIENT = msgspec.structs.replace(OPTIONS, wall_seconds=1)
SUCCESS = Ran(None)

HANG = "local a = ('a'):rep(40) return a:find(('a?'):rep(40) .. a)"
"""One call of a C function that takes longer than anybody lives: no clock inside Lua sees it."""


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": loop}) for loop in (False, True)], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """The service runs on uvloop where there is one, and processes differ between the two."""
    return request.param


@pytest.fixture
async def pool() -> AsyncIterator[LambdaPool]:
    async with LambdaPool.open(OPTIONS) as pool:
        yield pool


@pytest.fixture
async def impatient() -> AsyncIterator[LambdaPool]:
    """A pool for functions that only a kill can end."""
    async with LambdaPool.open(IMPATIENT) as pool:
        yield pool


def call(lua: str, *, hook: str = "hook", workspace: str = "", data: object = None) -> Call:
    return Call(
        workspace=workspace,
        hook=hook,
        functions=(f"return function (data, event, source, pid)\n{lua}\nend",),
        arguments=Arguments(msgspec.json.encode(data or {}), "consumers", "crud", 1),
    )


async def until_gone(pid: int) -> None:
    """Wait for the end of any process, child or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(10):
            await anyio.wait_readable(handle)
    finally:
        os.close(handle)


def is_reaped(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def children() -> set[int]:
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def open_files(pid: str = "self") -> dict[str, str]:
    """What the descriptors of a process lead to, by their number."""
    entries = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return {entry.name: os.readlink(entry) for entry in entries}


def limits_of(pid: int) -> dict[str, list[str]]:
    """Soft and hard value by the names that proc(5) gives them."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:25].strip(): line[25:].split()[:2] for line in lines}


async def test_a_call_returns_what_the_function_said(pool: LambdaPool) -> None:
    """Text goes in and comes out as it was, with the lines that were logged."""
    ran = await pool.run(
        call("print(data.name) kong.log.err('x') return true", data={"name": "żółć"})
    )

    assert ran == Ran(None, ((20, "żółć"), (40, "x")))


async def test_output_is_made_safe_to_log(pool: LambdaPool) -> None:
    """No function can forge a line of the log or break its encoding."""
    ran = await pool.run(call(r"print('a\nb\27[0m\tc\194\133') error('\255\r\n', 0)"))

    assert ran == Ran("\ufffd\\r\\n", ((20, "a\\nb\\x1b[0m\tc\\x85"),))


async def test_a_loop_is_stopped_inside_its_worker(pool: LambdaPool) -> None:
    """The soft clock answers with a message, and the process survives."""
    await pool.run(call("return true"))
    ran = await pool.run(call("while true do end"))

    assert (ran.error or "").endswith("]:2: time limit of 0.1s exceeded")
    assert await pool.run(call("return true")) == SUCCESS


async def test_a_hanging_worker_is_killed_and_the_next_call_works(impatient: LambdaPool) -> None:
    """The hard clock ends what the soft one cannot see."""
    with anyio.fail_after(10):
        ran = await impatient.run(call(HANG))
        next_one = await impatient.run(call("return true"))

    assert ran == Ran("no answer within 1 s, killed")
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
async def test_an_attack_is_a_failed_call_and_nothing_else(impatient: LambdaPool, lua: str) -> None:
    """Attacks end in an error or a kill within the hard limit; the next call works."""
    with anyio.fail_after(10):
        attacked = await impatient.run(call(lua))
        same_hook = await impatient.run(call("return true"))
        other_hook = await impatient.run(call("return ('a'):upper() == 'A'", hook="other"))

    assert attacked.error is not None
    assert len(attacked.error) <= 4096
    assert len(attacked.lines) <= 101
    assert (same_hook, other_hook) == (SUCCESS, SUCCESS)


async def test_a_crashed_worker_is_a_failed_call_with_the_reason() -> None:
    """Killed from outside in mid-call: the caller is told, and a new worker takes the next call."""
    results: list[Ran] = []

    async def hang(pool: LambdaPool) -> None:
        results.append(await pool.run(call(HANG)))

    async with LambdaPool.open(SINGLE) as pool:
        await pool.run(call("return true"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hang, pool)
            await anyio.wait_all_tasks_blocked()
            os.kill(pool.pids[0], signal.SIGKILL)
        next_one = await pool.run(call("return true"))

    assert results == [Ran("the Lua worker was killed by SIGKILL")]
    assert next_one == SUCCESS


async def test_a_worker_that_died_unused_costs_no_call() -> None:
    """Nobody is given a worker that is known to be dead."""
    async with LambdaPool.open(SINGLE) as pool:
        await pool.run(call("return true"))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        await until_gone(pid)
        await anyio.wait_all_tasks_blocked()

        assert await pool.run(call("return true")) == SUCCESS
        assert pid not in pool.pids


async def test_a_cancelled_call_takes_its_worker_with_it() -> None:
    """A worker interrupted inside a frame is never used again."""
    async with LambdaPool.open(SINGLE) as pool:
        await pool.run(call("return true"))
        (pid,) = pool.pids
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, call(HANG))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        await until_gone(pid)

        assert await pool.run(call("return true")) == SUCCESS
        assert pid not in pool.pids


async def test_cancelling_a_start_leaves_no_process() -> None:
    """The very first call may be given up while its worker starts."""
    async with LambdaPool.open(OPTIONS) as pool:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pool.run, call("return true"))
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()

        assert children() <= set(pool.pids)
        assert await pool.run(call("return true")) == SUCCESS


async def test_an_answer_beyond_the_cap_ends_the_worker() -> None:
    """What the service is prepared to read from a worker is bounded, whatever the worker thinks."""
    limits = Limits(log_size=1024 * 1024)
    async with LambdaPool.open(msgspec.structs.replace(OPTIONS, limits=limits)) as pool:
        ran = await pool.run(call("print(('x'):rep(1e5)) return true"))

        assert (ran.error or "").startswith("the Lua worker's answer makes no sense")
        assert await pool.run(call("return true")) == SUCCESS


async def test_a_call_beyond_the_cap_is_not_made(pool: LambdaPool) -> None:
    """An event larger than the limit fails without harm to a worker."""
    ran = await pool.run(call("return true", data={"text": "x" * CALL_LIMIT}))

    assert (ran.error or "").endswith(f"bytes, over {CALL_LIMIT}")


async def test_hooks_do_not_see_each_other() -> None:
    """Globals of one hook are invisible to another and to another workspace, in one worker."""
    async with LambdaPool.open(SINGLE) as pool:
        lua = "local seen = secret secret = data.secret print(seen) return true"
        seen = [
            (await pool.run(call(lua, hook=hook, workspace=workspace, data={"secret": hook}))).lines
            for hook, workspace in [("a", ""), ("b", ""), ("a", "w"), ("a", "")]
        ]

        assert [lines[0][1] for lines in seen] == ["nil", "nil", "nil", "a"]
        assert len(pool.pids) == 1


async def test_one_hook_cannot_hold_all_workers() -> None:
    """While one hook hangs as often as it can, another is served at once."""
    async with LambdaPool.open(OPTIONS) as pool, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(pool.run, call(HANG, hook="hostile"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            served = [await pool.run(call("return true", hook="kind")) for _ in range(20)]
        tasks.cancel_scope.cancel()

    assert served == [SUCCESS] * 20


async def test_more_callers_than_workers_wait_their_turn(pool: LambdaPool) -> None:
    """Every caller is answered, with its own answer."""
    answers: dict[int, Ran] = {}

    async def ask(number: int) -> None:
        lua = "print(data.n) return true"
        answers[number] = await pool.run(call(lua, hook=str(number % 7), data={"n": number}))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(ask, number)

    assert answers == {number: Ran(None, ((20, str(number)),)) for number in range(100)}
    assert len(pool.pids) <= OPTIONS.workers + OPTIONS.spares


async def test_a_worn_worker_is_replaced_between_calls() -> None:
    """A worker that asks to be replaced is, without a failed call."""
    options = msgspec.structs.replace(OPTIONS, limits=Limits(calls=3))
    async with LambdaPool.open(options) as pool:
        first = [await pool.run(call("return true"))]
        pids = set(pool.pids)
        rest = [await pool.run(call("return true")) for _ in range(12)]

        assert first + rest == [SUCCESS] * 13
        assert not pids & set(pool.pids)


async def test_check_reports_in_kongs_words(pool: LambdaPool) -> None:
    """Every faulty function is named by its own error; a top-level loop is one."""
    good = "return function () return true end"
    errors = await pool.check([good, "return 7", "syntax error", good, "while true do end"])

    assert errors == [
        "Bad return value from function, expected function type, got number",
        "Error parsing function: [string \"syntax error\"]:1: '=' expected near 'error'",
        'Error parsing function: [string "while true do end"]:1: time limit of 0.1s exceeded',
    ]
    assert await pool.check([good]) == []


async def test_a_worker_has_no_rights_left(pool: LambdaPool) -> None:
    """Empty environment, a session of its own, two pipes and a null device, and tight limits."""
    await pool.run(call("return true"))
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


async def test_a_worker_that_cannot_start_is_reported() -> None:
    """No worker is not the function's fault, and not an endless wait."""
    async with LambdaPool.open(msgspec.structs.replace(OPTIONS, start_seconds=0.001)) as pool:
        with pytest.raises(LambdaUnavailable, match=r"^no Lua worker: no answer within 0.001 s"):
            await pool.run(call("return true"))

        assert pool.pids == []


async def test_closing_leaves_nothing_behind() -> None:
    """No process, no zombie, no open file, even with a call under way."""
    files = open_files()
    async with LambdaPool.open(OPTIONS) as pool:
        await pool.run(call("return true"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, call(HANG))
            await anyio.wait_all_tasks_blocked()
            pids = pool.pids
            tasks.cancel_scope.cancel()

    assert pids
    assert all(is_reaped(pid) for pid in pids)
    assert set(open_files().values()) <= set(files.values())
    with pytest.raises(LambdaUnavailable):
        await pool.run(call("return true"))


async def test_workers_end_with_their_service() -> None:
    """A service that is killed takes its workers with it, the busy one too."""
    script = """
import anyio
from tests.delivery.test_lambda_pool import HANG, OPTIONS, LambdaPool, call

async def main():
    async with LambdaPool.open(OPTIONS) as pool, anyio.create_task_group() as tasks:
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
    script = "import sys, delivery.lambda_handler; sys.exit('lupa' in sys.modules)"
    result = await anyio.run_process([sys.executable, "-c", script], cwd=ROOT, check=False)

    assert result.returncode == 0

"""Lua calls through the pool, against the same functions called in this process; and its starts.

The baseline has no process boundary: it shows what that costs, and is what the service must never
do. A start is compared with that of a Python that imports nothing.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import harmonic_mean, mean

import anyio
import anyio.to_thread
import msgspec

from delivery.jail.frames import Arguments, Call, Functions, Limits, Profile, Setup
from delivery.jail.lua_engine import Lua
from delivery.jail.pool import JailOptions, WorkerPool
from delivery.jail.process import WorkerProcess, worker_command
from scripts.measurement import Result, result

ROUNDS = 10
CALLS = 500
STARTS = 5
WORKSPACES = 50

SMALL = {"operation": "create", "schema": "consumers", "entity": {"username": "Ada", "type": 0}}
LARGE = {"rows": [{"id": n, "name": f"row {n}", "tags": ["a", "b"]} for n in range(130)]}
FUNCTION = """return function (data, event, source, pid)
  if data.operation == "delete" then error("deleted by " .. source) end
  return event == "consumers"
end"""
HANG = """return function ()
  local a = ("a"):rep(40)
  return a:find(("a?"):rep(40) .. a)
end"""
"""Only a kill ends it."""

LIMITS = Limits(calls=sys.maxsize)
IMPATIENT = JailOptions(wall_seconds=0.1)


async def bench_lambda() -> list[Result]:
    """Calls of one hook and of two at once, with a small event and one of 6 KB; starts; tenants."""
    small, large = call(SMALL, "a"), call(LARGE, "a")
    async with WorkerPool.open() as pool:
        results = [
            await _calls(pool, "lambda, small event", [small]),
            await _calls(pool, "lambda, 6 KB event", [large]),
            await _calls(pool, "lambda, two hooks at once", [small, call(SMALL, "b")]),
        ]
    bare = [await _seconds_of_nothing() for _ in range(STARTS)]
    return [
        *results,
        _from_times("lambda, worker starts", await _starts(), bare),
        _from_times("lambda, ready again after a kill", await _after_kills(spares=1), bare),
        _from_times("lambda, the same without a spare", await _after_kills(spares=0), bare),
        *await _tenants(),
    ]


def call(data: object, hook: str, *, workspace: str = "bench", source: str = FUNCTION) -> Call:
    """A call of the benchmark's function."""
    arguments = Arguments(msgspec.json.encode(data), "consumers", "crud", 1)
    return Call(workspace, hook, Functions((source,)), arguments)


async def _calls(pool: WorkerPool, name: str, calls: list[Call]) -> Result:
    ours: list[float] = []
    baseline: list[float] = []
    latencies: list[float] = []
    lua = Lua(LIMITS, Profile())
    for _ in range(ROUNDS):
        ours.append(await _through_pool(pool, calls, CALLS, latencies))
        baseline.append(_in_process(lua, calls[:1], CALLS))
    return result(name, ours, baseline, latencies)


async def _through_pool(
    pool: WorkerPool, calls: Sequence[Call], times: int, latencies: list[float]
) -> float:
    """Calls per second, when each of these is made again as soon as it is answered."""

    async def repeat(call: Call) -> None:
        for _ in range(times):
            before = time.perf_counter()
            ran = await pool.run(call)
            latencies.append(time.perf_counter() - before)
            assert ran.error is None, ran.error  # noqa: S101

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for one in calls:
            tasks.start_soon(repeat, one)
    return times * len(calls) / (time.perf_counter() - start)


def _in_process(lua: Lua, calls: Sequence[Call], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        for one in calls:
            lua.answer(one)
    return times * len(calls) / (time.perf_counter() - start)


async def _tenants() -> list[Result]:
    """What it costs that workspaces never share a worker: all of them at once, and one by one.

    All at once, each asks again as soon as it is answered, and workers change hands by the clock.
    One by one, nearly each call is the first of its workspace for a long time: the worst case.
    """
    calls = [call(SMALL, "a", workspace=str(number)) for number in range(WORKSPACES)]
    baseline = _in_process(Lua(LIMITS, Profile()), calls, 20)
    results: list[Result] = []
    for name, groups, times in (("at once", [calls], CALLS), ("by turns", [[c] for c in calls], 1)):
        latencies: list[float] = []
        async with WorkerPool.open() as pool:
            ours = [await _through_pool(pool, group, times, latencies) for group in groups]
            handovers = pool.summary()["jail_handovers"]
        title = f"lambda, {WORKSPACES} workspaces {name}, {handovers} handovers"
        results.append(result(title, [harmonic_mean(ours)], [baseline], latencies))
    return results


async def _starts() -> list[float]:
    """Seconds until a worker is ready for calls."""
    seconds: list[float] = []
    setup = Setup("lua", Limits(), Profile(), os.getpid())
    for _ in range(STARTS):
        before = time.perf_counter()
        worker = await WorkerProcess.start(worker_command(), setup, 30)
        seconds.append(time.perf_counter() - before)
        await worker.close()
    return seconds


async def _after_kills(*, spares: int) -> list[float]:
    """Seconds from the end of a killed call until the next call is answered."""
    seconds: list[float] = []
    options = msgspec.structs.replace(IMPATIENT, workers=1, spares=spares)
    async with WorkerPool.open(options) as pool:
        for _ in range(STARTS):
            await _until_stocked(pool, 1 + spares)
            await pool.run(call(SMALL, "a", source=HANG))
            before = time.perf_counter()
            await pool.run(call(SMALL, "a"))
            seconds.append(time.perf_counter() - before)
    return seconds


async def _until_stocked(pool: WorkerPool, workers: int) -> None:
    await pool.run(call(SMALL, "a"))
    while pool.summary()["jail_workers"] < workers:
        await anyio.sleep(0.01)


async def _seconds_of_nothing() -> float:
    before = time.perf_counter()
    await anyio.to_thread.run_sync(_run_nothing)
    return time.perf_counter() - before


def _run_nothing() -> None:
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True, env={})


def _from_times(name: str, ours: list[float], baseline: list[float]) -> Result:
    return result(name, [1 / mean(ours)], [1 / mean(baseline)], ours)


if __name__ == "__main__":
    for line in anyio.run(bench_lambda, backend_options={"use_uvloop": True}):
        print(
            f"{line.name:52} {line.ours_per_second:9.0f}/s  {line.baseline_per_second:9.0f}/s"
            f"  {line.ratio:5.2f}  p50 {line.p50_ms:.2f} ms  p99 {line.p99_ms:.2f} ms"
        )

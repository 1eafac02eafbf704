"""Lua calls through the pool, against the same states called in this process; and worker starts.

The baseline has no process boundary: it shows what that costs, and is what the service must never
do. A start is compared with that of a Python that imports nothing.
"""

import subprocess
import sys
import time
from statistics import mean

import anyio
import anyio.to_thread
import msgspec

from delivery.lambda_frames import Arguments, Call, Limits
from delivery.lambda_pool import LambdaPool
from delivery.lambda_process import LambdaProcess
from delivery.lambda_worker import States
from scripts.measurement import Result, result

ROUNDS = 10
CALLS = 500
STARTS = 5

SMALL = {"operation": "create", "schema": "consumers", "entity": {"username": "Ada", "type": 0}}
LARGE = {"rows": [{"id": n, "name": f"row {n}", "tags": ["a", "b"]} for n in range(130)]}
FUNCTION = """return function (data, event, source, pid)
  if data.operation == "delete" then error("deleted by " .. source) end
  return event == "consumers"
end"""
LIMITS = Limits(calls=sys.maxsize)


async def bench_lambda() -> list[Result]:
    """Calls from one hook and from two at once, with a small event and one of 6 KB; starts."""
    small, large = call(SMALL, "a"), call(LARGE, "a")
    async with LambdaPool.open() as pool:
        return [
            await _calls(pool, "lambda, small event", [small]),
            await _calls(pool, "lambda, 6 KB event", [large]),
            await _calls(pool, "lambda, two hooks at once", [small, call(SMALL, "b")]),
            await _starts(),
        ]


def call(data: object, hook: str) -> Call:
    """A call of the benchmark's function."""
    arguments = Arguments(msgspec.json.encode(data), "consumers", "crud", 1)
    return Call(workspace="bench", hook=hook, functions=(FUNCTION,), arguments=arguments)


async def _calls(pool: LambdaPool, name: str, calls: list[Call]) -> Result:
    ours: list[float] = []
    baseline: list[float] = []
    latencies: list[float] = []
    states = States(LIMITS)
    for _ in range(ROUNDS):
        ours.append(await _through_pool(pool, calls, latencies))
        baseline.append(_in_process(states, calls[0]))
    return result(name, ours, baseline, latencies)


async def _through_pool(pool: LambdaPool, calls: list[Call], latencies: list[float]) -> float:
    async def repeat(call: Call) -> None:
        for _ in range(CALLS):
            before = time.perf_counter()
            ran = await pool.run(call)
            latencies.append(time.perf_counter() - before)
            assert ran.error is None, ran.error  # noqa: S101

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for one in calls:
            tasks.start_soon(repeat, one)
    return CALLS * len(calls) / (time.perf_counter() - start)


def _in_process(states: States, call: Call) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        states.answer(call)
    return CALLS / (time.perf_counter() - start)


async def _starts() -> Result:
    """Until a worker is ready for calls, as after a kill when there is no spare."""
    latencies: list[float] = []
    bare: list[float] = []
    for _ in range(STARTS):
        before = time.perf_counter()
        worker = await LambdaProcess.start(Limits(), 30)
        latencies.append(time.perf_counter() - before)
        await worker.close()
        before = time.perf_counter()
        await anyio.to_thread.run_sync(_run_nothing)
        bare.append(time.perf_counter() - before)
    return result("lambda, worker starts", [1 / mean(latencies)], [1 / mean(bare)], latencies)


def _run_nothing() -> None:
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True, env={})


if __name__ == "__main__":
    for line in anyio.run(bench_lambda, backend_options={"use_uvloop": True}):
        print(
            f"{line.name:28} {line.ours_per_second:9.0f}/s  {line.baseline_per_second:9.0f}/s"
            f"  {line.ratio:5.2f}  p50 {line.p50_ms:.2f} ms  p99 {line.p99_ms:.2f} ms"
        )

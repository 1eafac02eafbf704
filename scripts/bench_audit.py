"""What proofs cost: while appending, and to export and verify a log, against a plain SELECT.

BENCH_EVENTS in the environment says how large the log is; the design's figure is a million.
"""

import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from eventstore import Append, EventLog, Kind, new_event, signing
from eventstore.audit_source import bring_up_to_date, log_id
from eventstore.auditor import Auditor
from eventstore.events import EventEmitted
from eventstore.exports import export
from eventstore.inspection import inspect
from eventstore.selection import Selection
from scripts import audit_verify
from scripts.measurement import Result, result

EVENTS: Final = int(os.environ.get("BENCH_EVENTS", "100000"))
APPENDED: Final = 50_000
BATCH: Final = 100
ROUNDS: Final = 3
UNTIMED: Final = (0.0,)  # these have no latencies
COLUMNS: Final = (
    "seq, stream, version, event_id, type, schema_version, kind, time_us, wall_us, "
    "workspace, actor, request_id, subject, salt, body_digest, body, leaf"
)
DATA: Final = msgspec.Raw(msgspec.json.encode({"text": "x" * 400, "number": 42, "list": [1, 2]}))
VERIFIER: Final = Path(__file__).parent / "audit_verify.py"


async def bench_audit(directory: Path) -> list[Result]:
    """Rates are events per second. `directory` is empty."""
    data, small = directory / "data", directory / "small"
    appending = await _bench_append(directory / "appending")
    await _fill(data, EVENTS)
    await _fill(small, max(EVENTS // 10, BATCH))
    steps: dict[str, Callable[[], Awaitable[float]]] = {
        "building the tree": lambda: _timed(_rebuild, data),
        "export": lambda: _timed(_export, data),
        "verifying the export, standard library": lambda: _timed(_verify, data),
        "verifying the log": lambda: _timed(_inspect, data),
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    plain: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            plain[name].append(await _timed(_select, data))
            found[name].append(await step())
    ratios = [
        result(f"audit: {name} / SELECT of the same columns", found[name], plain[name], UNTIMED)
        for name in steps
    ]
    return [appending, *ratios, *await _memory(data, small)]


async def _bench_append(directory: Path) -> Result:
    """How much of the rate of appending is left when the tree is built at the same time."""
    ours: list[float] = []
    alone: list[float] = []
    for number in range(ROUNDS):
        alone.append(await _append(directory / f"alone-{number}", audited=False))
        ours.append(await _append(directory / f"audited-{number}", audited=True))
    return result("audit: append until the tree is signed / append alone", ours, alone, UNTIMED)


async def _append(directory: Path, *, audited: bool) -> float:
    async with EventLog.open(directory) as log, Auditor.open(log, directory) as auditor:
        start = time.perf_counter()
        async with anyio.create_task_group() as background:
            if audited:
                background.start_soon(auditor.run)
            await _append_until(log, APPENDED)
            background.cancel_scope.cancel()
        if audited:
            await auditor.catch_up()
        return APPENDED / (time.perf_counter() - start)


async def _append_until(log: EventLog, count: int) -> None:
    events = tuple(
        new_event(EventEmitted(data=DATA), stream=f"emitted/bench/{n}", kind=Kind.EMITTED)
        for n in range(BATCH)
    )
    while log.head < count:
        await log.append(Append(events=events))


async def _fill(directory: Path, count: int) -> None:
    async with EventLog.open(directory) as log:
        await _append_until(log, count)
    await bring_up_to_date(directory)


async def _timed(step: Callable[[Path], Awaitable[None]], directory: Path) -> float:
    start = time.perf_counter()
    await step(directory)
    return EVENTS / (time.perf_counter() - start)


async def _select(directory: Path) -> None:
    def scan() -> None:
        with closing(sqlite3.connect(directory / "log.db")) as connection:
            for _ in connection.execute(f"SELECT {COLUMNS} FROM event ORDER BY seq"):  # noqa: S608
                pass

    await anyio.to_thread.run_sync(scan)


async def _rebuild(directory: Path) -> None:
    for path in directory.glob("audit.db*"):
        path.unlink()
    await bring_up_to_date(directory)


async def _export(directory: Path) -> None:
    """Into the place of the export before."""
    output = _exported(directory)
    if output.exists():
        shutil.rmtree(output)
    await anyio.to_thread.run_sync(export, directory, output, Selection())


def _exported(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-export")


async def _verify(directory: Path) -> None:
    key = signing.load(directory / "keys.db", log_id(directory)).keys[-1].vkey
    command = [sys.executable, "-I", str(VERIFIER), str(_exported(directory)), "--key", key]
    await anyio.run_process(command)


async def _inspect(directory: Path) -> None:
    found = await anyio.to_thread.run_sync(inspect, directory)
    if found.problems:
        raise RuntimeError(found.problems[0])


_PEAK: Final = """
import sys
from pathlib import Path
from scripts.bench_audit import peak_memory
print(peak_memory(sys.argv[1], Path(sys.argv[2])))
"""


async def _memory(data: Path, small: Path) -> list[Result]:
    """Peak memory on the whole log and on a tenth of it: flat when the ratio is one."""
    results = []
    for name in ("export", "verify", "inspect"):
        peaks = []
        for directory in (data, small):
            done = await anyio.run_process(
                [sys.executable, "-c", _PEAK, name, str(directory)], cwd=VERIFIER.parents[1]
            )
            peaks.append(float(done.stdout.split()[-1]))
        results.append(
            result(f"audit: KiB at most, {name} / on a tenth", peaks[:1], peaks[1:], UNTIMED)
        )
    return results


def peak_memory(name: str, directory: Path) -> int:
    """What this process needed at most, in KiB, for one step and all it imports. Linux only."""
    output = directory.with_name(f"{directory.name}-peak")
    if name == "export":
        export(directory, output, Selection())
    elif name == "verify":
        key = signing.load(directory / "keys.db", log_id(directory)).keys[-1].vkey
        audit_verify.main([str(output), "--key", key])
    else:
        inspect(directory)
    # Not getrusage: its figure begins with what the parent process had.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak)

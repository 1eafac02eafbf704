"""Every measurement in one table: our speed beside a baseline's, both from this run.

    scripts/run bench              everything, about four minutes
    scripts/run bench append emit  some of it: append, replay, start, audit, compact, emit, deliver,
                                   lambda, service

Ratios travel between machines; single figures do not. Each line is the median of rounds in which
ours and the baseline took turns.
"""

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import anyio
import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.bench_append import bench_append
from scripts.bench_audit import bench_audit
from scripts.bench_compaction import bench_compaction
from scripts.bench_consumer import bench_consumer, bench_plain_httpx
from scripts.bench_emit import bench_emit
from scripts.bench_lambda import bench_lambda
from scripts.bench_replay import bench_replay
from scripts.bench_service import RATE, bench_service
from scripts.bench_start import bench_start
from scripts.measurement import Result

PACKAGES = ("aiohttp", "aiosqlite", "anyio", "httpx", "msgspec", "starlette", "uvicorn", "uvloop")


async def _plain(_directory: Path) -> list[Result]:
    return [await bench_plain_httpx()]


async def _lambda(_directory: Path) -> list[Result]:
    return await bench_lambda()


BENCHES: Mapping[str, Sequence[Callable[[Path], Awaitable[list[Result]]]]] = {
    "append": (bench_append,),
    "replay": (bench_replay,),
    "start": (bench_start,),
    "audit": (bench_audit,),
    "compact": (bench_compaction,),
    "emit": (bench_emit,),
    "deliver": (bench_consumer, _plain),
    "lambda": (_lambda,),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*BENCHES, "service"]))
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to write; its disk is what is measured. [default: the system's]",
)
def main(names: tuple[str, ...], directory: Path | None) -> None:
    """Measure, and print one table."""
    chosen = names or (*BENCHES, "service")
    anyio.run(_run, chosen, directory, backend_options={"use_uvloop": True})


async def _run(names: Sequence[str], directory: Path | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    _circumstances(console)
    table = Table("measured", "ours/s", "baseline/s", "ratio", "p50 ms", "p99 ms")
    with tempfile.TemporaryDirectory(dir=directory, prefix="hooktape-bench-") as root:
        for name in names:
            for number, bench in enumerate(BENCHES.get(name, ())):
                place = Path(root) / f"{name}-{number}"
                place.mkdir()
                with console.status(f"measuring {name}"):
                    for each in await bench(place):
                        table.add_row(*_row(each))
        if "service" in names:
            with console.status("measuring the whole way"):
                whole = await bench_service(Path(root) / "service")
            table.add_row(
                "end to end at saturation: recorded deliveries / accepted",
                f"{whole.delivered_per_second:,.0f}",
                f"{whole.accepted_per_second:,.0f}",
                f"{whole.delivered_per_second / whole.accepted_per_second:.2f}",
                "",
                "",
            )
            times = (f"{whole.p50_ms:.2f}", f"{whole.p99_ms:.2f}")
            table.add_row(f"accepted to delivered at {RATE} events/s", "", "", "", *times)
    console.print(table)


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        f"{result.ours_per_second:,.0f}",
        f"{result.baseline_per_second:,.0f}",
        f"{result.ratio:.2f}",
        f"{result.p50_ms:.2f}" if result.p50_ms else "",
        f"{result.p99_ms:.2f}" if result.p99_ms else "",
    )


def _circumstances(console: Console) -> None:
    """What others need to repeat this."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    console.print(f"{platform.platform()}, {os.cpu_count()} cores, {_processor()}")
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}"
    )
    console.print("log: WAL, synchronous=FULL, one fsync per commit before any answer")


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")


if __name__ == "__main__":
    main()

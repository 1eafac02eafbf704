"""`hooktape compact`: on a running service through its Admin API, on a stopped one directly."""

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio
import click
import msgspec

from api.data_directory import data_directory
from api.progress import progress_bar
from api.remote import Refusal, Service, Unanswered
from api.settings import SettingsError
from eventstore.errors import LogError, LogLocked
from eventstore.events import CompactionFinished
from eventstore.plans import Plan
from eventstore.records import Kind
from eventstore.retention import Policy

_UNAVAILABLE: Final = 69
_MISCONFIGURED: Final = 78
_PATH: Final = "/compaction"
_POLL: Final = 0.2
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SIZES: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

Show = Callable[[str, int, int], None]


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration, like 12h, 30d or 4w", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+)([kmgt]?)i?b?", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is no size, like 500M or 20G", param, ctx)
        return int(match[1]) * _SIZES[match[2]]


class _Keep(click.ParamType[tuple[str, float]]):
    name = "kind=duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        kind, _, duration = str(value).partition("=")
        if kind not in {each.name.lower() for each in Kind}:
            self.fail(f"{kind!r} is none of config, emitted, delivery and system", param, ctx)
        return kind, _Duration().convert(duration, param, ctx)


@click.command()
@click.option(
    "--older-than", type=_Duration(), metavar="TIME", help="Like 30d: what is older goes."
)
@click.option(
    "--max-events", type=click.IntRange(0), metavar="N", help="More than N: the oldest go."
)
@click.option("--max-size", "max_bytes", type=_Size(), metavar="SIZE", help="Like 20G.")
@click.option("--before", type=click.IntRange(1), metavar="POSITION", help="What is below goes.")
@click.option(
    "--keep",
    type=_Keep(),
    multiple=True,
    metavar="KIND=TIME",
    help="Like config=365d: these stay for so long, whatever else is asked for. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would go, and what holds it; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--data-dir", metavar="DIR", help="Where the log is. [default: as serve]")
@click.option("--url", envvar="HOOKTAPE_URL", default="http://127.0.0.1:8001", show_default=True)
@click.option("--token", envvar="HOOKTAPE_TOKEN", help="Who you are, where RBAC is enforced.")
def compact(
    dry_run: bool,
    as_json: bool,
    data_dir: str | None,
    url: str,
    token: str | None,
    keep: tuple[tuple[str, float], ...],
    **wanted: Any,
) -> None:
    """Move the oldest part of the log into the archive, and give its room back.

    Nothing goes that a hook has not settled, that is younger than --keep says, or that the audit
    has not sealed. Interrupted, it goes on with the next start or the next call.
    """
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        raise click.UsageError("say what may go: --older-than, --max-events, --max-size, --before")
    policy = msgspec.convert({**given, "keep": dict(keep)}, Policy)
    with _failing():
        service = Service(url, token)
        plan, finished = _directly_or_asked(data_directory(data_dir), service, policy, dry_run)
    if as_json:
        click.echo(msgspec.json.encode(plan if dry_run else finished))
    elif dry_run:
        _tell_plan(plan)
    elif finished is None:
        _tell_plan(plan)
        click.echo("nothing was done")
    else:
        click.echo(
            f"{finished.count} events are in {len(finished.segments)} archived files;"
            f" the log begins at {finished.floor}"
        )


def _directly_or_asked(
    directory: Path, service: Service, policy: Policy, dry_run: bool
) -> tuple[Plan, CompactionFinished | None]:
    with _steps() as show, suppress(LogLocked):
        if (directory / "log.db").exists():
            return anyio.run(_directly, directory, policy, dry_run, show)
    with _steps() as show:
        return _ask(service, policy, dry_run, show)


async def _directly(
    directory: Path, policy: Policy, dry_run: bool, show: Show
) -> tuple[Plan, CompactionFinished | None]:
    from api.offline import compacting

    async with compacting(directory) as compaction:
        plan = await compaction.plan(policy)
        return plan, None if dry_run else await compaction.run(policy, show)


def _ask(
    service: Service, policy: Policy, dry_run: bool, show: Show
) -> tuple[Plan, CompactionFinished | None]:
    before = service.ask("GET", _PATH)["last"]
    body = msgspec.to_builtins(policy) | {"dry_run": dry_run}
    plan = msgspec.convert(service.ask("POST", _PATH, body)["plan"], Plan)
    if dry_run:
        return plan, None
    while (state := service.ask("GET", _PATH))["running"] is not None:
        if at := state["running"]:
            show(at["step"], at["done"], at["total"])
        time.sleep(_POLL)
    if state["problem"] is not None:
        raise LogError(state["problem"])
    if state["last"] == before:
        return plan, None
    return plan, msgspec.convert(state["last"], CompactionFinished)


@contextmanager
def _steps() -> Iterator[Show]:
    """A bar for each step."""
    with ExitStack() as stack:
        shown: tuple[str, Callable[[int, int], None]] = ("", lambda done, total: None)

        def show(step: str, done: int, total: int) -> None:
            nonlocal shown
            if shown[0] != step:
                stack.close()
                shown = step, stack.enter_context(progress_bar(step))
            shown[1](done, total)

        yield show


def _tell_plan(plan: Plan) -> None:
    click.echo(
        f"{plan.events} events (about {plan.bytes} bytes) of positions {plan.first} to"
        f" {plan.floor - 1} can go into {plan.segments} archived files"
        if plan.events
        else f"nothing can go: the log begins at {plan.first}"
    )
    for hold in plan.held:
        click.echo(f"positions from {hold.position} on are needed by {hold.by}")


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _fail(_MISCONFIGURED, str(error))
    except Unanswered as error:
        _fail(_UNAVAILABLE, str(error))
    except (LogError, OSError, sqlite3.Error, Refusal, ValueError) as error:
        _fail(1, str(error))


def _fail(code: int, line: str) -> NoReturn:
    click.echo(f"hooktape: {line}", err=True)
    sys.exit(code)

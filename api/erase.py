"""`hooktape erase`: on a running service through its Admin API, on a stopped one directly."""

import math
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio
import click
import msgspec

from api import remote
from api.data_directory import data_directory
from api.settings import SettingsError
from eventstore.errors import LogError, LogLocked
from eventstore.files import read_only
from eventstore.schema import META

_UNAVAILABLE: Final = 69
_MISCONFIGURED: Final = 78


@click.command()
@click.option("--event", metavar="ID", help="One event: its id or position.")
@click.option("--source", metavar="NAME", help="With --event: the id is the caller's own.")
@click.option("--subject", metavar="KEY", help="Everything about a person, as named in the data.")
@click.option("--workspace", metavar="NAME", help="Everything of a workspace; or its id.")
@click.option("--reason", required=True, help="Stays in the log for good: nothing personal.")
@click.option("--dry-run", is_flag=True, help="Tell how many bodies would go; do nothing.")
@click.option("--data-dir", metavar="DIR", help="Where the log is. [default: as serve]")
@click.option("--url", envvar="HOOKTAPE_URL", default="http://127.0.0.1:8001", show_default=True)
@click.option("--token", envvar="HOOKTAPE_TOKEN", help="Who you are, where RBAC is enforced.")
def erase(
    dry_run: bool, data_dir: str | None, url: str, token: str | None, **given: str | None
) -> None:
    """Take bodies of events away for good: from the log, its copies, and the archive.

    What was is still proved, and nothing else is left of it on this disk. Back-ups made before hold
    it still: `hooktape restore` takes a list of erasures. Prints what was done as JSON.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    if sum(name in asked for name in ("event", "subject", "workspace")) != 1:
        raise click.UsageError("give one of --event, --subject and --workspace")
    if "source" in asked and "event" not in asked:
        raise click.UsageError("--source goes with --event")
    try:
        service = remote.Service(url, token)
        answer = _directly_or_asked(data_directory(data_dir), service, asked, dry_run)
    except SettingsError as error:
        _fail(_MISCONFIGURED, str(error))
    except remote.Unanswered as error:
        _fail(_UNAVAILABLE, str(error))
    except (LogError, OSError, sqlite3.Error, remote.Refusal, ValueError) as error:
        _fail(1, str(error))
    click.echo(msgspec.json.encode(answer))


def _directly_or_asked(
    directory: Path, service: remote.Service, asked: dict[str, str], dry_run: bool
) -> Any:
    if not (directory / "log.db").exists():
        raise LogError(f"there is no log in {directory}")
    try:
        return anyio.run(_directly, directory, asked, dry_run)
    except LogLocked:
        known = service.ask("GET", "/").get("node_id")
        if known != _log_id(directory):
            raise remote.Refusal(
                f"the service at {service.url} has another log than {directory}: give --url"
            ) from None
        return service.ask("POST", "/erasures" + "?dry_run=true" * dry_run, asked)


async def _directly(directory: Path, asked: dict[str, str], dry_run: bool) -> Any:
    from api.erasures import Erasing, asked as checked
    from api.offline import at_rest
    from api.responses import RequestError
    from eventstore.records import Append
    from projections.tables import DEFAULT_WORKSPACE

    try:
        ask = checked(dict(asked))
        async with at_rest(directory) as rest, anyio.create_task_group() as background:
            background.start_soon(rest.projections.run)
            workspace = rest.entities.workspace
            erasing = Erasing(
                rest.log, rest.projections, rest.service.erased, workspace, background, math.inf
            )
            wanted = await erasing.wanted(ask, DEFAULT_WORKSPACE)
            if dry_run:
                answer: dict[str, Any] = {"would_erase": await erasing.count(wanted)}
            else:
                erased = await erasing.erase(wanted, ask.reason, Append(events=()))
                answer = {"erased": erased.count, "records": erased.records}
            background.cancel_scope.cancel()
    except* RequestError as group:
        raise remote.Refusal(_message(group)) from None
    return answer


def _message(group: BaseExceptionGroup[BaseException]) -> str:
    error = group.exceptions[0]
    return _message(error) if isinstance(error, BaseExceptionGroup) else str(error)


def _log_id(directory: Path) -> str:
    with closing(read_only(directory / "log.db")) as connection:
        (found,) = connection.execute(META, ("log_id",)).fetchone()
    return str(found)


def _fail(code: int, line: str) -> NoReturn:
    click.echo(f"hooktape: {line}", err=True)
    sys.exit(code)

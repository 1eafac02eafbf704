"""`hooktape rebuild`: the read models made anew from the log. Never an effect."""

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import click
import msgspec

from api.data_directory import data_directory
from api.progress import progress_bar
from api.settings import SettingsError
from eventstore import lock
from eventstore.errors import LogError, LogLocked
from projections.deliveries import Deliveries
from projections.entities import Entities
from projections.fresh import Fresh, Progress, Start
from projections.health import Health
from projections.history import History
from projections.hooks import Hooks
from projections.model import ReadModel
from projections.rebuild import Rebuilt, past, rebuild as fold
from projections.sources import Sources
from projections.tables import TABLES

_MISCONFIGURED: Final = 78
_CHECKPOINTS: Final = "checkpoints"
_MODELS: Final = ("hooks", "sources", "entities", "deliveries", "health")


@click.command()
@click.argument("models", nargs=-1, type=click.Choice(_MODELS))
@click.option(
    "--from",
    "origin",
    metavar="START",
    help="zero, with the archive if need be; snapshot; or the name of a saved checkpoint."
    " [default: zero, or the snapshot of a compacted log]",
)
@click.option("--verify", is_flag=True, help="Only compare; works beside a running service.")
@click.option(
    "--until", type=click.IntRange(0), metavar="N", help="Print the state after N instead."
)
@click.option("--output", type=click.File("wb", atomic=True), default="-", help="For --until.")
@click.option("--save", metavar="NAME", help="Keep the result as a checkpoint of this name.")
@click.option("--data-dir", metavar="DIR", help="Where the log is. [default: as serve]")
def rebuild(
    models: tuple[str, ...],
    origin: str | None,
    verify: bool,
    until: int | None,
    output: IO[bytes],
    save: str | None,
    data_dir: str | None,
) -> None:
    """Rebuild read MODELS, or all, from the log; compare them with the live ones, and swap them in.

    Exit code 1 when they differed; without --verify they are swapped all the same.
    """
    with _failing():
        directory = data_directory(data_dir)
        start = _start(directory, origin, until)
        if until is not None:
            with (
                progress_bar("folding") as progress,
                past(directory, _all(), start=start, until=until, progress=progress) as fresh,
            ):
                _print(fresh, models or _MODELS, output)
            return
        with progress_bar("rebuilding") as progress:
            found = _rebuild(directory, models, start, verify, save, progress)
    _tell(found)
    if found.differences:
        sys.exit(1)


def _rebuild(
    directory: Path,
    models: Sequence[str],
    start: Start,
    verify: bool,
    save: str | None,
    progress: Progress,
) -> Rebuilt:
    """Only what changes view.db needs the service to be stopped."""
    held = None if verify else lock.acquire(directory)
    try:
        return fold(
            directory,
            _all(),
            start=start,
            only=models,
            swap=not verify,
            save=None if save is None else _checkpoint(directory, save),
            progress=progress,
        )
    finally:
        if held is not None:
            lock.release(held)


def _all() -> list[ReadModel]:
    return [Hooks(), Sources(TABLES), Entities(), Deliveries(), Health()]


def _start(directory: Path, origin: str | None, until: int | None) -> Start:
    if origin == "zero" or origin == "snapshot":
        return "zero" if origin == "zero" else "snapshot"
    if origin is not None:
        return _checkpoint(directory, origin)
    history = History(directory)
    try:
        compacted = history.first > 1 and (until is None or until >= history.first - 1)
    finally:
        history.close()
    return "snapshot" if compacted else "zero"


def _checkpoint(directory: Path, name: str) -> Path:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter(f"{name!r}: letters, digits, - and _ only")
    return directory / _CHECKPOINTS / f"{name}.db"


def _print(fresh: Fresh, models: Sequence[str], output: IO[bytes]) -> None:
    """One line for each item, without secrets."""
    for model, key, value in fresh.items(models):
        item = _public(msgspec.json.decode(value))
        output.write(msgspec.json.encode({"model": model, "key": key, "item": item}) + b"\n")


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _public(inner)
            for name, inner in value.items()
            if name not in ("secret", "secrets")
        }
    return [_public(inner) for inner in value] if isinstance(value, list) else value


def _tell(found: Rebuilt) -> None:
    for name, count in sorted(found.items.items()):
        click.echo(f"{name}: {count} items")
    for model, key, live, rebuilt in found.differences:
        where = "differs" if live and rebuilt else "is only live" if live else "is only rebuilt"
        click.echo(f"NOT EQUAL: {model} {key} {where}")
    if found.compared is None:
        click.echo("there was nothing to compare with")
    elif not found.differences:
        click.echo(f"OK: equal to the live ones at position {found.compared}")
    if found.swapped:
        click.echo(f"view.db is at position {found.position}")


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _fail(_MISCONFIGURED, str(error))
    except LogLocked as error:
        _fail(1, f"{error}; beside a running service only --verify and --until work")
    except (LogError, OSError, sqlite3.Error) as error:
        _fail(1, str(error))


def _fail(code: int, line: str) -> NoReturn:
    click.echo(f"hooktape: {line}", err=True)
    sys.exit(code)

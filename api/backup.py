"""`hooktape backup` and `hooktape restore`."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from api.data_directory import data_directory
from api.settings import SettingsError
from eventstore.errors import LogError

_MISCONFIGURED = 78


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--data-dir", metavar="DIR", help="Where the log is. [default: as serve]")
def backup(target: Path, data_dir: str | None) -> None:
    """Copy the log and its keys into the new directory TARGET, beside a running service.

    The copy is read again and checked before it gets its name. Prints its manifest.

    It holds what is erased later: keep the list of erasures (GET /erasures) apart from it, and hand
    it to `hooktape restore`; throw away back-ups older than the time you may keep erased data.
    """
    from eventstore.backup import backup as make

    with _failing():
        manifest = make(data_directory(data_dir), target)
    click.echo(msgspec.json.encode(manifest))


@click.command()
@click.argument("source", metavar="BACKUP", type=click.Path(exists=True, path_type=Path))
@click.argument("data_dir", type=click.Path(path_type=Path))
@click.option(
    "--erasures",
    metavar="FILE|DIR",
    type=click.Path(exists=True, path_type=Path),
    help="Erase again what was erased since: the answer of GET /erasures, or the old data dir.",
)
def restore(source: Path, data_dir: Path, erasures: Path | None) -> None:
    """Make DATA_DIR, which must be empty or new, out of a back-up.

    The service then starts only with --accept-repeats: which deliveries were made since the
    back-up, nobody knows.
    """
    from eventstore.restore import restore as make

    with _failing():
        restored = make(source, data_dir, erasures)
    click.echo(msgspec.json.encode(restored))
    if erasures is None:
        click.echo(
            "hooktape: what was erased since the back-up is back: erase it again, or restore with"
            " --erasures",
            err=True,
        )


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _fail(_MISCONFIGURED, str(error))
    except (LogError, OSError, sqlite3.Error) as error:
        _fail(1, str(error))


def _fail(code: int, line: str) -> NoReturn:
    click.echo(f"hooktape: {line}", err=True)
    sys.exit(code)

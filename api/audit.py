"""`hooktape audit`: exports, proofs and checks of the log, whether the service runs or not."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click
import msgspec

from api.audit_filters import DATA_DIR, filtered, selection
from api.data_directory import data_directory
from api.progress import progress_bar
from api.settings import SettingsError
from eventstore.errors import LogError

VERIFIER = Path(__file__).parents[1] / "scripts" / "audit_verify.py"

_MISCONFIGURED = 78


@click.group()
def audit() -> None:
    """Prove what was configured, what happened, and what was sent.

    Works beside a running service. Nothing here changes the log.
    """


@audit.command()
@click.argument("output", type=click.Path(path_type=Path))
@filtered
@click.option(
    "--since",
    type=click.File(),
    help="An earlier checkpoint: prove that nothing before it was changed. [default: of the last]",
)
@click.option("--no-bodies", is_flag=True, help="Envelopes and digests only.")
@DATA_DIR
def export(
    output: Path, since: Any, no_bodies: bool, data_dir: str | None, **selected: Any
) -> None:
    """Write a signed export of the log, or of a part of it, into the new directory OUTPUT.

    Prints the checkpoint: keep it, and hand it in as --since the next time.
    """
    from eventstore.exports import export as write

    with _failing():
        directory = _current(data_dir)
        with progress_bar("exporting") as progress:
            manifest = write(
                directory,
                output,
                selection(selected),
                since=since and since.read(),
                bodies=not no_bodies,
                progress=progress,
            )
    counts = manifest.events
    click.echo(manifest.checkpoint, nl=False)
    click.echo(
        f"{counts.events} events of positions {manifest.first} to {manifest.last}, "
        f"{counts.withheld} without body, {counts.erased} erased",
        err=True,
    )


@audit.command()
@click.argument("export", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--key", help="The verifier key, or a file with it. [default: of this log]")
@click.option("--since", type=click.Path(exists=True, path_type=Path), help="Your checkpoint.")
@DATA_DIR
def verify(export: Path | None, key: str | None, since: Path | None, data_dir: str | None) -> None:
    """Check an EXPORT or proof; without one, every event, tile and checkpoint of this log.

    Exports are checked by scripts/audit_verify.py, which works alone, on any machine.
    """
    if export is not None:
        with _failing():
            key = key or _keys(data_directory(data_dir))[0]
        given = ["--since", str(since)] if since else []
        command = [sys.executable, "-I", str(VERIFIER), str(export), "--key", key, *given]
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own program
    from eventstore.inspection import inspect

    with _failing(), progress_bar("verifying") as progress:
        found = inspect(data_directory(data_dir), progress)
    for problem in found.problems:
        click.echo(f"NOT VALID: {problem}")
    if found.problems:
        sys.exit(1)
    click.echo(
        f"OK: positions {found.first} to {found.head} are as they were stored; "
        f"the tree has {found.size}, with {found.checkpoints} checkpoints"
    )


@audit.command()
@click.argument("event")
@click.option("--hook", metavar="ID", help="Prove what became of its delivery to this hook.")
@click.option("--output", type=click.File("wb", atomic=True), default="-")
@DATA_DIR
def prove(event: str, hook: str | None, output: Any, data_dir: str | None) -> None:
    """Prove that EVENT, a position or an id, is in the log; with --hook, the delivery too.

    The proof is for `hooktape audit verify`, or scripts/audit_verify.py.
    """
    from eventstore import proofs
    from eventstore.audit_source import reading_from

    with _failing(), reading_from(_current(data_dir)) as source:
        seq = proofs.position(source, event)
        facts = proofs.facts(source, hook, seq) if hook else []
        if hook and not facts:
            _fail(f"the log says nothing about a delivery of position {seq} to hook {hook}")
        output.write(proofs.prove(source, [seq, *facts]))


@audit.command()
@filtered
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@DATA_DIR
def report(as_json: bool, data_dir: str | None, **selected: Any) -> None:
    """Who changed what, when, and from where."""
    from eventstore.audit_source import reading_from
    from eventstore.changes import changes

    with _failing(), reading_from(_current(data_dir)) as source:
        found = changes(source.log, selection(selected))
        if as_json:
            for change in found:
                click.echo(msgspec.json.encode(change))
        else:
            for change in found:
                _show(change)


@audit.command()
@click.option("--rotate", is_flag=True, help="Make a new key, endorsed by the last one.")
@DATA_DIR
def key(rotate: bool, data_dir: str | None) -> None:
    """Print the log's verifier keys, the newest first: what an auditor has to be given.

    --rotate needs the service to be stopped.
    """
    with _failing():
        for each in _keys(data_directory(data_dir), rotate=rotate):
            click.echo(each)


@audit.command()
@DATA_DIR
def checkpoint(data_dir: str | None) -> None:
    """Print a signed checkpoint of the log as it is now: keep it somewhere else."""
    from eventstore.audit_source import reading_from

    with _failing(), reading_from(_current(data_dir)) as source:
        click.echo(source.checkpoint, nl=False)


def _current(data_dir: str | None) -> Path:
    """The data directory, with everything stored until now in the tree."""
    from eventstore.audit_source import bring_up_to_date

    directory = data_directory(data_dir)
    anyio.run(bring_up_to_date, directory)
    return directory


def _keys(directory: Path, *, rotate: bool = False) -> list[str]:
    from eventstore import signing
    from eventstore.audit_source import log_id

    log = log_id(directory)
    signer = signing.rotate(directory, log) if rotate else signing.load(directory / "keys.db", log)
    return [key.vkey for key in reversed(signer.keys)]


def _show(change: Any) -> None:
    who = change.actor or "-"
    request = change.request_id or "-"
    moment = f"{change.time:%Y-%m-%d %H:%M:%S}Z"
    click.echo(f"{moment}  #{change.position}  {change.action}  {change.what}")
    click.echo(f"    by {who}, request {request}, workspace {change.workspace or '-'}")
    if change.fields is None:
        click.echo("    (the body was erased)")
        return
    for path, (old, new) in change.fields.items():
        click.echo(f"    {path}: {_text(old)} -> {_text(new)}")
    for name in change.secrets:
        click.echo(f"    {name}: (secret)")


def _text(value: Any) -> str:
    return "-" if value is None else msgspec.json.encode(value).decode()


@contextmanager
def _failing() -> Iterator[None]:
    """Whatever is no fault of the program ends it with one line."""
    try:
        yield
    except SettingsError as error:
        click.echo(f"hooktape: {error}", err=True)
        sys.exit(_MISCONFIGURED)
    except (LogError, OSError, ValueError, sqlite3.Error) as error:
        _fail(str(error))


def _fail(reason: str) -> NoReturn:
    click.echo(f"hooktape: {reason}", err=True)
    sys.exit(1)

"""The command `hooktape`.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 69 the service cannot be reached or is not
available, 78 a setting cannot be used.
"""

import os
import signal
import sys
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NoReturn

import click
import msgspec
from click.shell_completion import get_completion_class

from api import __version__

UNAVAILABLE = 69
MISCONFIGURED = 78

SERVICE_URL = "http://127.0.0.1:8001"
SETTINGS_FILE = Path("hooktape.toml")


_ELSEWHERE = {
    "audit": "api.audit",
    "backup": "api.backup",
    "compact": "api.compact",
    "doctor": "api.doctor",
    "erase": "api.erase",
    "rebuild": "api.rebuild",
    "restore": "api.backup",
}
"""The modules of commands that work on the log themselves, by name."""


class _Commands(click.Group):
    """Imports those modules when their commands are wanted: `emit` takes a third of the time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(_ELSEWHERE[cmd_name]), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hooktape")
def main() -> None:
    """Event hooks on an append-only log, speaking Kong's Event Hooks Admin API."""


@main.command()
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="HOOKTAPE_CONFIG",
    help="Settings file. [default: hooktape.toml, if there is one]",
)
@click.option("--data-dir", metavar="DIR", help="Where the log lives. [default: ./data]")
@click.option(
    "--listen",
    "admin_listen",
    metavar="HOST:PORT",
    help="Address of the Admin API; port 0 takes a free one. [default: 127.0.0.1:8001]",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, notice, warn, error or crit.")
@click.option("--log-format", metavar="FORMAT", help="auto, text or json.")
@click.option(
    "--accept-repeats",
    flag_value="true",
    default=None,
    help="Go on after a restore, although some deliveries may be repeated.",
)
def serve(config: Path | None, **given: str | None) -> NoReturn:
    """Run the service: the Admin API and the deliveries.

    Every option is a setting; the others are read from the environment (HOOKTAPE_ + the name in
    upper case) and from the settings file.
    """
    from api import settings

    try:
        chosen = settings.load(given, settings.read_files(os.environ), _settings_text(config))
    except settings.SettingsError as error:
        _fail(MISCONFIGURED, *error.problems)
    from api.main import serve as run

    sys.exit(run(chosen))


def _settings_text(config: Path | None) -> str | None:
    """What the settings file says. Only the one that was asked for must exist."""
    try:
        return (config or SETTINGS_FILE).read_text("utf-8")
    except FileNotFoundError as error:
        if config is None:
            return None
        _fail(MISCONFIGURED, str(error))
    except (OSError, UnicodeError) as error:
        _fail(MISCONFIGURED, f"cannot read {config or SETTINGS_FILE}: {error}")


@main.command()
@click.argument("source", required=False)
@click.argument("event", required=False)
@click.argument("data", default="{}")
@click.option("--id", "id_", help="Your own id of the event; the same id is stored once.")
@click.option("--idempotency-key", help="The same key is stored once. [default: a new one]")
@click.option(
    "--ndjson",
    type=click.File("rb"),
    help="Send the events in this file instead, one JSON object per line; - is the standard input.",
)
@click.option("--url", envvar="HOOKTAPE_URL", default=SERVICE_URL, show_default=True)
@click.option(
    "--token",
    envvar="HOOKTAPE_TOKEN",
    help="Who you are, where RBAC is enforced; others can see it here, so rather set"
    " HOOKTAPE_TOKEN.",
)
def emit(
    source: str | None,
    event: str | None,
    data: str,
    id_: str | None,
    idempotency_key: str | None,
    ndjson: BinaryIO | None,
    url: str,
    token: str | None,
) -> None:
    """Report a fact: SOURCE EVENT [DATA]. DATA is a JSON object, or - for the standard input.

    Prints the service's answer. All events of an --ndjson file are stored together or none is.
    """
    from api import emit as client

    if (event is None) if ndjson is None else (source is not None or id_ is not None):
        raise click.UsageError("give SOURCE and EVENT, or --ndjson FILE alone")
    try:
        if ndjson is None:
            text = sys.stdin.buffer.read() if data == "-" else os.fsencode(data)
            body = client.one(str(source), str(event), text, id_)
        else:
            body = ndjson.read()
        answer = client.send(url, body, lines=ndjson is not None, key=idempotency_key, token=token)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except client.Unreachable as error:
        _fail(UNAVAILABLE, str(error))
    click.echo(answer.body)
    if not 200 <= answer.status < 300:
        _fail(UNAVAILABLE if answer.status == 503 else 1, f"the service answered {answer.status}")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=9000, help="[default: 9000; 0: any]"
)
@click.option("--status", type=click.IntRange(200, 599), default=200, help="What to answer. [200]")
@click.option("--secret", help="A hook's config.secret, to check the signatures with.")
@click.option("--once", "count", flag_value=1, type=int, help="Stop after one request.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="Stop after N requests.")
def listen(host: str, port: int, status: int, secret: str | None, count: int | None) -> None:
    """Receive webhooks, print them, and say whether their signatures hold.

    Prints its URL first. On a terminal what follows is for people; otherwise each line is a JSON
    object.
    """
    from api.listen import listening

    pretty = sys.stdout.isatty()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopping is the ordinary end
    try:
        with listening(host, port, status=status, secret=secret) as receiver:
            click.echo(receiver.url if pretty else msgspec.json.encode({"listening": receiver.url}))
            for arrival in islice(receiver, count):
                click.echo(arrival.as_text() if pretty else msgspec.json.encode(arrival))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from error
    except OSError as error:
        _fail(1, f"cannot listen on {host}:{port}: {error}")
    except KeyboardInterrupt:
        return


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script for your shell that completes this command.

    For bash: eval "$(hooktape completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(main, {}, "hooktape", "_HOOKTAPE_COMPLETE").source())


def _fail(code: int, *lines: str) -> NoReturn:
    for line in lines:
        click.echo(f"hooktape: {line}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""`hooktape doctor`: what is wrong with this installation, one line for each check."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import click
import msgspec

from api.data_directory import SETTINGS_FILE
from api.settings import Settings, SettingsError, load, read_files
from eventstore import lock
from eventstore.checkup import Finding, examine
from eventstore.errors import LogLocked

_SIGNS = {"ok": "ok  ", "warning": "WARN", "failure": "FAIL"}


@click.command()
@click.option("--data-dir", metavar="DIR", help="Where the log is. [default: as serve]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def doctor(data_dir: str | None, as_json: bool) -> None:
    """Check settings, machine and files; beside a running service, too.

    Reads all of the log. Changes nothing. Exit code 1 when a check fails; warnings are no failure.
    """
    findings = []
    for finding in _findings(data_dir):
        findings.append(finding)
        if not as_json:
            click.echo(f"{_SIGNS[finding.state]}  {finding.check}: {finding.text}")
    if as_json:
        click.echo(msgspec.json.encode(findings))
    sys.exit(any(finding.state == "failure" for finding in findings))


def _findings(data_dir: str | None) -> Iterator[Finding]:
    try:
        text = SETTINGS_FILE.read_text("utf-8") if SETTINGS_FILE.exists() else None
        settings = load({"data_dir": data_dir}, read_files(os.environ), text)
    except (SettingsError, OSError, UnicodeError) as error:
        for problem in str(error).splitlines():
            yield Finding("settings", "failure", problem)
        settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    else:
        yield Finding("settings", "ok", f"data in {settings.data_dir}")
    directory = Path(settings.data_dir)
    yield _service(directory, settings)
    yield from examine(directory)
    yield from _delivery(settings)


def _service(directory: Path, settings: Settings) -> Finding:
    if (directory / "lock").exists():
        try:
            lock.release(lock.acquire(directory))
        except LogLocked as error:
            return Finding("service", "ok", f"runs: {error}")
    try:
        host, port = settings.admin_address
        socket.create_server((host, port), family=_family(host)).close()
    except (OSError, ValueError) as error:
        return Finding("service", "failure", f"cannot listen on {settings.admin_listen}: {error}")
    return Finding("service", "ok", f"does not run, and could listen on {settings.admin_listen}")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _delivery(settings: Settings) -> Iterator[Finding]:
    from api.offline import address_policy, jail

    try:
        yield Finding("address policy", "ok", address_policy(settings))
    except ValueError as error:
        yield Finding("address policy", "failure", f"egress_allow: {error}")
    text, runs = anyio.run(jail)
    yield Finding("jail", "ok" if runs else "failure", text)

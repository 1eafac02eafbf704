"""`hooktape audit` on a stopped log."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from tests.eventstore.audited import HOOK, SECRET, lines, log_with_everything

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return log_with_everything(tmp_path / "data")


def audit(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments, "--data-dir", str(data)])


def test_an_export_prints_the_checkpoint_to_keep(data: Path, tmp_path: Path) -> None:
    """Alone on standard output, so that it can be sent to a file; the rest is said beside it."""
    done = audit(data, "export", str(tmp_path / "export"))

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1] == "10"
    assert done.stderr == "10 events of positions 1 to 10, 2 without body, 0 erased\n"
    assert (
        done.stdout
        == json.loads((tmp_path / "export" / "manifest.json").read_bytes())["checkpoint"]
    )


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--from", "3", "--to", "5"), 3),
        (("--workspace", "two"), 4),
        (("--actor", "ops"), 3),
        (("--hook", HOOK), 4),
        (("--entity", "consumers"), 2),
        (("--kind", "delivery", "--kind", "config"), 6),
        (("--after", "2100-01-01"), 0),
        (("--before", "2100-01-01T00:00:00+02:00"), 10),
        (("--no-bodies",), 10),
    ],
)
def test_parts_are_exported(
    data: Path, tmp_path: Path, options: tuple[str, ...], count: int
) -> None:
    """Each option selects; what comes out is verified."""
    export = tmp_path / "export"
    done = audit(data, "export", str(export), *options)

    assert done.exit_code == 0, done.output
    assert len([line for line in lines(export) if "envelope" in line]) == count
    assert (
        subprocess.run(
            [
                sys.executable,
                "-m",
                "api.cli",
                "audit",
                "verify",
                str(export),
                "--data-dir",
                str(data),
            ],
            cwd=ROOT,
            check=False,
            stdout=subprocess.DEVNULL,
        ).returncode
        == 0
    )


@pytest.mark.parametrize(
    "options", [("--after", "yesterday"), ("--kind", "secret"), ("--from", "0")]
)
def test_wrong_options_are_wrong_usage(data: Path, options: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is written."""
    done = audit(data, "export", str(data.with_name("export")), *options)

    assert done.exit_code == 2
    assert not data.with_name("export").exists()


def test_an_earlier_checkpoint_can_be_handed_in(data: Path, tmp_path: Path) -> None:
    """What `checkpoint` printed is what --since takes."""
    kept = tmp_path / "kept"
    kept.write_text(audit(data, "checkpoint").stdout)
    done = audit(data, "export", str(tmp_path / "export"), "--since", str(kept))

    assert done.exit_code == 0, done.output
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_bytes())
    assert manifest["consistency"]["checkpoint"] == kept.read_text()
    kept.write_text("rubbish")
    done = audit(data, "export", str(tmp_path / "another"), "--since", str(kept))
    assert (done.exit_code, done.stderr) == (1, "hooktape: not a signed note\n")


def test_a_whole_log_verifies(data: Path) -> None:
    """In one line."""
    done = audit(data, "verify")

    assert (done.exit_code, done.stdout) == (
        0,
        "OK: positions 1 to 10 are as they were stored; the tree has 10, with 1 checkpoints\n",
    )


def test_a_changed_event_is_named(data: Path) -> None:
    """One line for each problem, and exit code 1."""
    with closing(sqlite3.connect(data / "log.db")) as connection, connection:
        connection.execute("DROP TRIGGER event_only_erase")
        connection.execute("UPDATE event SET actor = 'me' WHERE seq IN (3, 7)")
    done = audit(data, "verify")

    assert done.exit_code == 1
    assert done.stdout == (
        "NOT VALID: position 3: the leaf is not the hash of the event\n"
        "NOT VALID: position 7: the leaf is not the hash of the event\n"
    )


def test_a_delivery_is_proved(data: Path, tmp_path: Path) -> None:
    """The event and the receipt; and where the log says nothing, so does the command."""
    proof = tmp_path / "proof"
    done = audit(data, "prove", "3", "--hook", HOOK, "--output", str(proof))
    checked = subprocess.run(
        [sys.executable, "-m", "api.cli", "audit", "verify", str(proof), "--data-dir", str(data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    nothing = audit(data, "prove", "5", "--hook", HOOK)

    assert done.exit_code == 0, done.output
    assert checked.stdout.startswith("OK: positions 3, 6 are in log ")
    assert (nothing.exit_code, nothing.stderr) == (
        1,
        f"hooktape: the log says nothing about a delivery of position 5 to hook {HOOK}\n",
    )
    assert audit(data, "prove", "nobody").exit_code == 1


def test_the_report_is_readable(data: Path) -> None:
    """A paragraph for each change, secrets named only."""
    done = audit(data, "report", "--entity", "event_hooks")

    assert done.exit_code == 0
    text = done.stdout.splitlines()
    assert text[0].endswith(f"Z  #1  entity_created  event_hooks/{HOOK}")
    assert text[1] == "    by root, request req-1, workspace one"
    assert '    config.url: "http://x/" -> "http://y/"' in text
    assert "    config.secret: (secret)" in text
    assert SECRET not in done.stdout


def test_the_report_is_json_when_asked(data: Path) -> None:
    """One object per line."""
    done = audit(data, "report", "--json", "--actor", "ops")
    found = [json.loads(line) for line in done.stdout.splitlines()]

    assert [each["position"] for each in found] == [7, 8, 9]
    assert found[0]["fields"] == {"config.url": ["http://x/", "http://y/"]}


def test_an_erased_change_is_said_to_be_erased(data: Path) -> None:
    """Not to be without fields."""
    with closing(sqlite3.connect(data / "log.db")) as connection, connection:
        connection.execute("UPDATE event SET salt = NULL, body = NULL WHERE seq = 2")
    done = audit(data, "report", "--entity", "consumers", "--to", "2")

    assert done.stdout.splitlines()[2] == "    (the body was erased)"


def test_keys_are_shown_and_rotated(data: Path) -> None:
    """The newest first."""
    (first,) = audit(data, "key").stdout.splitlines()
    both = audit(data, "key", "--rotate").stdout.splitlines()

    assert both[1] == first
    assert both[0] != first
    assert audit(data, "verify").exit_code == 0


def test_a_terminal_sees_how_far_it_is(data: Path, tmp_path: Path) -> None:
    """A bar with count and rate, on standard error only."""
    ours, theirs = os.openpty()
    command = ["audit", "export", str(tmp_path / "export"), "--data-dir", str(data)]
    with open(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", *command],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(theirs)
        shown = terminal.read(4096).decode()

    assert "exporting" in shown
    assert "10/10" in shown
    assert done.stdout.count(b"\n") == 5


def test_without_a_log_nothing_is_made(tmp_path: Path) -> None:
    """Every command says that there is none."""
    for command in (["checkpoint"], ["verify"], ["key"], ["report"], ["prove", "1"]):
        done = audit(tmp_path / "nothing", *command)

        assert done.exit_code == 1
        assert "no log.db" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_used_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the exit code they have everywhere."""
    monkeypatch.setenv("HOOKTAPE_LOG_LEVEL", "loud")
    done = CliRunner().invoke(main, ["audit", "key"])

    assert done.exit_code == 78
    assert "HOOKTAPE_LOG_LEVEL" in done.stderr

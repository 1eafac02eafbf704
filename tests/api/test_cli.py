"""What the command `hooktape` promises, mostly tried as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from api import __version__
from api.cli import main
from api.emit import Answer, send
from api.listen import listening

COMMANDS = main.list_commands(click.Context(main))
HOOKTAPE = [sys.executable, "-c", "from api.cli import main; main(prog_name='hooktape')"]
ROOT = Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """The environment without anything that would set Hooktape up, and with these."""
    plain = {name: text for name, text in os.environ.items() if not name.startswith("HOOKTAPE_")}
    return plain | {"PYTHONPATH": str(ROOT)} | variables


def hooktape(
    *arguments: str, cwd: Path = ROOT, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOOKTAPE, *arguments],
        cwd=cwd,
        input=stdin,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@contextmanager
def receiver(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`hooktape listen` on a free port, and its URL."""
    with subprocess.Popen(
        [*HOOKTAPE, "listen", "--port", "0", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["listening"]
        finally:
            process.kill()


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_every_command_explains_itself(command: list[str], option: str) -> None:
    """Both spellings of help work everywhere."""
    done = CliRunner().invoke(main, [*command, option], prog_name="hooktape")

    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: {' '.join(['hooktape', *command])} ")


def test_sending_an_event_waits_for_no_other_command() -> None:
    """The modules of commands that work on the log are not even imported."""
    script = "import sys, api.cli; print('eventstore' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "False\n"


def test_the_version_is_told() -> None:
    """As other programs do it."""
    assert hooktape("--version").stdout == f"hooktape, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["xyzzy"],
        ["serve", "--xyzzy"],
        ["emit"],
        ["emit", "source"],
        ["emit", "source", "event", "[1]"],
        ["emit", "source", "event", "--ndjson", "-"],
        ["emit", "--ndjson", "-", "--id", "1"],
        ["emit", "source", "event", "--url", "127.0.0.1"],
        ["listen", "--port", "65536"],
        ["listen", "--secret", "whsec_!"],
        ["completion", "tcsh"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """What is wrong is said on standard error, and nothing else happens."""
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert "Error: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    """For each of the three shells that click knows."""
    assert "_HOOKTAPE_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).stdout


def test_settings_that_cannot_be_used_are_exit_code_78(tmp_path: Path) -> None:
    """Every problem of all four places is a line on standard error."""
    (tmp_path / "hooktape.toml").write_text("body_limit = 0\n")
    done = hooktape(
        "serve", "--listen", "8001", cwd=tmp_path, HOOKTAPE_LOG_LEVL="info", HOOKTAPE_LOG_FORMAT="x"
    )

    assert done.returncode == 78
    assert {line.split()[1] for line in done.stderr.splitlines()} == {
        "body_limit",
        "HOOKTAPE_LOG_LEVL:",
        "HOOKTAPE_LOG_FORMAT:",
        "admin_listen",
    }


@pytest.mark.parametrize("variables", [{}, {"HOOKTAPE_CONFIG": "missing.toml"}])
def test_a_settings_file_that_was_asked_for_must_exist(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    """Whether it was asked for by option or by variable."""
    arguments = [] if variables else ["--config", "missing.toml"]
    done = hooktape("serve", *arguments, cwd=tmp_path, **variables)

    assert done.returncode == 78
    assert "missing.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_emit_sends_an_event_and_prints_the_answer() -> None:
    """The id and the key are the ones given; a 2xx answer is exit code 0."""
    with listening("127.0.0.1", 0, status=202) as service:
        done = hooktape(
            "emit", "orders", "paid", '{"n": 1}', "--id", "7", "--idempotency-key", "k",
            HOOKTAPE_URL=service.url,
        )  # fmt: skip
        arrival = next(iter(service))

    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    assert arrival.body == '{"source":"orders","event":"paid","data":{"n": 1},"id":"7"}'
    assert arrival.headers["idempotency-key"] == "k"


def test_emit_reads_data_or_lines_from_standard_input(tmp_path: Path) -> None:
    """A single event's data with -, many events with --ndjson, from a file as well."""
    lines = '{"source":"s","event":"e","data":{}}\n' * 2
    (tmp_path / "events.ndjson").write_text(lines)
    with listening("127.0.0.1", 0) as service:
        hooktape("emit", "s", "e", "-", "--url", service.url, stdin='{"ü": 1}')
        hooktape("emit", "--ndjson", "-", "--url", service.url, stdin=lines)
        hooktape("emit", "--ndjson", "events.ndjson", "--url", service.url, cwd=tmp_path)
        arrivals = list(islice(service, 3))

    assert arrivals[0].body == '{"source":"s","event":"e","data":{"ü": 1}}'
    assert [arrival.body for arrival in arrivals[1:]] == [lines, lines]


@pytest.mark.parametrize(("status", "code"), [(400, 1), (409, 1), (500, 1), (503, 69)])
def test_emit_tells_a_refusal_from_a_service_that_is_not_available(status: int, code: int) -> None:
    """A script can stop at 1 and try again later at 69."""
    with listening("127.0.0.1", 0, status=status) as service:
        done = hooktape("emit", "s", "e", "--url", service.url)

    assert done.returncode == code
    assert done.stderr == f"hooktape: the service answered {status}\n"


def test_emit_without_a_service_is_exit_code_69() -> None:
    """One line says which address did not answer."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    done = hooktape("emit", "s", "e", "--url", url)

    assert done.returncode == 69
    assert re.fullmatch(rf"hooktape: no answer from {url}: .*\n", done.stderr)


def test_listen_prints_its_url_and_then_what_arrives() -> None:
    """Into a pipe, every line is a JSON object; after the number asked for it stops."""
    with receiver("--count", "2", "--status", "201", "--secret", "s3") as (process, url):
        answers = [send(url, b"{}"), send(url, b"[]")]
        out, errors = process.communicate(timeout=10)

    assert answers == [Answer(201, "")] * 2
    assert (process.returncode, errors) == (0, "")
    assert [json.loads(line)["body"] for line in out.splitlines()] == ["{}", "[]"]
    assert json.loads(out.splitlines()[0])["kong_signature"] == "absent"


def test_listen_once_stops_after_one() -> None:
    """For scripts that wait for a single delivery."""
    with receiver("--once") as (process, url):
        send(url, b"{}")

        assert process.wait(10) == 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_listen_is_not_a_failure(stop: signal.Signals) -> None:
    """Ctrl-C is the ordinary end of a receiver for trying things out."""
    with receiver() as (process, _url):
        process.send_signal(stop)
        _out, errors = process.communicate(timeout=10)

    assert (process.returncode, errors) == (0, "")


def test_listen_on_a_port_that_is_taken_is_exit_code_1() -> None:
    """One line says which address it was."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = hooktape("listen", "--port", port)

    assert done.returncode == 1
    assert done.stderr.startswith(f"hooktape: cannot listen on 127.0.0.1:{port}: ")


def test_listen_on_a_terminal_writes_for_people() -> None:
    """There the first line is the bare URL, and an arrival takes several lines."""
    ours, theirs = os.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            [*HOOKTAPE, "listen", "--port", "0", "--once"], env=environment(), stdout=theirs
        ) as process,
    ):
        os.close(theirs)
        url = terminal.read(1024).decode().strip()
        send(url, b"{}")
        process.wait(10)
        shown = terminal.read(4096).decode()

    assert url.startswith("http://127.0.0.1:")
    assert "  content-type: application/json\r\n" in shown
    assert "  (x-kong-signature unchecked, standard webhooks unchecked)\r\n" in shown

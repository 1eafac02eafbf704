"""The receiver that other tests rely on, as a process of its own."""

import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.receiver import read_log


def test_a_killed_receiver_leaves_what_it_answered(tmp_path: Path) -> None:
    """Every request is in the log before its answer; a line that was cut off is left out."""
    log = tmp_path / "seen.jsonl"
    receiver = Path(__file__).parent / "receiver.py"
    command: list[str | Path] = [sys.executable, receiver, "--log", log]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        urlopen(f"{url}/a?b=1", b"\xffbody").close()  # noqa: S310 -- our own address
        with pytest.raises(HTTPError, match="503") as caught:
            urlopen(f"{url}/status/503", b"")  # noqa: S310 -- our own address
        caught.value.close()
        process.kill()
    with log.open("ab") as end:
        end.write(b'{"method":"POST","targ')

    first, second = read_log(log)
    assert (first.method, first.target, first.body) == ("POST", "/a?b=1", b"\xffbody")
    assert (second.path, second.connection) == ("/status/503", 2)
    assert read_log(tmp_path / "missing.jsonl") == []

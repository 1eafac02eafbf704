"""Commands that are killed by SIGKILL at a chosen change of a file, by means of strace."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.service import COMMAND, environment

_CHANGES = "pwrite64,write,fdatasync,fsync,ftruncate,unlink,rename,renameat,renameat2"


def changes(
    strace: str, directory: Path, arguments: Sequence[str], *within: Path, code: int = 0
) -> int:
    """Run `hooktape` to its end: how often it changes a file under `within` or asks the disk to.

    It has to end with `code`.
    """
    notes = directory / "strace.txt"
    run = [strace, "-f", "-qq", "-o", str(notes), "-e", f"trace={_CHANGES}", *_paths(within)]
    done = subprocess.run(
        [*run, *COMMAND, *arguments],
        cwd=directory,
        env=environment(),
        check=False,
        capture_output=True,
    )
    assert done.returncode == code, done.stderr.decode()
    return len(notes.read_text().splitlines())


def killed(strace: str, directory: Path, arguments: Sequence[str], at: int, *within: Path) -> bool:
    """Run `hooktape` until the `at`-th change; whether it got that far, which is its end."""
    run = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={_CHANGES}", *_paths(within)]
    run += ["-e", f"inject={_CHANGES}:signal=KILL:when={at}"]
    done = subprocess.run(
        [*run, *COMMAND, *arguments],
        cwd=directory,
        env=environment(),
        check=False,
        capture_output=True,
    )
    return done.returncode != 0


def _paths(within: Sequence[Path]) -> list[str]:
    return [word for path in within for word in ("-P", str(path))]

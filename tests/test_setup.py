"""What `scripts/run` and the lock files promise.

Most tests give the script a Python that makes an environment of stubs at once and writes down what
pip was asked for. One goes the whole way, with the package index.
"""

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from api import __version__

ROOT = Path(__file__).parents[1]
LOCKS = ["requirements.lock", "scripts/build.lock", "scripts/virtualenv.lock"]
USED = ["pyproject.toml", *LOCKS, "scripts/run"]

# `-m venv` and `-m pip` are written down instead of done; everything else is left to real Python.
PYTHON = """#!/bin/sh
case "$1 $2" in
-IS\\ *)
    [ -z "${FAKE_VERSION-}" ] || { echo "$FAKE_VERSION"; exit; }
    ;;
"-m venv")
    echo venv >>"$CALLS"
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" || exit
    for tool in ruff mypy hooktape; do
        printf '#!/bin/sh\\necho %s "$@"\\n[ "$2" != - ] || cat\\n' $tool >"$3/bin/$tool"
        chmod +x "$3/bin/$tool"
    done
    exit
    ;;
"-m pip")
    echo "$*" >>"$CALLS"
    [ -z "${FAKE_HANG-}" ] || { echo reached >"$FAKE_HANG"; exec sleep 60; }
    [ -z "${FAKE_ERROR-}" ] || { echo "ERROR: $FAKE_ERROR" >&2; exit 1; }
    exit
    ;;
esac
exec "@PYTHON@" "$@"
"""

UV = """#!/bin/sh
[ "$1" = --version ] || echo "uv $1 $2" >>"$CALLS"
[ "$1" != venv ] || exec "$PYTHON" -m venv .venv
"""

SET_UP = ["venv", *(["pip"] * 3)]


class Checkout(NamedTuple):
    """A copy of what the script uses, and a Python to try it with."""

    root: Path
    python: Path
    calls: Path

    def environment(self, **variables: str) -> dict[str, str]:
        plain = {name: text for name, text in os.environ.items() if not name.startswith("FAKE_")}
        plain["PATH"] = f"{self.python.parent}:{plain['PATH']}"
        return plain | {"PYTHON": str(self.python), "CALLS": str(self.calls)} | variables

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", str(self.root / "scripts/run"), *words],
            cwd=self.root.parent,
            env=self.environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, stdin: str = "", **variables: str) -> tuple[int | None, str, str]:
        """Exit code, output and errors."""
        with self.start(*words, **variables) as process:
            out, errors = process.communicate(stdin, timeout=60)
        return process.returncode, out, errors

    def called(self) -> list[str]:
        """What was done to set up since it was last asked: `venv` or `pip`, in order."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return ["pip" if call.startswith("-m pip install ") else call for call in calls]


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Under a path with a space, without the executable bit, without a repository, without uv."""
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    for name in USED:
        shutil.copyfile(ROOT / name, root / name)
    tools = tmp_path / "tools"
    tools.mkdir()
    executable(tools / "uv", "#!/bin/sh\nexit 1\n")
    python = executable(tools / "python", PYTHON.replace("@PYTHON@", sys.executable))
    return Checkout(root, python, tmp_path / "calls")


def pins(lock: str) -> dict[str, str]:
    """Name -> version of everything in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_exact_versions_with_hashes_and_no_addresses(lock: str) -> None:
    """What is installed is settled here; where it comes from is settled by the user's index."""
    text = re.sub(r"#.*", "", (ROOT / lock).read_text()).replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip()]

    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+", line[0])
        assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line[-1])
    assert "://" not in text
    assert "--index" not in text


def test_the_locks_fit_pyproject() -> None:
    """Every requirement is locked, at a version that it allows; forgotten: run scripts/lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = {
        "requirements.lock": project["project"]["dependencies"] + groups["test"] + groups["check"],
        "scripts/build.lock": project["build-system"]["requires"] + groups["build"],
        "scripts/virtualenv.lock": groups["bootstrap"],
    }

    for lock, requirements in wanted.items():
        for requirement in map(Requirement, requirements):
            assert pins(lock)[requirement.name] in requirement.specifier


def test_the_locks_agree_on_what_they_share() -> None:
    """Both go into the same environment, and the second must not undo the first."""
    first, second = pins("scripts/build.lock"), pins("requirements.lock")
    shared = first.keys() & second.keys()

    assert shared
    assert {name: first[name] for name in shared} == {name: second[name] for name in shared}


def test_the_first_run_sets_up_and_the_next_ones_only_run(checkout: Checkout) -> None:
    """Afterwards nothing is asked of pip, and nothing is said."""
    first = checkout.run("serve", "--data-dir", "x y")
    calls = checkout.calls.read_text().splitlines()
    checkout.calls.unlink()
    second = checkout.run("serve", "--data-dir", "x y")

    assert first[:2] == (0, "hooktape serve --data-dir x y\n")
    assert re.fullmatch(r"scripts/run: setting up .venv with Python [\d.]+, once\n", first[2])
    assert second == (0, "hooktape serve --data-dir x y\n", "")
    assert checkout.called() == []
    assert calls[0] == "venv"
    assert calls[1].endswith(" --require-hashes -r scripts/build.lock")
    assert calls[2].endswith(" --require-hashes --no-build-isolation -r requirements.lock")
    assert calls[3].endswith(" --no-deps --no-build-isolation -e .")


def test_each_word_runs_what_it_says(checkout: Checkout) -> None:
    """The tools work in the checkout; a command of hooktape stays where the user is."""
    for name in ("bench", "torture"):
        (checkout.root / f"scripts/{name}.py").write_text(
            "import os, sys; print(os.getcwd(), *sys.argv)"
        )

    assert checkout.run("check")[1].splitlines() == [
        "ruff format --check .",
        "ruff check .",
        "mypy",
    ]
    assert checkout.run("test", "--version")[1].startswith("pytest ")
    assert checkout.run("bench", "a b")[1] == f"{checkout.root} scripts/bench.py a b\n"
    assert checkout.run("torture")[1] == f"{checkout.root} scripts/torture.py\n"
    assert checkout.run("--version")[1] == "hooktape --version\n"


def test_without_a_word_it_says_which_there_are(checkout: Checkout) -> None:
    """That is wrong usage, and nothing is set up for it."""
    code, _out, errors = checkout.run()

    assert code == 2
    assert "serve, test, check, bench, torture" in errors
    assert checkout.called() == []


def test_the_commands_own_input_reaches_it_on_the_first_run(checkout: Checkout) -> None:
    """Setting up does not read what was meant for the command."""
    assert checkout.run("emit", "-", stdin="{}\n")[1] == "hooktape emit -\n{}\n"


def test_started_twice_at_once_it_sets_up_once(checkout: Checkout) -> None:
    """Both run their command in the end."""
    processes = [checkout.start("serve") for _ in range(4)]
    done = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0] * 4
    assert [out for out, _ in done] == ["hooktape serve\n"] * 4
    assert checkout.called() == SET_UP


def test_it_waits_for_a_set_up_that_is_under_way(checkout: Checkout) -> None:
    """It says that it waits, and goes on when the other is done."""
    (checkout.root / ".setup").mkdir()
    with (checkout.root / ".setup/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = checkout.start("serve")
        assert process.stderr is not None
        said = process.stderr.readline()
        waited = checkout.called() == [] and process.poll() is None
    out, _errors = process.communicate(timeout=60)

    assert said == "scripts/run: waiting for the set-up that is under way\n"
    assert waited
    assert out == "hooktape serve\n"


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock", "scripts/build.lock"])
def test_a_change_brings_the_environment_up_to_date(checkout: Checkout, name: str) -> None:
    """In place, since what is there already need not be fetched."""
    checkout.run("serve")
    checkout.called()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")

    assert checkout.run("serve")[0] == 0
    assert checkout.called() == ["pip"] * 3
    assert checkout.run("serve")[2] == ""


def test_an_environment_of_another_place_or_python_is_made_anew(checkout: Checkout) -> None:
    """Its scripts would run the old place's code, its packages would not load."""
    checkout.run("serve")
    checkout.called()
    moved = checkout._replace(root=checkout.root.rename(checkout.root.with_name("moved here")))

    assert moved.run("serve")[0] == 0
    assert moved.called() == SET_UP
    assert moved.run("serve", FAKE_VERSION="3.99")[0] == 0
    assert moved.called() == SET_UP
    assert moved.run("serve", PYTHON="", FAKE_VERSION="3.99")[2] == ""


def test_a_failed_set_up_leaves_nothing_that_is_trusted_later(checkout: Checkout) -> None:
    """One line says why, exit code 69; the next run starts from nothing and succeeds."""
    code, out, errors = checkout.run("serve", FAKE_ERROR="no such package")

    assert (code, out) == (69, "")
    assert errors.splitlines()[1:] == [
        "scripts/run: set-up failed: ERROR: no such package (more in .setup/log)"
    ]
    assert not (checkout.root / ".venv").exists()
    assert checkout.called() == ["venv", "pip"]
    assert checkout.run("serve")[0] == 0
    assert checkout.called() == SET_UP


def test_an_update_that_fails_is_tried_anew_and_then_given_up(checkout: Checkout) -> None:
    """A mixture of old and new packages is not kept."""
    checkout.run("serve")
    checkout.called()
    with (checkout.root / "requirements.lock").open("a") as file:
        file.write("# changed\n")

    assert checkout.run("serve", FAKE_ERROR="no room")[0] == 69
    assert checkout.called() == ["pip", "venv", "pip"]
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_set_up_that_was_stopped_blocks_nobody(checkout: Checkout, stop: signal.Signals) -> None:
    """Neither its lock nor its half of an environment is in the way of the next run."""
    reached = checkout.root / "reached"
    os.mkfifo(reached)
    with (
        os.fdopen(os.open(reached, os.O_RDWR | os.O_NONBLOCK)) as word,
        checkout.start("serve", FAKE_HANG=str(reached)) as process,
    ):
        begun = select.select([word], [], [], 30)[0]
        os.killpg(process.pid, stop)
        process.communicate(timeout=60)
    checkout.called()

    assert begun
    assert process.returncode != 0
    assert (checkout.root / ".venv").exists() is (stop == signal.SIGKILL)
    assert "waiting" not in checkout.run("serve")[2]
    assert checkout.called() == SET_UP


def test_uv_is_used_where_there_is_one(checkout: Checkout) -> None:
    """It is faster, and checks the same hashes."""
    executable(checkout.python.with_name("uv"), UV)

    assert checkout.run("serve")[1] == "hooktape serve\n"
    assert checkout.called() == ["uv venv --quiet", "venv", *(["uv pip install"] * 3)]


def test_without_a_python_that_will_do_one_line_says_so(checkout: Checkout) -> None:
    """On the PATH or by name: what is missing is named, and the exit code is 69."""
    bare = checkout.root.parent / "bare"
    bare.mkdir()
    for tool in ("dirname", "cat", "cksum"):
        (bare / tool).symlink_to(str(shutil.which(tool)))
    nobody = executable(bare / "python3", "#!/bin/sh\nexit 127\n")
    none = checkout.run("serve", PATH=str(bare), PYTHON="")
    wrong = checkout.run("serve", PYTHON=str(nobody))

    assert none[0] == wrong[0] == 69
    what = "Python 3.11 or newer with ssl and sqlite3"
    assert none[2] == f"scripts/run: needs {what} on the PATH, or uv\n"
    assert wrong[2] == f"scripts/run: PYTHON={nobody} is not a {what}\n"


def test_a_fresh_checkout_works_with_nothing_but_python(checkout: Checkout) -> None:
    """Twice at once, from the package index, with a Python whose `venv` does not work."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "data", "tests")
    shutil.copytree(ROOT, checkout.root, ignore=left_out, dirs_exist_ok=True)
    real = Path(sys.executable).resolve()
    pip = subprocess.run([real, "-m", "pip", "--version"], capture_output=True, check=False)
    # Without pip, which virtualenv would come by, only a working venv is left.
    refused = "-m venv" if pip.returncode == 0 else "nothing"
    executable(
        checkout.python, f'#!/bin/sh\n[ "$1 $2" != "{refused}" ] || exit 1\nexec "{real}" "$@"\n'
    )
    processes = [checkout.start("--version") for _ in range(2)]
    done = [process.communicate(timeout=300) for process in processes]
    if processes[0].returncode == 69 and not os.environ.get("CI"):
        pytest.skip(f"the packages could not be had, is there a network? {done[0][1]}")
    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    offline = checkout.run("--version", PIP_NO_INDEX="1")

    assert [process.returncode for process in processes] == [0, 0], done
    assert [out for out, _ in done] == [f"hooktape, version {__version__}\n"] * 2
    assert sorted(errors.split()[1] for _, errors in done) == ["setting", "waiting"]
    assert offline[:2] == (0, f"hooktape, version {__version__}\n"), offline

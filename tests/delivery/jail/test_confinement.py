"""The jail from the inside and the outside: real processes that each try one thing."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from delivery.jail.frames import (
    HEADER,
    Arguments,
    Call,
    Engine,
    Functions,
    Limits,
    Profile,
    Program,
    Ready,
    Reply,
    Setup,
    Templates,
    framed,
)

if sys.platform != "linux":
    assert "CI" not in os.environ, "the jail is whole on Linux only"
    pytest.skip("namespaces and filters are Linux's", allow_module_level=True)

from tests.delivery.jail.prisoner import ATTEMPTS, BOOTSTRAP, CONTESTED, LIFE, LIMITS

PATHS = [str(Path(__file__).parents[3]), str(Path(msgspec.__file__).parents[1])]
PYTHON = [sys.executable, "-I", "-S", "-c"]
ALL = "stands: rlimits namespaces seccomp\n"


def _skip(reason: str) -> NoReturn:
    assert "CI" not in os.environ, reason
    pytest.skip(reason)


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A directory with a file that somebody is after."""
    (tmp_path / "victim").write_text("v")
    return tmp_path


def run(
    cell: Path,
    mode: str,
    work: str,
    refusal: str = "nothing",
    left_open: Sequence[int] = (),
    **environment: str,
) -> tuple[int, str]:
    """The end and the words, errors included, of a prisoner whose standard input is a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stdin:
        done = subprocess.run(
            [*PYTHON, BOOTSTRAP, mode, work, refusal, *PATHS],
            stdin=stdin.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=left_open,
            cwd=cell,
            env=environment,
            text=True,
            timeout=60,
        )
    return done.returncode, done.stdout


@contextmanager
def waiting(mode: str, work: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A prisoner that waits, and what it said about its barriers."""
    with subprocess.Popen(
        [*PYTHON, BOOTSTRAP, mode, work, "nothing", *PATHS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={},
        cwd="/",
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A system that can jail fully; asked without the jail."""
    cell = tmp_path_factory.mktemp("probe")
    if run(cell, "free", "unshare") != (0, "stands: \ndid it\n"):
        _skip("this system lets nobody leave its namespaces")
    if run(cell, "free", "getppid", "unshare") != (0, "stands: \ndid it\n"):
        _skip("this system filters no calls")


whole = pytest.mark.usefixtures("_whole")


@whole
@pytest.mark.parametrize("attempt", [*ATTEMPTS, *CONTESTED])
def test_an_attempt_in_the_jail(cell: Path, attempt: str) -> None:
    """Whatever a worker tries beyond its work, the kernel kills it before anything happens."""
    assert run(cell, "jailed", attempt) == (-signal.SIGSYS, ALL)
    assert [path.name for path in cell.iterdir()] == ["victim"]
    assert (cell / "victim").read_text() == "v"


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_outside(cell: Path, attempt: str) -> None:
    """The same attempts succeed in a process that is not jailed: it is the jail that stops them."""
    assert run(cell, "free", attempt) == (0, "stands: \ndid it\n")


@pytest.mark.parametrize("attempt", CONTESTED)
def test_a_contested_attempt_outside(cell: Path, attempt: str) -> None:
    """What systems refuse to many reaches the kernel outside the jail, and is answered."""
    end, words = run(cell, "free", attempt)

    assert end == 0
    assert words.startswith(("stands: \ndid it", "stands: \nrefused: "))


@whole
@pytest.mark.parametrize("work", LIFE)
def test_what_a_worker_needs(cell: Path, work: str) -> None:
    """Memory up to its limit, clocks, timers, signals and all of Python but files go on working."""
    assert run(cell, "jailed", work) == (0, f"{ALL}did it\n")


@whole
@pytest.mark.parametrize(
    ("work", "end"),
    [
        ("exception", 1),
        ("exit", 3),
        ("abort", -signal.SIGABRT),
        ("fault", -signal.SIGSEGV),
        ("loop", -signal.SIGKILL),
    ],
)
def test_how_it_ends(cell: Path, work: str, end: int) -> None:
    """Ends of a worker's own look as they do outside; its processor time is bounded."""
    assert run(cell, "jailed", work) == (end, ALL)


@whole
@pytest.mark.parametrize(
    ("refusal", "barriers"),
    [
        ("unshare", "rlimits seccomp"),
        ("chroot", "rlimits namespaces seccomp"),
        ("filters", "rlimits namespaces"),
        ("prctl", "rlimits namespaces"),
        ("limit on memory", "namespaces seccomp"),
    ],
)
def test_a_barrier_that_is_refused(cell: Path, refusal: str, barriers: str) -> None:
    """A system that refuses a barrier still gets the others, and the missing one is not claimed."""
    assert run(cell, "jailed", "time", refusal) == (0, f"stands: {barriers}\ndid it\n")


@whole
def test_no_user_namespaces(cell: Path) -> None:
    """Root leaves the network without a user namespace; others cannot, and it is not claimed."""
    apart = run(cell, "free", "unshare as root") == (0, "stands: \ndid it\n")

    end, words = run(cell, "jailed", "time", "user namespaces")

    assert (end, words.splitlines()[0]) == (0, ALL.strip() if apart else "stands: rlimits seccomp")


def test_no_limits(cell: Path) -> None:
    """Where not even limits can be set nothing runs, and the service's log shows why."""
    end, words = run(cell, "jailed", "time", "limits")

    assert end == 1
    assert words.endswith("PermissionError: [Errno 1] Operation not permitted\n")


@whole
@pytest.mark.parametrize("attempt", ["stat", "truncate", "unlink", "rename", "mkdir", "symlink"])
def test_files_without_the_filter(cell: Path, attempt: str) -> None:
    """Where calls are not filtered a path still leads nowhere."""
    end, words = run(cell, "jailed", attempt, "filters")

    assert (end, words) == (0, "stands: rlimits namespaces\nrefused: ENOENT\n")


@whole
@pytest.mark.parametrize("attempt", ["dup", "openat", "socket", "pipe", "memfd_create"])
def test_descriptors_without_the_filter(cell: Path, attempt: str) -> None:
    """Where calls are not filtered there is no descriptor left to open anything."""
    end, words = run(cell, "jailed", attempt, "filters")

    assert (end, words) == (0, "stands: rlimits namespaces\nrefused: EMFILE\n")


@whole
def test_the_network_without_the_filter(cell: Path) -> None:
    """A process in a network of its own does not even reach this machine; any other does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        free = run(cell, "free", "reach the network", PORT=port)
        apart = run(cell, "jailed", "reach the network", "filters", PORT=port)

    assert free == (0, "stands: \ndid it\n")
    assert apart == (0, "stands: rlimits namespaces\nrefused: ENETUNREACH\n")


@whole
def test_what_was_left_open(cell: Path) -> None:
    """A descriptor that whoever started the process forgot to close is closed."""
    reader, writer = os.pipe()
    os.write(writer, b"12")
    free = run(cell, "free", "read what was left open", left_open=[reader], LEFT_OPEN=f"{reader}")
    jailed = run(
        cell,
        "jailed",
        "read what was left open",
        "filters",
        left_open=[reader],
        LEFT_OPEN=f"{reader}",
    )
    os.close(reader)
    os.close(writer)

    assert free == (0, "stands: \ndid it\n")
    assert jailed == (0, "stands: rlimits namespaces\nrefused: EBADF\n")


@whole
def test_the_process_from_inside(cell: Path) -> None:
    """It dies with its parent, nobody may trace it, and no program can give it rights again."""
    words = "stands: rlimits namespaces\ndid it\n"

    assert run(cell, "jailed", "show the process", "filters") == (0, words)


@whole
def test_the_process_from_outside() -> None:
    """No capabilities, no new ones, a filter; low limits; first to go when memory is short."""
    with waiting("jailed", "wait") as (process, words):
        proc = Path(f"/proc/{process.pid}")
        status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines())
        limits = {
            which: resource.prlimit(process.pid, which)
            for which in (
                resource.RLIMIT_CORE,
                resource.RLIMIT_FSIZE,
                resource.RLIMIT_NPROC,
                resource.RLIMIT_NOFILE,
                resource.RLIMIT_AS,
                resource.RLIMIT_CPU,
            )
        }
        score = (proc / "oom_score_adj").read_text()

    assert words == ALL
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {low for low, _ in limits.values()} == {high for _, high in limits.values()}
    assert list(limits.values()) == [
        (value, value) for value in (0, 0, 0, 3, LIMITS.address_space, LIMITS.worker_cpu_seconds)
    ]
    assert score == "1000\n"


@whole
def test_its_parent_is_killed() -> None:
    """A prisoner whose parent is killed is gone at once, although its input stays open."""
    with waiting("free", "nurse") as (process, _):
        assert process.stdout is not None
        words = process.stdout.readline()
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        handle = os.pidfd_open(int(child))
        process.kill()
        gone, _, _ = select.select([handle], [], [], 10)
        os.close(handle)

    assert words == ALL
    assert gone == [handle]


def test_its_parent_is_gone(cell: Path) -> None:
    """A process whose parent ended before it could watch it does not start to work."""
    assert run(cell, "orphaned", "time") == (1, "")


WORKER = """
import sys
sys.path += sys.argv[2:]
if sys.argv[1] == "without LuaJIT":
    sys.modules["lupa.luajit21"] = None
from delivery.jail.worker import serve
serve()
"""


def answers(
    machine: str, engine: Engine, programs: Sequence[Program]
) -> tuple[Ready, list[Reply], int]:
    """What a real worker says to each program with the same event, and how it ends."""
    setup = Setup(engine, Limits(cpu_seconds=1), Profile(), os.getpid())
    arguments = Arguments('{"n":1.5,"s":"ż"}'.encode(), "event", "source", 1)
    calls = [Call("", str(number), program, arguments) for number, program in enumerate(programs)]
    done = subprocess.run(
        [*PYTHON, WORKER, machine, *PATHS],
        input=b"".join(map(framed, [setup, *calls])),
        capture_output=True,
        env={},
        cwd="/",
        timeout=60,
    )
    ready, *replies = bodies(done.stdout)
    return (
        msgspec.msgpack.decode(ready, type=Ready),
        [msgspec.msgpack.decode(reply, type=Reply) for reply in replies],
        done.returncode,
    )


def bodies(frames: bytes) -> Iterator[bytes]:
    while frames:
        end = HEADER.size + HEADER.unpack_from(frames)[0]
        yield frames[HEADER.size : end]
        frames = frames[end:]


def function(body: str) -> Functions:
    return Functions((f"return function (data, event, source, pid) {body} end",))


@whole
@pytest.mark.parametrize("machine", ["LuaJIT", "without LuaJIT"])
def test_a_worker_for_lua(machine: str) -> None:
    """Under the filter Lua grows, fails, runs out of time and of memory, and goes on."""
    programs = [
        function("return data.n == 1.5 and os.time() > 0 and os.clock() > 0"),
        function("local t = {} for i = 1, 1e5 do t[i] = {i} end return #t == 1e5"),
        function("error(string.format('%.14g', 1e14))"),
        function("while true do end"),
        function("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end"),
        function("return coroutine.wrap(function () return math.random() end)() < 1"),
    ]

    ready, replies, end = answers(machine, "lua", programs)

    assert ready.barriers == ("rlimits", "namespaces", "seccomp")
    assert ready.engine.startswith("LuaJIT 2.1" if machine == "LuaJIT" else "Lua 5.1")
    texts = [reply.report.failures[0].text if reply.report.failures else b"" for reply in replies]
    assert [text == b"" for text in texts] == [True, True, False, False, False, True]
    assert b"1e+14" in texts[2]
    assert b"time limit" in texts[3]
    assert b"memory" in texts[4]
    assert end == 0


@whole
def test_a_worker_for_jinja() -> None:
    """Under the filter Jinja compiles, renders, fails and is interrupted by its timer."""
    programs = [
        Templates(("{{ n }} {{ s|upper }} {{ [n]|tojson }}",)),
        Templates(("{{ ",)),
        Templates(("{% for a in range(999) %}" * 4 + "{% endfor %}" * 4,)),
        Templates(("{{ missing }}!",)),
    ]

    ready, replies, end = answers("", "jinja2", programs)

    assert ready.barriers == ("rlimits", "namespaces", "seccomp")
    assert [reply.report.texts for reply in replies] == [
        ["1.5 Ż [1.5]".encode()],
        [],
        [],
        [b"!"],
    ]
    assert b"time limit" in replies[2].report.failures[0].text
    assert end == 0

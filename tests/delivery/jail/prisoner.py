"""A program that has itself jailed and then does one thing. `test_confinement` runs it.

Its arguments: "jailed" or "free", what to do, and what the system is to refuse beforehand, as a
name of `REFUSALS` or "nothing". It says "stands: " and the barriers, then, when it has done it,
"did it", or "refused: " and the error's name.
"""

import ctypes
import errno
import fcntl
import gc
import math
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress

from delivery.jail.confinement import confine
from delivery.jail.frames import Limits

BOOTSTRAP = (
    "import sys; sys.path += sys.argv[4:]; from tests.delivery.jail.prisoner import main; main()"
)

LIMITS = Limits(address_space=96 * 1024 * 1024, worker_cpu_seconds=2)
PARENT = os.getppid()
VICTIM = os.path.abspath("victim")
ON_X86 = os.uname().machine == "x86_64"

_libc = ctypes.CDLL(None, use_errno=True)


def c(name: str, *arguments: object) -> int:
    """Call a function of the C library. Raises OSError."""
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def raw(on_x86: int, on_arm: int, *arguments: object) -> int:
    """A system call by its number. Raises OSError."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return c("syscall", ctypes.c_long(on_x86 if ON_X86 else on_arm), *words)


# What anybody may do, if it is not jailed.


def fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def execute_mapped() -> None:
    c("mmap", None, ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_EXEC, 0x22, -1, 0)


def make_executable() -> None:
    _libc.mmap.restype = ctypes.c_void_p
    page = _libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, 0x22, -1, 0)
    c(
        "mprotect",
        ctypes.c_void_p(page),
        ctypes.c_size_t(4096),
        mmap.PROT_READ | mmap.PROT_EXEC,
    )


def spawn() -> None:
    """The C library does it with CLONE_VFORK."""
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "openat": lambda: os.open(VICTIM, os.O_RDONLY),
    "stat": lambda: os.stat(VICTIM),
    "unlink": lambda: os.unlink(VICTIM),
    "rename": lambda: os.rename(VICTIM, VICTIM + "2"),
    "truncate": lambda: os.truncate(VICTIM, 0),
    "chmod": lambda: os.chmod(VICTIM, 0),
    "mkdir": lambda: os.mkdir(VICTIM + "2"),
    "symlink": lambda: os.symlink("/", VICTIM + "2"),
    "readlink": lambda: os.readlink("/proc/self/exe"),
    "chdir": lambda: os.chdir("/"),
    "dup": lambda: os.dup(0),
    "pipe": os.pipe,
    "ioctl": lambda: fcntl.ioctl(0, 0x541B, bytes(4)),  # FIONREAD
    "fcntl": lambda: fcntl.fcntl(0, fcntl.F_GETFL),
    "socket": socket.socket,
    "socketpair": socket.socketpair,
    "connect": lambda: c("connect", 0, struct.pack("=HH12x", socket.AF_UNSPEC, 0), 16),
    "memfd_create": lambda: os.memfd_create("memory"),
    "fork": fork,
    "thread": lambda: start_new_thread(int, ()),
    "posix_spawn": spawn,
    "execve": lambda: os.execv("/bin/echo", ["echo", "did it"]),  # noqa: S606
    "kill the parent": lambda: os.kill(PARENT, 0),
    "kill the group": lambda: os.kill(0, 0),
    "tgkill the parent": lambda: raw(234, 131, PARENT, PARENT, 0),
    "pidfd_open": lambda: os.pidfd_open(PARENT),
    "ptrace": lambda: c("ptrace", 0, 0, None, None),  # PTRACE_TRACEME
    "executable mmap": execute_mapped,
    "executable mprotect": make_executable,
    "setrlimit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "setresuid": lambda: os.setresuid(-1, -1, -1),
    "personality": lambda: c("personality", ctypes.c_ulong(0xFFFFFFFF)),
    "getppid": os.getppid,
}

if ON_X86:
    ATTEMPTS |= {
        "open (old)": lambda: raw(2, -1, VICTIM.encode(), 0, 0),
        "unlink (old)": lambda: raw(87, -1, VICTIM.encode()),
        "rename (old)": lambda: raw(82, -1, VICTIM.encode(), VICTIM.encode() + b"2"),
    }

# What systems may refuse, each with reasons of its own. Where it could do harm, the arguments make
# no sense: what counts is that the kernel gets to see the call.

_FORKED = struct.pack("=4Q Q 6Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)


def clone3() -> None:
    if raw(435, 435, _FORKED, len(_FORKED)) == 0:
        os._exit(0)


def read_parent() -> None:
    to = ctypes.create_string_buffer(8)
    here = struct.pack("=QQ", ctypes.addressof(to), 8)
    there = struct.pack("=QQ", id(None), 8)
    c(
        "process_vm_readv",
        PARENT,
        here,
        ctypes.c_ulong(1),
        there,
        ctypes.c_ulong(1),
        ctypes.c_ulong(0),
    )


CONTESTED: dict[str, Callable[[], object]] = {
    "clone3": clone3,
    "chroot": lambda: os.chroot("/"),
    "mount": lambda: c("mount", b"none", b"/", b"tmpfs", ctypes.c_ulong(0xFFFFFFFF), None),
    "unshare": lambda: c("unshare", 0x58000000),
    "setns": lambda: c("setns", 0, 0),
    "io_uring_setup": lambda: raw(425, 425, 1, bytes(120)),
    "perf_event_open": lambda: raw(298, 241, bytes(128), 0, -1, -1, 0),
    "bpf": lambda: raw(321, 280, 0, bytes(128), 128),
    "keyctl": lambda: raw(250, 219, 0, -3, 1),  # KEYCTL_GET_KEYRING_ID of the session
    "userfaultfd": lambda: raw(323, 282, 1),
    "process_vm_readv": read_parent,
    "x32": lambda: raw(0x40000000 | 39, 0x40000000 | 39),
    "no such call": lambda: raw(1023, 1023),
}

# What works in the jail.


def fill_memory() -> None:
    """In large and in small pieces, up to the limit, and again after it was given back."""
    for piece in (lambda: bytearray(1 << 20), lambda: [bytes(400) for _ in range(1000)]):
        for _ in range(2):
            held: list[object] = []
            with suppress(MemoryError):
                while len(held) < 100_000:
                    held.append(piece())
                raise AssertionError("no limit")
            del held
            gc.collect()


def use_timers() -> None:
    class Late(BaseException):
        pass

    def expired(*_: object) -> None:
        raise Late

    for which, number in (
        (signal.ITIMER_REAL, signal.SIGALRM),
        (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
        (signal.ITIMER_PROF, signal.SIGPROF),
    ):
        signal.signal(number, expired)
        signal.setitimer(which, 0.01)
        with suppress(Late):
            while True:
                pass
        signal.signal(number, signal.SIG_DFL)


def tell_time() -> None:
    for clock in (time.time, time.monotonic, time.perf_counter, time.process_time):
        clock()
    time.strftime("%c %Z", time.localtime())
    assert time.localtime(0).tm_hour == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def use_python() -> None:
    def recurse() -> None:
        recurse()

    with suppress(RecursionError):
        recurse()
    with suppress(ZeroDivisionError, OverflowError):
        math.exp(1e9)
    assert f"{0.1:.20f} {1e22!r} {float('1e-320')!r}"
    assert os.urandom(16)
    sys.stderr.write("nobody sees this\n")
    sys.stderr.flush()
    warnings.warn("nor this", stacklevel=1)
    with suppress(ModuleNotFoundError):
        import wave

        raise AssertionError(wave)


LIFE: dict[str, Callable[[], object]] = {
    "memory": fill_memory,
    "timers": use_timers,
    "time": tell_time,
    "python": use_python,
}


def leave_exception() -> None:
    raise ValueError("nobody sees this")


def loop() -> None:
    while True:
        pass


def leave_unraisable() -> None:
    """An exception nobody can catch, and then a normal end."""

    class Fragile:
        def __del__(self) -> None:
            raise ValueError

    Fragile()
    raise SystemExit(3)


ENDS: dict[str, Callable[[], object]] = {
    "exception": leave_exception,
    "exit": leave_unraisable,
    "abort": os.abort,
    "fault": lambda: ctypes.string_at(0),
    "loop": loop,
}

# What is asked of the other barriers, with the filter out of the way.


def reach_network() -> None:
    """Connect to the port that the environment names; descriptor 2 makes room for the socket."""
    os.close(2)
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(os.environ["PORT"])))


def show_process() -> None:
    signal_number = ctypes.c_int()
    c("prctl", 2, ctypes.byref(signal_number), 0, 0, 0)  # PR_GET_PDEATHSIG
    state = (signal_number.value, c("prctl", 3, 0, 0, 0, 0), c("prctl", 39, 0, 0, 0, 0))
    assert state == (signal.SIGKILL, 0, 1), state  # PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS


def read_inherited() -> None:
    """Read the descriptor that the environment names."""
    os.read(int(os.environ["LEFT_OPEN"]), 1)


# Others.


def wait() -> None:
    os.read(0, 1)


def nurse() -> None:
    """Start a prisoner that waits, and wait for it."""
    command = [sys.executable, "-I", "-S", "-c", BOOTSTRAP, "jailed", "wait", "nothing"]
    subprocess.run([*command, *sys.argv[4:]], check=True)


WORK = {
    **ATTEMPTS,
    **CONTESTED,
    **LIFE,
    **ENDS,
    "reach the network": reach_network,
    "show the process": show_process,
    "read what was left open": read_inherited,
    "unshare as root": lambda: c("unshare", 0x48000000),
    "wait": wait,
    "nurse": nurse,
}

REFUSALS = {
    "unshare": (272, 97, 0, 0, 0),
    "user namespaces": (272, 97, 0, 0x10000000, 0x10000000),
    "chroot": (161, 51, 0, 0, 0),
    "filters": (157, 167, 0, 0xFFFFFFFF, 22),
    "prctl": (157, 167, 0, 0, 0),
    "limit on memory": (302, 261, 1, 0xFFFFFFFF, resource.RLIMIT_AS),
    "limits": (302, 261, 0, 0, 0),
}
"""Calls that fail with EPERM: numbers on x86_64 and aarch64, and of which argument, cut to what,
which value."""


def refuse(on_x86: int, on_arm: int, position: int, mask: int, value: int) -> None:
    """Have the kernel refuse a call, as containers do."""
    instructions = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),
            (0x15, 0, 4, on_x86 if ON_X86 else on_arm),
            (0x20, 0, 0, 16 + 8 * position),
            (0x54, 0, 0, mask),
            (0x15, 0, 1, value),
            (0x06, 0, 0, 0x00050000 | errno.EPERM),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    held = ctypes.create_string_buffer(instructions)
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(held))
    c("prctl", 38, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)
    c("prctl", 22, ctypes.c_ulong(2), program)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    mode, work, refusal = sys.argv[1:4]
    if refusal != "nothing":
        refuse(*REFUSALS[refusal])
    barriers = confine(LIMITS, 1 if mode == "orphaned" else PARENT) if mode != "free" else ()
    say("stands: " + " ".join(barriers))
    try:
        WORK[work]()
    except OSError as error:
        say(f"refused: {errno.errorcode[error.errno or 0]}")
    else:
        say("did it")

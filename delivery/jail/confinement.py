"""Gives up every right that running a user's code does not need."""

import mmap
import os
import resource
import sys
import time
import warnings
from contextlib import suppress
from importlib.machinery import BuiltinImporter, FrozenImporter

from delivery.jail import linux
from delivery.jail.frames import Limits

_FIRST_TO_GO = "1000"
"""The end of the kernel's scale: when memory is short it takes a worker, not the service."""


def confine(limits: Limits, parent: int) -> tuple[str, ...]:
    """Jail this process for good; the barriers that now stand, of these:

    - "rlimits": memory and processor time are bounded, it writes no file, opens nothing and starts
      no process. Root is not bound by the last: for it that is left to "seccomp".
    - "namespaces": it sees no network and no IPC but its own.
    - "seccomp": any system call beyond those in `seccomp` kills it.

    What the system refuses is left out. Nothing can be opened or imported afterwards; reading
    standard input, writing standard output, memory, clocks, timers and signals go on working.
    Raises OSError or ValueError where not even limits can be set: then the worker must not run
    anything.
    """
    bounded = _bound(limits)
    _leave_files()
    apart = filtered = False
    if sys.platform == "linux":
        apart = linux.separate()
        linux.hide_files()
        linux.drop_privileges()
        linux.die_with_parent()
    if os.getppid() != parent:  # it ended before it could be watched
        raise SystemExit(1)
    if sys.platform == "linux":
        filtered = linux.filter_calls()
    barriers = {"rlimits": bounded, "namespaces": apart, "seccomp": filtered}
    return tuple(name for name, stands in barriers.items() if stands)


def _bound(limits: Limits) -> bool:
    """Set all limits but that on open files; whether memory is among them."""
    _rlimit(resource.RLIMIT_CORE, 0)
    _rlimit(resource.RLIMIT_FSIZE, 0)
    _rlimit(resource.RLIMIT_NPROC, 0)
    _rlimit(resource.RLIMIT_CPU, limits.worker_cpu_seconds)
    # macOS refuses this one or does not keep to it. Asking for as much as there may be at all
    # tells; nothing is used of it.
    with suppress(OSError, ValueError):
        _rlimit(resource.RLIMIT_AS, limits.address_space)
    try:
        mmap.mmap(-1, limits.address_space, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return True
    return False


def _leave_files() -> None:
    """Keep standard input and output only, and see that nothing wants a file later."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_FIRST_TO_GO)
    os.environ["TZ"] = "UTC0"  # os.date() would read the system's zone file
    time.tzset()
    # Late imports would read files, and so would tracebacks and warnings, for the lines they show.
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    sys.excepthook = lambda *_: None
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")
    # Until here errors were seen on the service's own standard error. What else is open came from
    # the service too: uvloop leaves copies behind, and so may whoever started the service.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.closerange(3, _highest_open() + 1)
    _rlimit(resource.RLIMIT_NOFILE, 3)


def _highest_open() -> int:
    """The highest open descriptor. The limit instead can be a billion, too many to close."""
    with suppress(OSError):
        return max(map(int, os.listdir("/dev/fd")))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _rlimit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))

"""What only Linux can take from a process, through its C library.

Nothing here raises for what a system refuses (containers refuse namespaces, some kernels have no
filter). What is reported as a barrier was looked at from the inside.
"""

import ctypes
import errno
import os
import signal
import sys
from contextlib import suppress

from delivery.jail.seccomp import MACHINES, program

_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_GET_SECCOMP = 21
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_NO_CAPABILITIES = bytes(24)
_CAPABILITY_HEADER = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)  # of this process

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def separate() -> bool:
    """Leave the system's network and its IPC objects; whether both are left.

    The process must have one thread.
    """
    apart = _CLONE_NEWNET | _CLONE_NEWIPC
    before = _namespaces()
    # Anyone may leave in a user namespace; where there are none, root may still do without.
    if _libc.unshare(_CLONE_NEWUSER | apart) != 0:
        _libc.unshare(apart)
    after = _namespaces()
    if before is None or after is None:
        return False
    return all(new != old for new, old in zip(after, before, strict=True))


def _namespaces() -> tuple[int, int] | None:
    """What identifies the network's and that of IPC; None without /proc."""
    try:
        return os.stat("/proc/self/ns/net").st_ino, os.stat("/proc/self/ns/ipc").st_ino
    except OSError:
        return None


def hide_files() -> None:
    """Make every path lead nowhere, if that is allowed, as it is after `separate`.

    The new root is a directory in which nothing can be made, and which holds nothing but notes on
    the process's own pipes.
    """
    with suppress(OSError):
        os.chroot("/proc/self/fdinfo")
        os.chdir("/")


def drop_privileges() -> None:
    """Give up all capabilities, root's or those over an own namespace, and the way back to them.

    Afterwards a process of the same user can neither trace this one nor read its memory.
    """
    capability = 0
    while _prctl(_PR_CAPBSET_DROP, capability) == 0:  # up to the last that this kernel knows
        capability += 1
    _libc.capset(_CAPABILITY_HEADER, _NO_CAPABILITIES)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Be killed when the parent ends. A change of credentials would forget it: call this after."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def filter_calls() -> bool:
    """Let the kernel kill this process at the first system call that it does not need.

    Needs `drop_privileges` before. Whether the filter is at work was asked of the filter itself.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is None or sys.maxsize < 2**32:  # a 32-bit process of a 64-bit kernel
        return False
    instructions = program(machine, os.getpid())
    filtering = _Program(len(instructions) // 8, instructions)
    if _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(filtering)) != 0:
        return False
    return _prctl(_PR_GET_SECCOMP) == -1 and ctypes.get_errno() == errno.EPERM


def _prctl(option: int, first: int = 0, second: int = 0) -> int:
    # The kernel reads five full words, and refuses some options if unused ones are not zero.
    words = (ctypes.c_ulong(word) for word in (first, second, 0, 0))
    result: int = _libc.prctl(option, *words)
    return result

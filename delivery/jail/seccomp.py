"""The system calls that are left to a worker, as a program for the kernel's filter (seccomp(2)).

Reading its input, writing its output, memory that cannot be executed, clocks, signals to itself,
and the end. Everything else kills the process: calls that are not listed, listed ones with other
arguments, those of other architectures (32-bit ones on the same machine too) and x32 ones, whose
numbers differ from all listed by one high bit.

Numbers are the kernel's public ones: asm/unistd_64.h for x86_64 and asm-generic/unistd.h for
aarch64. The aarch64 program has been checked by an interpreter only, never run by a kernel.
"""

import errno
import mmap
import struct
from typing import NamedTuple

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM

CANARY = "prctl"
"""The one call that is refused instead of killing: so a process can ask whether it is filtered."""

_WORD = 0xFFFFFFFF
_MAP_ANONYMOUS = 0x20
_FUTEX_FLAGS = 128 | 256  # FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
_FUTEX_WAIT_AND_WAKE = (0, 1, 9, 10)  # and their BITSET forms; no requeueing, no priorities


class Argument(NamedTuple):
    """What the lower half of the argument at `position` must be, once cut to `mask`.

    All arguments compared here are ints or flags, of which the kernel ignores the upper half.
    """

    position: int
    values: tuple[int, ...]
    mask: int = _WORD


class Machine(NamedTuple):
    """How the kernel names an architecture to a filter, and its numbers of the calls."""

    audit: int
    numbers: dict[str, int]


MACHINES = {
    "x86_64": Machine(
        0xC000003E,
        {
            "clock_gettime": 228,
            "getrusage": 98,
            "gettimeofday": 96,
            "time": 201,
            "read": 0,
            "write": 1,
            "brk": 12,
            "mmap": 9,
            "munmap": 11,
            "mremap": 25,
            "madvise": 28,
            "mprotect": 10,
            "futex": 202,
            "getrandom": 318,
            "setitimer": 38,
            "rt_sigreturn": 15,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "restart_syscall": 219,
            "getpid": 39,
            "gettid": 186,
            "tgkill": 234,
            "exit": 60,
            "exit_group": 231,
            CANARY: 157,
        },
    ),
    "aarch64": Machine(
        0xC00000B7,
        {
            "clock_gettime": 113,
            "getrusage": 165,
            "gettimeofday": 169,
            "read": 63,
            "write": 64,
            "brk": 214,
            "mmap": 222,
            "munmap": 215,
            "mremap": 216,
            "madvise": 233,
            "mprotect": 226,
            "futex": 98,
            "getrandom": 278,
            "setitimer": 103,
            "rt_sigreturn": 139,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "restart_syscall": 128,
            "getpid": 172,
            "gettid": 178,
            "tgkill": 131,
            "exit": 93,
            "exit_group": 94,
            CANARY: 167,
        },
    ),
}
"""By the name that uname gives. Both are little-endian and have 64 bits."""


def program(machine: Machine, pid: int) -> bytes:
    """The filter for the process `pid`, as an array of the kernel's `struct sock_filter`."""
    conditions = _conditions(pid)
    instructions = [
        _load(_ARCHITECTURE),
        _if_equal(machine.audit, 1, 0),
        _return(KILL_PROCESS),
        _load(_NUMBER),
    ]
    for name, number in machine.numbers.items():
        verdict = REFUSE if name == CANARY else ALLOW
        steps = [step for each in conditions.get(name, ()) for step in _check(each)]
        steps.append(_return(verdict))
        instructions += [_if_equal(number, 0, len(steps)), *steps]
    return b"".join([*instructions, _return(KILL_PROCESS)])


def _conditions(pid: int) -> dict[str, tuple[Argument, ...]]:
    """What calls are allowed with; those not named here, with anything."""
    return {
        "read": (Argument(0, (0,)),),
        "write": (Argument(0, (1, 2)),),
        "mmap": (
            Argument(2, (0,), mask=mmap.PROT_EXEC),
            Argument(3, (_MAP_ANONYMOUS,), mask=_MAP_ANONYMOUS),
        ),
        "mprotect": (Argument(2, (0,), mask=mmap.PROT_EXEC),),
        "futex": (Argument(1, _FUTEX_WAIT_AND_WAKE, mask=_WORD & ~_FUTEX_FLAGS),),
        "tgkill": (Argument(0, (pid,)),),  # abort() ends the process with a signal to itself
    }


# Offsets in the kernel's `struct seccomp_data`.
_NUMBER = 0
_ARCHITECTURE = 4
_ARGUMENTS = 16


def _check(argument: Argument) -> list[bytes]:
    """Go on after these instructions if the argument is as it must be, kill if not."""
    comparisons = [
        _if_equal(value, remaining, 0)
        for value, remaining in zip(
            argument.values, range(len(argument.values), 0, -1), strict=True
        )
    ]
    return [
        _load(_ARGUMENTS + 8 * argument.position),
        _and(argument.mask),
        *comparisons,
        _return(KILL_PROCESS),
    ]


def _load(offset: int) -> bytes:
    return _instruction(0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS


def _and(mask: int) -> bytes:
    return _instruction(0x54, 0, 0, mask)  # BPF_ALU | BPF_AND | BPF_K


def _if_equal(value: int, then_skip: int, else_skip: int) -> bytes:
    return _instruction(0x15, then_skip, else_skip, value)  # BPF_JMP | BPF_JEQ | BPF_K


def _return(verdict: int) -> bytes:
    return _instruction(0x06, 0, 0, verdict)  # BPF_RET | BPF_K


def _instruction(code: int, then_skip: int, else_skip: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, then_skip, else_skip, value)

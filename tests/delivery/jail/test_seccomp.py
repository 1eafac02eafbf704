"""The filter's program, run by an interpreter of our own: every call, on both architectures."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from delivery.jail.seccomp import ALLOW, KILL_PROCESS, MACHINES, REFUSE, program

PID = 4242
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OTHERS = [0x40000003, 0x40000028, 0xC00000F3, 0, 0xFFFFFFFF]  # i386, arm, riscv64, none, all

UNCONDITIONAL = {
    "x86_64": {
        *(228, 98, 96, 201),  # clock_gettime, getrusage, gettimeofday, time
        *(12, 11, 25, 28),  # brk, munmap, mremap, madvise
        *(318, 38, 15, 13, 14),  # getrandom, setitimer, rt_sigreturn, rt_sigaction, rt_sigprocmask
        *(219, 39, 186, 60, 231),  # restart_syscall, getpid, gettid, exit, exit_group
    },
    "aarch64": {
        *(113, 165, 169),
        *(214, 215, 216, 233),
        *(278, 103, 139, 134, 135),
        *(128, 172, 178, 93, 94),
    },
}
READ, WRITE, MMAP, MPROTECT, FUTEX, TGKILL, PRCTL = range(7)
CONDITIONAL = {
    "x86_64": {0: READ, 1: WRITE, 9: MMAP, 10: MPROTECT, 202: FUTEX, 234: TGKILL, 157: PRCTL},
    "aarch64": {63: READ, 64: WRITE, 222: MMAP, 226: MPROTECT, 98: FUTEX, 131: TGKILL, 167: PRCTL},
}

words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2, 3, 4, 7, 9, 0x20, 0x22, 138, PID])
machines = st.sampled_from(sorted(MACHINES))
everywhere = pytest.mark.parametrize("machine", sorted(MACHINES))


def allows(call: int, arguments: Sequence[int]) -> bool:
    """What the list promises of the calls that are looked at more closely."""
    first, second, third, fourth = (argument & 0xFFFFFFFF for argument in arguments[:4])
    executable = bool(third & 4)
    return {
        READ: first == 0,
        WRITE: first in (1, 2),
        MMAP: not executable and bool(fourth & 0x20),
        MPROTECT: not executable,
        FUTEX: second & ~0x180 in (0, 1, 9, 10),
        TGKILL: first == PID,
    }[call]


def expected(machine: str, number: int, arguments: Sequence[int]) -> int:
    call = CONDITIONAL[machine].get(number)
    if call == PRCTL:
        return REFUSE
    allowed = number in UNCONDITIONAL[machine] if call is None else allows(call, arguments)
    return ALLOW if allowed else KILL_PROCESS


def verdict(filtering: bytes, audit: int, number: int, arguments: Sequence[int]) -> int:
    """What the kernel would say: classic BPF over `struct seccomp_data`, little-endian."""
    data = struct.pack("<IIQ6Q", number, audit, 0xFFFF_8000_0000_0000, *arguments)
    code = list(struct.iter_unpack("<HBBI", filtering))
    accumulator = position = 0
    while True:
        operation, if_true, if_false, value = code[position]
        position += 1
        match operation:
            case 0x20:
                assert value % 4 == 0
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"operation {operation:#x}")


@everywhere
def test_every_number_without_arguments(machine: str) -> None:
    """Of all calls there are or will be for long, those on the list live and no other."""
    filtering = program(MACHINES[machine], PID)

    wrong = [
        number
        for number in range(2048)
        for arguments in ([0] * 6, [2**64 - 1] * 6)
        if verdict(filtering, AUDIT[machine], number, arguments)
        != expected(machine, number, arguments)
    ]

    assert wrong == []


@everywhere
@pytest.mark.parametrize("first", [0, 1, PID])
def test_every_small_argument_of_the_calls_with_conditions(machine: str, first: int) -> None:
    """Each argument is changed, from allowed ones, to all flags and operations there are."""
    filtering = program(MACHINES[machine], PID)
    usual = [first, 0, 3, 0x22, 0, 0]

    wrong = [
        (number, arguments)
        for number in CONDITIONAL[machine]
        for position in range(4)
        for value in range(512)
        for arguments in ([*usual[:position], value, *usual[position + 1 :]],)
        if verdict(filtering, AUDIT[machine], number, arguments)
        != expected(machine, number, arguments)
    ]

    assert wrong == []


@given(machine=machines, data=st.data(), arguments=st.lists(words, min_size=6, max_size=6))
def test_listed_calls_with_any_arguments(
    machine: str, data: st.DataObject, arguments: list[int]
) -> None:
    """A listed call lives with the arguments it may have, and dies with all others."""
    number = data.draw(st.sampled_from(sorted(MACHINES[machine].numbers.values())))

    assert verdict(program(MACHINES[machine], PID), AUDIT[machine], number, arguments) == expected(
        machine, number, arguments
    )


@given(
    machine=machines,
    number=st.integers(0, 2**32 - 1),
    arguments=st.lists(words, min_size=6, max_size=6),
)
def test_any_number_with_any_arguments(machine: str, number: int, arguments: list[int]) -> None:
    """No number beyond those that exist is taken for one on the list."""
    assert verdict(program(MACHINES[machine], PID), AUDIT[machine], number, arguments) == expected(
        machine, number, arguments
    )


@everywhere
@pytest.mark.parametrize("other", OTHERS, ids=hex)
def test_other_architectures(machine: str, other: int) -> None:
    """A call in another architecture's numbering dies, whatever its number means here."""
    filtering = program(MACHINES[machine], PID)

    assert {verdict(filtering, other, number, [0] * 6) for number in range(512)} == {KILL_PROCESS}


def test_x32_calls() -> None:
    """The numbers of the x32 ABI, ours with a high bit, die although the architecture is ours."""
    filtering = program(MACHINES["x86_64"], PID)
    verdicts = {
        verdict(filtering, AUDIT["x86_64"], 0x40000000 | number, [0] * 6) for number in range(1024)
    }

    assert verdicts == {KILL_PROCESS}


@everywhere
def test_the_kernel_takes_it(machine: str) -> None:
    """A filter must have whole instructions, at most 4096, end in a verdict and jump inside."""
    code = list(struct.iter_unpack("<HBBI", program(MACHINES[machine], PID)))

    assert len(code) <= 4096
    assert code[-1][0] == 0x06
    assert all(
        position + 1 + max(if_true, if_false) < len(code)
        for position, (_, if_true, if_false, _) in enumerate(code[:-1])
    )

"""The worker's own program, fed and read as a whole; what runs in it has tests of its own."""

import subprocess
from collections.abc import Sequence
from subprocess import PIPE

import msgspec
import pytest

from delivery.jail.frames import (
    CALL_LIMIT,
    HEADER,
    Arguments,
    Call,
    Functions,
    Limits,
    Profile,
    Ready,
    Reply,
    Setup,
    framed,
)
from delivery.jail.process import worker_command

FAULTLESS = "return true"
DEFAULTS = Limits()

FORK = '"$@"; exit $?'
"""For a shell: run the rest of its arguments. A process starts with the peak size of whoever forked
it, and the shell is smaller than these tests."""


def call(lua: str = FAULTLESS) -> bytes:
    source = f"return function (data, event, source, pid)\n{lua}\nend"
    return framed(Call("w", "h", Functions((source,)), Arguments(b"{}")))


def worker(
    *frames: bytes, limits: Limits = DEFAULTS, parent: int | None = None
) -> tuple[int, list[bytes]]:
    """The exit status and the answers of a worker that is sent all this at once."""
    with subprocess.Popen(
        ["/bin/sh", "-c", FORK, "sh", *worker_command()], stdin=PIPE, stdout=PIPE, env={}
    ) as shell:
        setup = framed(Setup("lua", limits, Profile(), parent or shell.pid))
        said, _ = shell.communicate(setup + b"".join(frames), timeout=60)
    answers: list[bytes] = []
    while said:
        (size,) = HEADER.unpack_from(said)
        answers.append(said[HEADER.size : HEADER.size + size])
        said = said[HEADER.size + size :]
    return shell.returncode, answers


def retiring(answers: Sequence[bytes]) -> list[bool]:
    return [msgspec.msgpack.decode(answer, type=Reply).retiring for answer in answers]


def test_calls_are_answered_until_the_input_ends() -> None:
    """In order; then the process ends by itself."""
    status, (ready, *answers) = worker(call(), call("error('x', 0)"), call())
    replies = [msgspec.msgpack.decode(answer, type=Reply) for answer in answers]

    assert status == 0
    assert "rlimits" in msgspec.msgpack.decode(ready, type=Ready).barriers
    assert [[f.text for f in reply.report.failures] for reply in replies] == [[], [b"x"], []]


def test_a_worker_that_is_nobodys_does_not_start() -> None:
    """If the service ended meanwhile, nothing would ever end the worker."""
    status, answers = worker(call(), parent=1)

    assert (status, answers) == (1, [])


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(HEADER.pack(CALL_LIMIT + 1) + bytes(10), id="too large"),
        pytest.param(HEADER.pack(3) + b"\xc1\xc1\xc1", id="no call"),
        pytest.param(call()[:-1], id="cut off"),
    ],
)
def test_a_frame_that_is_no_call_ends_the_worker(frame: bytes) -> None:
    """The service never sends such a thing: nothing can be trusted after it."""
    status, answers = worker(call(), frame)

    assert status != 0
    assert len(answers) == 2


def test_a_worker_asks_to_be_replaced_after_its_calls() -> None:
    """It says so with the last answer, and would go on."""
    _, (_, *answers) = worker(*[call()] * 3, limits=Limits(calls=2))

    assert retiring(answers) == [False, True, True]


def test_a_worker_asks_to_be_replaced_before_its_time_is_up() -> None:
    """At half of the processor time at whose end the system would kill it."""
    limits = Limits(cpu_seconds=0.2, worker_cpu_seconds=2)
    _, (_, *answers) = worker(call(), *[call("while true do end")] * 6, limits=limits)

    assert retiring(answers)[0] is False
    assert retiring(answers)[-1] is True


def test_a_worker_asks_to_be_replaced_when_it_has_grown() -> None:
    """By its own peak, not by that of whoever started it."""
    grow = "local t = {} for i = 1, 20 do t[i] = ('x'):rep(1e6) .. i end return true"
    _, (_, *answers) = worker(call(), call(grow), limits=Limits(resident=30 * 1024 * 1024))

    assert retiring(answers) == [False, True]

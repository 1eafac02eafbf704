"""What operators are told of the jail."""

import logging

import pytest

from delivery.jail import overview
from delivery.jail.frames import Call, Functions
from delivery.jail.overview import Overview
from delivery.jail.pool import JailOptions, WorkerPool

ONE = JailOptions(workers=1, spares=0, start_seconds=30)


async def test_a_jail_is_announced_with_its_barriers(caplog: pytest.LogCaptureFixture) -> None:
    """One worker is started to find out; none before."""
    caplog.set_level(logging.INFO)
    async with WorkerPool.open(ONE) as pool:
        told = Overview([pool])
        before = told.state()
        await told.announce()
        after = told.state()
    [record] = caplog.records

    assert (before["engine"], before["barriers"], before["workers"]) == (None, None, 0)
    assert after["engine"].startswith("Lua")
    assert "rlimits" in after["barriers"]
    assert (after["problem"], after["workers"], after["calls"]) == (None, 1, 0)
    assert record.getMessage().startswith("users' code ")


async def test_a_missing_barrier_is_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names what the system lacks and the setting that says what is enough."""
    monkeypatch.setattr(overview, "BARRIERS", ("rlimits", "moat", "wall"))
    async with WorkerPool.open(ONE) as pool:
        await Overview([pool]).announce()
    [record] = caplog.records

    assert record.levelno == logging.WARNING
    assert "no moat and no wall; the setting `jail`" in record.getMessage()


async def test_a_jail_that_is_not_enough_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """The service goes on without users' code, and says why as long as it lasts."""
    async with WorkerPool.open(JailOptions(required=("moat",), start_seconds=30)) as pool:
        told = Overview([pool])
        await told.announce()
        problem = told.state()["problem"]

    assert problem.startswith("this system cannot jail user code: no moat (has rlimits")
    assert caplog.records[-1].levelno == logging.ERROR
    assert caplog.records[-1].getMessage().endswith(problem)


async def test_counts_are_those_of_all_pools() -> None:
    """Of functions and templates together."""
    async with WorkerPool.open(ONE) as one, WorkerPool.open(ONE) as other:
        for pool in (one, other):
            await pool.run(Call("w", "h", Functions(("return print",))))
        counts = Overview([one, other]).counts()

    assert (counts["calls"], counts["workers"], counts["killed"]) == (2, 2, 0)

"""The contract of `read`, `read_stream`, `find` and `wait`."""

from pathlib import Path
from uuid import UUID, uuid4

import anyio
import pytest

from eventstore import (
    Append,
    Appended,
    EventLog,
    Kind,
    NewEvent,
    Truncated,
)
from tests.eventstore.samples import created, emitted, failed, of, truncate


async def test_pages_cover_the_log_without_overlap(log: EventLog) -> None:
    """Reading on from the last position of each page visits every event once."""
    for _ in range(5):
        await log.append(of(*[emitted()] * 5))
    seen: list[int] = []
    while page := await log.read(seen[-1] if seen else 0, limit=7):
        seen += [event.seq for event in page]

    assert seen == list(range(1, 26))


@pytest.mark.parametrize(
    ("kinds", "seqs"),
    [
        pytest.param(None, [1, 2, 3, 4, 5, 6], id="all"),
        pytest.param([Kind.CONFIG], [2, 5], id="config"),
        pytest.param({Kind.CONFIG, Kind.DELIVERY}, [2, 3, 5, 6], id="merged"),
        pytest.param([Kind.DELIVERY, Kind.DELIVERY], [3, 6], id="repeated"),
        pytest.param((Kind.EMITTED,), [1, 4], id="emitted"),
        pytest.param({Kind.EMITTED, Kind.CONFIG}, [1, 2, 4, 5], id="walked"),
        pytest.param({Kind.SYSTEM}, [], id="absent"),
        pytest.param(set(), [], id="none"),
    ],
)
async def test_reading_some_kinds(log: EventLog, kinds: list[Kind] | None, seqs: list[int]) -> None:
    """Any set of kinds is read in order of position, and in pages."""
    await log.append(of(emitted(), created(), failed(), emitted(), created(), failed()))
    page = await log.read(0, kinds=kinds)
    paged = [(await log.read(after, limit=1, kinds=kinds))[:1] for after in range(log.head)]

    assert [event.seq for event in page] == seqs
    assert sorted({event.seq for page in paged for event in page}) == seqs


async def test_large_bodies_make_short_pages(log: EventLog) -> None:
    """A page stops at some MiB of bodies, however many events were asked for; none is lost."""
    for _ in range(12):
        await log.append(of(*[emitted(b"x" * 1024 * 1024)] * 4))
    first = await log.read(0)
    seen = [event.seq for event in first]
    while page := await log.read(seen[-1]):
        seen += [event.seq for event in page]

    assert len(first) < 48
    assert seen == list(range(1, 49))


async def test_a_stream_is_read_by_version(log: EventLog) -> None:
    """A stream's history is paged by version; streams of emitted events have none."""
    await log.append(of(created("a/1"), emitted(), created("a/1"), created("a/2"), created("a/1")))
    history = await log.read_stream("a/1", after=0, limit=5)

    assert [(event.seq, event.version) for event in history] == [(3, 1), (5, 2)]
    assert await log.read_stream("a/1", limit=1) == await log.read(0, limit=1)
    assert await log.read_stream("emitted/source/event") == []
    assert await log.read_stream("a/3") == []


async def test_events_are_found_by_id(log: EventLog) -> None:
    """Every event is found by its id, and an id that is not in the log is not."""
    assert await log.find(uuid4()) is None

    await log.append(of(*[emitted()] * 50))
    events = await log.read(0)
    found = [await log.find(UUID(event.id)) for event in events]

    assert found == events
    assert await log.find(UUID(int=0)) is None
    assert await log.find(UUID(int=2**128 - 1)) is None


async def test_wait_returns_when_there_is_more(log: EventLog) -> None:
    """`wait` returns once there is an event after the position, at once if there is one already."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.wait, 2)
            await log.append(of(emitted()))
            await log.append(of(emitted(), emitted()))
        await log.wait(2)

    with anyio.move_on_after(0.01) as scope:
        await log.wait(3)

    assert scope.cancelled_caught


async def test_wait_config_wakes_for_configuration_only(log: EventLog) -> None:
    """Emitted events do not end a wait for configuration."""
    await log.append(of(emitted()))
    with anyio.move_on_after(0.01) as scope:
        await log.wait_config(0)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.wait_config, 0)
            await log.append(of(created()))

    assert scope.cancelled_caught


async def test_waiters_see_what_woke_them(log: EventLog) -> None:
    """By the time a waiter wakes, the event can be read."""
    async with anyio.create_task_group() as tasks:

        async def follow() -> None:
            seen = 0
            while seen < 100:
                await log.wait(seen)
                page = await log.read(seen)

                assert [event.seq for event in page] == list(range(seen + 1, page[-1].seq + 1))
                seen = page[-1].seq

        with anyio.fail_after(10):
            for _ in range(10):
                tasks.start_soon(follow)
            for _ in range(100):
                await log.append(of(emitted()))


async def test_truncated_positions_are_never_skipped_silently(directory: Path) -> None:
    """Reading from below the floor is an error; positions and versions go on above it."""
    async with EventLog.open(directory) as log:
        await log.append(of(*[created()] * 6))
        old = [await log.checkpoint(seq) for seq in (0, 3, 4, 5)]
    truncate(directory, 4)
    async with EventLog.open(directory) as log:
        with pytest.raises(Truncated) as refused:
            await log.read(3)
        for checkpoint in old[:2]:
            with pytest.raises(Truncated):
                await log.verify(checkpoint)
        for checkpoint in old[2:]:
            await log.verify(checkpoint)
        again = await log.append(Append(events=(created(),), expect={"consumers/1": 5}))

        assert refused.value.first == log.first == 5
        assert again == Appended((7,))
        assert [event.seq for event in await log.read(4)] == [5, 6, 7]
        assert [await log.find(UUID(event.id)) for event in await log.read(4)] == await log.read(4)


async def test_a_truncated_stream_keeps_its_version(directory: Path) -> None:
    """A stream whose events are all gone goes on counting where it was."""
    async with EventLog.open(directory) as log:
        await log.append(of(created("a/1"), created("a/1"), emitted()))
    truncate(directory, 2)
    async with EventLog.open(directory) as log:
        await log.append(Append(events=(created("a/1"),), expect={"a/1": 1}))

        assert [event.version for event in await log.read_stream("a/1")] == [2]


async def test_a_body_that_is_no_text_is_read_all_the_same(tmp_path: Path) -> None:
    """Pages travel as JSON; bytes that JSON cannot carry are read row by row, unchanged."""
    bodies = [b'{"a":"\xc5\xbc \\u0000 \\" \x7f"}', b"\xff\x00", b"a\x00b", b""]
    async with EventLog.open(tmp_path) as log:
        for body in bodies:
            event = NewEvent(stream="s", type="t", kind=Kind.EMITTED, body=body)
            await log.append(Append(events=(event,)))
        page = await log.read(0)
        first = await log.read(0, limit=1)

    assert [event.body for event in page] == bodies
    assert first == page[:1]

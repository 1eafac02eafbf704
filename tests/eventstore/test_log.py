"""The contract of `append`, and of opening and closing."""

from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from eventstore import (
    NO_STREAM,
    Append,
    Appended,
    ConfigMoved,
    EventLog,
    Kind,
    LogOptions,
    LogUnavailable,
    WrongVersion,
)
from tests.eventstore.samples import created, emitted, failed, of


async def test_append_answers_positions_in_order(log: EventLog) -> None:
    """Positions start at 1 and follow the order of the events, over several streams."""
    first = await log.append(of(emitted(), created(), emitted()))
    second = await log.append(of(created()))

    assert first == Appended((1, 2, 3))
    assert second == Appended((4,))
    assert log.head == 4
    assert log.config_head == 4


async def test_what_was_appended_is_read_back(directory: Path) -> None:
    """A record holds all that the append said and the log's own columns, also after a restart."""
    options = LogOptions(clock=lambda: 1_700_000_000_000_000)
    async with EventLog.open(directory, options=options) as log:
        await log.append(
            Append(
                events=(emitted(b'{"data":{"a":1}}', subject="ada"), created()),
                workspace="w",
                actor="admin/1",
                request_id="r",
            )
        )
        before = await log.read(0)
        subject = before[0].subject
    async with EventLog.open(directory) as log:
        event, other = await log.read(0)

    assert [event, other] == before
    assert (event.seq, event.stream, event.version) == (1, "emitted/source/event", 0)
    assert (event.type, event.schema_version, event.kind) == ("event_emitted", 1, Kind.EMITTED)
    assert (event.time_us, event.wall_us) == (1_700_000_000_000_000, 1_700_000_000_000_000)
    assert other.time_us == 1_700_000_000_000_001
    assert (event.workspace, event.actor, event.request_id) == ("w", "admin/1", "r")
    assert event.body == b'{"data":{"a":1}}'
    assert subject is not None
    assert b"ada" not in subject
    assert (other.actor, other.subject) == ("admin/1", None)


async def test_versions_count_per_stream(log: EventLog) -> None:
    """Every stream has versions of its own: 0, 1, 2, ..."""
    await log.append(of(created("a/1"), created("b/1"), created("a/1")))
    await log.append(of(created("b/1")))
    events = await log.read(0)

    assert [(event.stream, event.version) for event in events] == [
        ("a/1", 0),
        ("b/1", 0),
        ("a/1", 1),
        ("b/1", 1),
    ]


async def test_expected_versions_are_checked(log: EventLog) -> None:
    """An append whose expectation fails stores nothing, and says what the version is."""
    await log.append(Append(events=(created("a/1"),), expect={"a/1": NO_STREAM}))
    with pytest.raises(WrongVersion) as refused:
        await log.append(
            Append(events=(created("a/1"), created("b/1")), expect={"b/1": NO_STREAM, "a/1": 3})
        )

    assert (refused.value.stream, refused.value.expected, refused.value.actual) == ("a/1", 3, 0)
    assert log.head == 1
    assert await log.append(Append(events=(created("b/1"),), expect={"a/1": 0})) == Appended((2,))


async def test_expected_versions_hold_after_a_restart(directory: Path) -> None:
    """The version of a stream is remembered on disk."""
    async with EventLog.open(directory) as log:
        await log.append(of(created("a/1"), created("a/1")))
    async with EventLog.open(directory) as log:
        await log.append(Append(events=(created("a/1"),), expect={"a/1": 1}))
        with pytest.raises(WrongVersion):
            await log.append(Append(events=(created("a/1"),), expect={"a/1": 1}))

        assert [event.version for event in await log.read(0)] == [0, 1, 2]


async def test_one_of_100_concurrent_appends_wins(log: EventLog) -> None:
    """Of 100 appends with the same expected version exactly one is stored, the others are told."""
    outcomes: list[Appended | WrongVersion] = []

    async def call() -> None:
        try:
            outcomes.append(
                await log.append(Append(events=(created(),), expect={"consumers/1": -1}))
            )
        except WrongVersion as refused:
            outcomes.append(refused)

    async with anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(call)

    assert outcomes.count(Appended((1,))) == 1
    assert [type(outcome) for outcome in outcomes].count(WrongVersion) == 99
    assert log.head == 1


async def test_config_since_refuses_stale_decisions(log: EventLog) -> None:
    """A decision made before the last configuration event is refused; other events do not count."""
    await log.append(of(created()))
    await log.append(of(emitted(), failed()))
    stored = await log.append(Append(events=(created("b/1"),), config_since=log.config_head))
    with pytest.raises(ConfigMoved) as refused:
        await log.append(Append(events=(created("b/2"),), config_since=1))

    assert stored == Appended((4,))
    assert (refused.value.expected, refused.value.actual) == (1, 4)
    assert log.head == 4


async def test_config_since_sees_neighbours_of_the_batch(log: EventLog) -> None:
    """Of concurrent appends decided at the same configuration one wins."""
    stored: list[Appended] = []

    async def call(number: int) -> None:
        with suppress(ConfigMoved):
            stored.append(
                await log.append(Append(events=(created(f"a/{number}"),), config_since=0))
            )

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(call, number)

    assert stored == [Appended((1,))]


async def test_an_append_without_events_is_a_mistake(log: EventLog) -> None:
    """There is nothing to store and no position to answer."""
    with pytest.raises(ValueError, match="at least one event"):
        await log.append(Append(events=()))


@pytest.mark.parametrize(
    "append",
    [
        of(emitted(stream="emitted/\ud800/x")),
        Append(events=(emitted(),), workspace="\udfff"),
        Append(events=(emitted(),), actor="\udfff"),
        Append(events=(emitted(),), request_id="\udfff"),
    ],
)
async def test_names_must_be_unicode_text(log: EventLog, append: Append) -> None:
    """Half a surrogate pair is refused at the door and harms no neighbour."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.append, of(emitted()))
        with pytest.raises(UnicodeEncodeError):
            await log.append(append)

    assert log.head == 1


async def test_odd_names_are_kept_exactly(log: EventLog) -> None:
    """Quotes, control characters, NUL and characters outside the BMP come back as they went in."""
    name = 'emitted/"\\\n\x00\x7f\u2028é漢😀/x'
    await log.append(of(emitted(stream=name), created(name)))

    assert [event.stream for event in await log.read(0)] == [name, name]
    assert [event.seq for event in await log.read_stream(name)] == [2]


async def test_a_full_queue_refuses(directory: Path) -> None:
    """What does not fit into the queue is refused at once, and can be stored later."""
    options = LogOptions(queue_events=10, queue_bytes=1000)
    stored: list[Appended] = []

    async def call(*bodies: bytes) -> None:
        stored.append(await log.append(of(*[emitted(body) for body in bodies])))

    async with EventLog.open(directory, options=options) as log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, *[b"{}"] * 8)
            await anyio.lowlevel.checkpoint()
            with pytest.raises(LogUnavailable, match="queue is full"):
                await log.append(of(*[emitted()] * 3))
            with pytest.raises(LogUnavailable, match="queue is full"):
                await log.append(of(emitted(b"x" * 1000)))
        await call(*[b"{}"] * 30)

    assert stored == [Appended(tuple(range(1, 9))), Appended(tuple(range(9, 39)))]


async def test_large_appends_are_batches_of_their_own(directory: Path) -> None:
    """An append beyond a batch's bounds is stored whole, and its neighbours too."""
    options = LogOptions(batch_events=4, batch_bytes=100)
    async with EventLog.open(directory, options=options) as log:
        async with anyio.create_task_group() as tasks:
            for count in (3, 9, 1, 2, 30):
                tasks.start_soon(log.append, of(*[emitted(b"x" * 20)] * count))

        assert log.head == 45
        assert [event.version for event in await log.read(0)] == list(range(45))


async def test_closing_finishes_the_queue(directory: Path) -> None:
    """What was taken before closing is stored and answered; nothing is taken afterwards."""
    answers: list[Appended] = []

    async def call() -> None:
        answers.append(await log.append(of(emitted())))

    async with anyio.create_task_group() as tasks, EventLog.open(directory) as log:
        for _ in range(50):
            tasks.start_soon(call)
        await anyio.lowlevel.checkpoint()
    with pytest.raises(LogUnavailable, match="closing"):
        await log.append(of(emitted()))

    assert sorted(answer.positions for answer in answers) == [(seq,) for seq in range(1, 51)]


async def test_errors_of_the_caller_pass_through_unchanged(directory: Path) -> None:
    """Whatever ends the block ends it as it is, and the log is closed all the same."""

    async def fail() -> None:
        async with EventLog.open(directory) as log:
            await log.append(of(emitted()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with EventLog.open(directory) as log:
        assert log.head == 1

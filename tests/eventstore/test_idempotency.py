"""A request or an event that comes again is stored once, and answered as it was the first time."""

from collections import Counter
from pathlib import Path

import anyio
import pytest

from eventstore import (
    Append,
    Appended,
    EventLog,
    Idempotency,
    IdentityReused,
    Kind,
    NewEvent,
)
from tests.eventstore.samples import created, emitted, of, truncate

KEY = Idempotency("admin/key-1", b"POST /consumers {}")


def keyed(*events: NewEvent, key: Idempotency = KEY, **conditions: object) -> Append:
    return Append(events=events, idempotency=key, **conditions)  # type: ignore[arg-type]


async def test_a_repeated_request_is_answered_with_its_positions(log: EventLog) -> None:
    """The second time nothing is stored, whatever events the caller decided on then."""
    first = await log.append(keyed(created("a/1"), created("a/2")))
    await log.append(of(emitted()))
    again = await log.append(keyed(created("a/1"), created("a/2")))
    otherwise = await log.append(keyed(created("b/9")))

    assert first == Appended((1, 2))
    assert again == otherwise == Appended((1, 2), repeated=True)
    assert log.head == 3


async def test_idempotency_comes_before_conditions(log: EventLog) -> None:
    """A repeated success is a success, though its expectations no longer hold."""
    append = keyed(created("a/1"), expect={"a/1": -1}, config_since=0)
    await log.append(append)
    await log.append(of(created("a/1"), created("b/1")))

    assert await log.append(append) == Appended((1,), repeated=True)


async def test_a_refused_request_leaves_its_key_free(log: EventLog) -> None:
    """Only what was stored occupies a key."""
    with pytest.raises(Exception, match="expected 7"):
        await log.append(keyed(created("a/1"), expect={"a/1": 7}))

    assert await log.append(keyed(created("a/1"))) == Appended((1,))


async def test_a_key_with_other_content_is_refused(log: EventLog) -> None:
    """The same key must mean the same request."""
    await log.append(keyed(created()))
    with pytest.raises(IdentityReused) as refused:
        await log.append(keyed(created(), key=Idempotency(KEY.key, b"POST /consumers {1}")))

    assert refused.value.index is None
    assert log.head == 1


async def test_keys_and_event_ids_are_different_names(log: EventLog) -> None:
    """An event id does not occupy the key of the same text, and the other way round."""
    await log.append(keyed(emitted(identity="same"), key=Idempotency("same", b"1")))
    await log.append(keyed(emitted(identity="other"), key=Idempotency("third", b"2")))

    assert log.head == 2
    assert await log.find_identity("same") == 1
    assert await log.find_identity("third") is None


async def test_known_events_are_not_stored_again(log: EventLog) -> None:
    """Of a request, the events already known keep their positions, and the others are stored."""
    await log.append(of(emitted(b"1", identity="a"), emitted(b"2", identity="b")))
    mixed = await log.append(
        of(emitted(b"3", identity="c"), emitted(b"2", identity="b"), emitted(b"4"))
    )
    known = await log.append(of(emitted(b"3", identity="c"), emitted(b"1", identity="a")))

    assert mixed == Appended((3, 2, 4))
    assert known == Appended((3, 1), repeated=True)
    assert [event.body for event in await log.read(0)] == [b"1", b"2", b"3", b"4"]
    assert await log.find_identity("b") == 2


async def test_an_id_twice_in_one_request_is_one_event(log: EventLog) -> None:
    """The second of the same id refers to the first."""
    twice = await log.append(of(emitted(identity="a"), emitted(), emitted(identity="a")))

    assert twice == Appended((1, 2, 1))
    assert log.head == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(emitted(b"2", identity="a"), id="body"),
        pytest.param(emitted(b"1", identity="a", stream="emitted/x/y"), id="stream"),
        pytest.param(
            NewEvent(
                stream="emitted/source/event",
                type="other",
                kind=Kind.EMITTED,
                body=b"1",
                identity="a",
            ),
            id="type",
        ),
    ],
)
async def test_an_id_with_other_content_is_refused(log: EventLog, other: NewEvent) -> None:
    """The refusal names the event, and nothing of its request is stored."""
    await log.append(of(emitted(b"1", identity="a")))
    with pytest.raises(IdentityReused) as refused:
        await log.append(of(emitted(), emitted(identity="fresh"), other))

    assert refused.value.index == 2
    assert log.head == 1
    assert await log.find_identity("fresh") is None


async def test_an_id_with_two_contents_in_one_request_is_refused(log: EventLog) -> None:
    """The refusal names the second, and nothing is stored."""
    with pytest.raises(IdentityReused) as refused:
        await log.append(of(emitted(b"1", identity="a"), emitted(b"2", identity="a")))

    assert refused.value.index == 1
    assert log.head == 0


async def test_a_keyed_request_of_known_events_keeps_its_key(log: EventLog) -> None:
    """A request that adds nothing is repeatable too, and its key is taken."""
    await log.append(of(emitted(b"1", identity="a")))
    append = keyed(emitted(b"1", identity="a"))

    assert await log.append(append) == Appended((1,), repeated=True)
    assert await log.append(append) == Appended((1,), repeated=True)
    with pytest.raises(IdentityReused):
        await log.append(keyed(emitted(), key=Idempotency(KEY.key, b"other")))


async def test_a_repeated_mixed_request_has_the_same_positions(log: EventLog) -> None:
    """Known, new and anonymous events of one keyed request are answered alike each time."""
    await log.append(of(emitted(b"1", identity="a"), emitted()))
    append = keyed(
        emitted(b"3"), emitted(b"1", identity="a"), emitted(b"4", identity="b"), emitted(b"5")
    )
    first = await log.append(append)
    await log.append(of(emitted()))

    assert first == Appended((3, 1, 4, 5))
    assert await log.append(append) == Appended((3, 1, 4, 5), repeated=True)


async def test_a_request_decided_otherwise_has_the_positions_of_the_first(log: EventLog) -> None:
    """A repeated request may come with other events: it is answered with what was stored then."""
    await log.append(keyed(emitted(b"1", identity="a"), emitted(b"2"), emitted(b"3")))

    assert await log.append(keyed(emitted(b"4"), emitted(b"1", identity="a"))) == Appended(
        (1, 2, 3), repeated=True
    )


async def test_a_storm_of_retries_stores_once(log: EventLog) -> None:
    """1000 concurrent copies of a request: one is stored, all get its position."""
    answers: Counter[Appended] = Counter()

    async def call() -> None:
        answers[await log.append(keyed(created()))] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(call)

    assert answers == {Appended((1,)): 1, Appended((1,), repeated=True): 999}
    assert log.head == 1


async def test_a_storm_with_two_contents_has_one_winner(log: EventLog) -> None:
    """Whichever content comes first owns the id; the other is refused every time."""
    outcomes: Counter[tuple[bytes, str]] = Counter()

    async def call(body: bytes) -> None:
        try:
            await log.append(of(emitted(body, identity="a")))
            outcomes[body, "stored"] += 1
        except IdentityReused:
            outcomes[body, "refused"] += 1

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(call, b"%d" % (number % 2))

    assert outcomes == {(b"0", "stored"): 100, (b"1", "refused"): 100}
    assert [event.body for event in await log.read(0)] == [b"0"]


async def test_recall_answers_without_appending(log: EventLog) -> None:
    """A caller that decides before it appends can ask first whether it is a repetition."""
    unknown = await log.recall(KEY)
    await log.append(keyed(created("a/1"), created("a/2")))

    assert unknown is None
    assert await log.recall(KEY) == Appended((1, 2), repeated=True)
    with pytest.raises(IdentityReused):
        await log.recall(Idempotency(KEY.key, b"other"))


async def test_identities_outlive_restart_and_truncation(directory: Path) -> None:
    """A retry is recognised for the life of the log, when its event is long gone."""
    append = keyed(emitted(b"1", identity="a"))
    async with EventLog.open(directory) as log:
        await log.append(append)
        await log.append(of(emitted(), emitted()))
    truncate(directory, 2)
    async with EventLog.open(directory) as log:
        assert await log.append(append) == Appended((1,), repeated=True)
        assert await log.append(of(*append.events)) == Appended((1,), repeated=True)
        assert await log.find_identity("a") == 1
        assert log.head == 3


async def test_identities_are_stored_as_digests_only(directory: Path) -> None:
    """Neither keys nor event ids nor subjects can be read from the files."""
    async with EventLog.open(directory) as log:
        await log.append(
            keyed(
                emitted(identity="secret-id", subject="secret-subject"),
                key=Idempotency("secret-key", b"secret-request"),
            )
        )

    assert b"secret" not in (directory / "log.db").read_bytes()

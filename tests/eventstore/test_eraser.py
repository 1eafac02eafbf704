"""Erasing from the log itself: what goes, what stays, and that it is done once."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from hypothesis import given, strategies as st

from eventstore import (
    Append,
    EventLog,
    Idempotency,
    IdentityReused,
    Kind,
    LogUnavailable,
    NewEvent,
    eraser as erasers,
)
from eventstore.auditor import Auditor
from eventstore.eraser import Erased
from eventstore.erasing import Found, Wanted, pieces
from eventstore.events import EventsErased
from tests.eventstore.samples import created, emitted, of

ORIGIN = Append(events=(), actor="ada", request_id="r")
SECRET = b"ada@example.com"


async def obeyed(seq: int, record: EventsErased) -> None:
    """Nobody folds the log here."""


async def erase(log: EventLog, what: str, key: str, seq: int = 0) -> Erased:
    wanted = Wanted(what, key, seq)  # type: ignore[arg-type]
    return await log.eraser.erase(wanted, "asked", ORIGIN, obeyed)


async def erased(log: EventLog) -> list[int]:
    """The positions without a body."""
    return [event.seq for event in await log.read(0) if event.body is None]


async def holding(directory: Path, text: bytes = SECRET) -> list[str]:
    def search() -> list[str]:
        return sorted(path.name for path in directory.iterdir() if text in path.read_bytes())

    return await anyio.to_thread.run_sync(search)


def copy(of_seq: int, type_: str = "delivery_parked", body: bytes = SECRET) -> NewEvent:
    text = msgspec.json.encode({"seq": of_seq, "data": body.decode()})
    return NewEvent(stream="deliveries/h", type=type_, kind=Kind.DELIVERY, body=text)


async def test_everything_but_the_bodies_stays(log: EventLog, directory: Path) -> None:
    """Envelope, digest and leaf are what they were, so old and new proofs hold."""
    async with Auditor.open(log, directory) as auditor:
        for n in range(6):
            subject = "ada" if n % 2 else "bob"
            await log.append(of(emitted(SECRET * 500 if n % 2 else b"{}", subject=subject)))
        note = await auditor.checkpoint()
        root, proof = await auditor.root(6), await auditor.inclusion(4, 6)
        before = await log.read(0)
        done = await erase(log, "subject", log.subject("ada").hex())
        after = await log.read(0)
        await auditor.catch_up()

        assert done == Erased(count=3, records=(7,))
        assert [event.seq for event in after if event.body is None] == [2, 4, 6]
        stripped = [msgspec.structs.replace(event, body=None) for event in before]
        assert [msgspec.structs.replace(event, body=None) for event in after[:6]] == stripped
        assert await auditor.root(6) == root
        assert await auditor.inclusion(4, 6) == proof
        assert auditor.problem is None
        assert note != await auditor.checkpoint()
    assert await holding(directory) == []


async def test_the_record_says_what_was_erased(log: EventLog) -> None:
    """In the same transaction: what, why, where, how many, by whom; no word of the person."""
    for n in range(5):
        await log.append(of(emitted(subject="ada" if n in (0, 1, 3) else None)))
    await log.append(Append(events=(created("consumers/1"),), workspace="w"))
    digest = log.subject("ada").hex()
    await erase(log, "subject", digest)
    await erase(log, "workspace", "w")
    [(_, person), (_, workspace)] = await log.eraser.records()
    (event, _) = await log.read(6)

    assert person == EventsErased(
        what="subject",
        key=digest,
        reason="asked",
        runs=[(1, 2), (4, 4)],
        count=3,
        streams=["emitted/source/event"],
    )
    assert (workspace.runs, workspace.streams) == ([(6, 6)], ["consumers/"])
    assert (event.kind, event.actor, event.request_id) == (Kind.SYSTEM, "ada", "r")
    assert b"ada@" not in (event.body or b"")


async def test_copies_go_with_what_they_are_copies_of(log: EventLog, directory: Path) -> None:
    """Parked copies, and copies of copies; neither others' nor receipts, which hold nothing."""
    await log.append(of(emitted(SECRET), emitted(b"{}")))
    await log.append(of(copy(1), copy(2, body=b"x"), copy(3, "request_queued")))
    await log.append(of(copy(5, "delivery_failed"), copy(1, "deliveries_settled", b"y")))
    done = await erase(log, "event", "id", 1)

    assert done.count == 4
    assert await erased(log) == [1, 3, 5, 6]
    assert await holding(directory) == []


async def test_copies_stored_meanwhile_go_too(log: EventLog, directory: Path) -> None:
    """An attempt that was under way parks what it held: found, and erased before the answer."""
    await log.append(of(emitted(SECRET)))
    late = [copy(1), copy(1, "request_queued")]

    async def slowly(seq: int, record: EventsErased) -> None:
        if late:
            await log.append(of(late.pop()))

    done = await log.eraser.erase(Wanted("event", "id", 1), "asked", ORIGIN, slowly)

    assert (done.count, len(done.records)) == (3, 3)
    assert await holding(directory) == []


async def test_erasing_twice_is_erasing_once(log: EventLog) -> None:
    """The second time nothing is stored; with the key of the first, its answer is given again."""
    await log.append(of(emitted(subject="ada")))
    wanted = Wanted("subject", log.subject("ada").hex())
    keyed = msgspec.structs.replace(ORIGIN, idempotency=Idempotency("k", b"this"))
    first = await log.eraser.erase(wanted, "asked", keyed, obeyed)
    head = log.head
    again = await log.eraser.erase(wanted, "asked", keyed, obeyed)
    other = msgspec.structs.replace(ORIGIN, idempotency=Idempotency("k", b"that"))

    assert again == first
    assert await erase(log, "subject", wanted.key) == Erased(count=0, records=())
    assert log.head == head
    with pytest.raises(IdentityReused):
        await log.eraser.erase(wanted, "asked", other, obeyed)


async def test_what_the_log_says_of_itself_stays(log: EventLog) -> None:
    """Not even by position: it holds nothing of anybody."""
    await log.append(of(emitted(subject="ada")))
    await erase(log, "subject", log.subject("ada").hex())

    assert (await erase(log, "event", "id", 2)).count == 0
    assert await erased(log) == [1]


async def test_an_erased_event_is_known_by_its_id(log: EventLog) -> None:
    """The same event is not stored a second time, and its erasure is not undone."""
    event = emitted(SECRET, identity="mine")
    first = await log.append(of(event))
    await erase(log, "event", "id", 1)
    again = await log.append(of(event))

    assert (again.positions, again.repeated) == (first.positions, True)
    assert await erased(log) == [1]


async def test_a_reader_in_the_wal_keeps_it_from_being_done(
    log: EventLog, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success is not reported while old frames stay; without the reader the next call ends."""
    monkeypatch.setattr(erasers, "_WAL_TRIES", 2)
    await log.append(of(emitted(SECRET)))
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        with pytest.raises(LogUnavailable, match="waits for a reader"):
            await erase(log, "event", "id", 1)
        assert await erased(log) == [1]
    done = await erase(log, "event", "id", 1)

    assert done.count == 0
    assert await holding(directory) == []


async def test_what_was_not_finished_is_finished_by_the_next_start(directory: Path) -> None:
    """Keys, WAL and late copies, before anybody reads or writes."""
    async with EventLog.open(directory) as log:
        await log.append(of(emitted(SECRET)))
        await erase(log, "event", "id", 1)
        await log.append(of(copy(1)))
    await anyio.to_thread.run_sync(_mark, directory, 2)
    async with EventLog.open(directory) as log:
        assert await erased(log) == [1, 3]
        assert [record.reason for _, record in await log.eraser.records()] == [
            "asked",
            "copies of erased events",
        ]
        assert await holding(directory) == []
    async with EventLog.open(directory) as log:
        assert log.head == 4


def _mark(directory: Path, seq: int) -> None:
    with closing(sqlite3.connect(directory / "log.db")) as connection, connection:
        connection.execute("INSERT INTO meta VALUES ('erasing', ?)", (seq,))


async def test_a_count_changes_nothing(log: EventLog) -> None:
    """What a dry run asks for."""
    await log.append(of(emitted(subject="ada"), copy(1), emitted()))

    assert await log.eraser.count(Wanted("subject", log.subject("ada").hex())) == 2
    assert await log.eraser.count(Wanted("workspace", "other")) == 0
    assert await erased(log) == []
    assert log.head == 3


@given(st.lists(st.integers(0, 40 * 2**20), max_size=40), st.integers(1, 30_000))
def test_large_erasures_come_in_pieces(sizes: list[int], more: int) -> None:
    """None larger than a transaction should be, unless one body is; none left out."""
    found = [Found(seq, size, "") for seq, size in enumerate(sizes + [1] * more)]
    made = list(pieces(found))

    assert [each for piece in made for each in piece] == found
    assert all(len(piece) <= 10_000 for piece in made)
    assert all(sum(e.size for e in p) <= 64 * 2**20 or len(p) == 1 for p in made)

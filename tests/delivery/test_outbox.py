"""One hook's deliveries in memory, and what of them goes to disk."""

from typing import Any

import pytest

from delivery.outbox import Outbox
from delivery.recovered import Recovered
from delivery.state import Lane, Open, Parked, Progress
from delivery.store import Changes
from eventstore.events import Suppressed

ONE, TWO, THREE = (1, ""), (2, ""), (3, "")
PARKED = Parked(position=9, event_id="id", attempts=1, reason="no", status=None, at_us=0)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox("h", 0, lambda _: None)


def collected(outbox: Outbox) -> dict[str, dict[Any, bool]]:
    """By table and key: whether a row is put (or else deleted)."""
    changes = Changes()
    outbox.collect(changes)
    return {
        table: {key: values is not None for key, values in rows.items()}
        for table, rows in changes.rows.items()
        if rows
    }


def test_a_new_outbox_says_where_it_began(outbox: Outbox) -> None:
    """Even if nothing else happens, a restart knows from where on it counts."""
    assert collected(outbox) == {"progress": {("h",): True}}
    assert collected(outbox) == {}


def test_what_came_and_went_never_touches_the_disk(outbox: Outbox) -> None:
    """Only what is open at a flush is written."""
    outbox.fire(ONE)
    outbox.delivered(ONE)
    outbox.fire(TWO)

    assert collected(outbox) == {"open": {("h", 2, ""): True}, "progress": {("h",): True}}
    outbox.delivered(TWO)
    assert collected(outbox) == {"open": {("h", 2, ""): False}, "progress": {("h",): True}}


def test_a_parked_delivery_moves(outbox: Outbox) -> None:
    """From the open ones to the parked ones, and back when it is sent again."""
    outbox.fire(ONE)
    collected(outbox)
    outbox.park(ONE, PARKED)

    assert collected(outbox) == {"open": {("h", 1, ""): False}, "parked": {("h", 1, ""): True}}
    assert outbox.resend(ONE, ordered=10)
    assert collected(outbox) == {"open": {("h", 1, ""): True}, "parked": {("h", 1, ""): False}}


def test_only_what_was_parked_before_is_sent_again(outbox: Outbox) -> None:
    """An order concerns what was parked when it was given."""
    outbox.fire(ONE)
    outbox.park(ONE, PARKED)

    assert not outbox.resend(ONE, ordered=PARKED.position - 1)
    assert not outbox.resend(TWO, ordered=10)
    assert ONE in outbox.parked


@pytest.mark.parametrize("lane", [Lane(5, None), Lane(None, "paused"), Lane(5, "paused")])
def test_a_lane_is_stored_while_it_differs_from_the_live_one(outbox: Outbox, lane: Lane) -> None:
    """A hook that follows the live lane and is not stopped needs no row."""
    collected(outbox)
    outbox.position, outbox.stopped = lane.position, lane.stopped

    assert collected(outbox) == {"lane": {("h",): True}}
    assert collected(outbox) == {}
    outbox.position, outbox.stopped = None, None
    assert collected(outbox) == {"lane": {("h",): False}}


def test_a_forgotten_digest_is_deleted(outbox: Outbox) -> None:
    """What memory no longer holds is no longer on disk."""
    collected(outbox)
    outbox.restore_memory(b"a", b"digest", 1)
    outbox.remembered([b"a", b"b"])

    assert collected(outbox) == {"fired": {("h", b"a"): True, ("h", b"b"): False}}


def test_an_erased_outbox_leaves_nothing(outbox: Outbox) -> None:
    """Every row of a deleted hook is deleted."""
    outbox.fire(ONE)
    outbox.fire(TWO)
    outbox.park(TWO, PARKED)
    outbox.restore_memory(b"a", b"digest", 1)
    outbox.remembered([b"a"])
    outbox.position = 1
    before = collected(outbox)
    outbox.erase()
    after = collected(outbox)

    assert {table: rows.keys() for table, rows in after.items()} == {
        table: rows.keys() for table, rows in before.items()
    }
    assert not any(put for rows in after.values() for put in rows.values())


def test_runs_of_suppressed_events(outbox: Outbox) -> None:
    """Consecutive ones with one reason are one run; a firing in between ends it."""
    for seq in (1, 3, 4):
        outbox.suppress("on_change", seq)
    outbox.suppress("snooze", 5)
    outbox.fire((6, ""))
    outbox.suppress("snooze", 7)

    assert outbox.progress.suppressed == [
        Suppressed("on_change", 1, 4, 3),
        Suppressed("snooze", 5, 5, 1),
        Suppressed("snooze", 7, 7, 1),
    ]


def test_a_receipt_says_what_is_settled(outbox: Outbox) -> None:
    """And what is still open, so that everything in its range is accounted for."""
    for item in (ONE, TWO, THREE):
        outbox.fire(item)
    outbox.delivered(ONE)
    outbox.suppress("snooze", 4)
    receipt = outbox.receipt(upto=4, hook_version=7)

    assert receipt is not None
    assert (receipt.after, receipt.upto, receipt.delivered, receipt.hook_version) == (0, 4, 1, 7)
    assert (receipt.open, receipt.late) == ([TWO, THREE], [])
    assert receipt.suppressed == [Suppressed("snooze", 4, 4, 1)]


def test_what_arrives_after_its_receipt_is_late(outbox: Outbox) -> None:
    """The next receipt names it, because the last one called it open."""
    outbox.fire(ONE)
    outbox.suppress("snooze", 2)
    outbox.receipt(upto=2, hook_version=0)
    outbox.receipted()
    outbox.delivered(ONE)
    receipt = outbox.receipt(upto=5, hook_version=0)

    assert receipt is not None
    assert (receipt.after, receipt.upto, receipt.late) == (2, 5, [ONE])


def test_what_was_sent_again_is_late_too(outbox: Outbox) -> None:
    """The log calls it open since the order, whatever the receipts say."""
    outbox.fire(ONE)
    outbox.park(ONE, PARKED)
    outbox.resend(ONE, ordered=10)
    outbox.delivered(ONE)
    receipt = outbox.receipt(upto=5, hook_version=0)

    assert receipt is not None
    assert receipt.late == [ONE]


def test_an_intended_receipt_keeps_its_words(outbox: Outbox) -> None:
    """Until it is stored, whatever happens meanwhile is for the next one."""
    outbox.fire(ONE)
    outbox.delivered(ONE)
    first = outbox.receipt(upto=1, hook_version=0)
    outbox.fire(TWO)
    outbox.delivered(TWO)

    assert outbox.receipt(upto=2, hook_version=0) == first
    outbox.receipted()
    second = outbox.receipt(upto=2, hook_version=0)
    assert second is not None
    assert first is not None
    assert (second.after, second.upto, second.delivered) == (1, 2, 1)
    assert second.id != first.id


def test_nothing_to_say_is_not_said(outbox: Outbox) -> None:
    """A hook without news writes no receipt."""
    assert outbox.receipt(upto=100, hook_version=0) is None


def test_skipping_passes_over_what_waits(outbox: Outbox) -> None:
    """The range is in the next receipt; a hook that does not wait skips nothing."""
    outbox.skip(50)
    outbox.position = 10
    outbox.skip(10)
    outbox.skip(20)

    assert outbox.position == 20
    assert outbox.progress.suppressed == [Suppressed("skipped", 11, 20, 0)]


def test_recovered_skips_are_dropped_once_passed(outbox: Outbox) -> None:
    """They mean nothing to events after them."""
    outbox.recover(Recovered(settled=5, skipped=[(8, 9), (2, 3)]))

    assert [seq for seq in range(1, 12) if outbox.skips(seq)] == [2, 3, 8, 9]
    assert outbox.progress == Progress(settled=5)


def test_what_is_recovered_has_to_be_stored(outbox: Outbox) -> None:
    """None of it was on disk."""
    recovered = Recovered(5, {ONE: Open()}, {TWO: PARKED}, stopped="paused")
    outbox.recover(recovered)

    assert collected(outbox) == {
        "open": {("h", 1, ""): True},
        "parked": {("h", 2, ""): True},
        "lane": {("h",): True},
        "progress": {("h",): True},
    }

"""Grouping appends into batches changes nothing but the speed."""

from hypothesis import given, strategies as st

from eventstore import Append, Idempotency, NewEvent
from eventstore.batch import Answer, Batch, Identity, Row, mark
from eventstore.errors import Refused
from eventstore.keys import Digests
from tests.eventstore.samples import created, emitted

DIGESTS = Digests(bytes(32))

few = st.integers(0, 2)
events = st.one_of(
    st.builds(created, st.builds("a/{}".format, few)),
    st.builds(
        lambda body, identity: emitted(b"%d" % body, identity=identity),
        few,
        st.none() | st.builds("id{}".format, few),
    ),
)
appends = st.builds(
    Append,
    events=st.lists(events, min_size=1, max_size=4).map(tuple),
    expect=st.dictionaries(st.builds("a/{}".format, few), st.integers(-1, 3), max_size=1),
    config_since=st.none() | st.integers(0, 10),
    idempotency=st.none()
    | st.builds(Idempotency, st.builds("key{}".format, few), st.sampled_from([b"1", b"2"])),
)


class Disk:
    """What batches leave behind, as the writer would read it."""

    def __init__(self) -> None:
        self.seq = self.config = 0
        self.known: dict[bytes, Identity] = {}
        self.versions: dict[str, int] = {}
        self.rows: list[Row] = []

    def commit(self, group: list[Append]) -> list[Answer]:
        batch = Batch(self.seq, self.config, self.known, self.versions)
        answers = [batch.decide(mark(append, DIGESTS)) for append in group]
        self.seq, self.config = batch.seq, batch.config
        self.known |= batch.identities
        self.versions |= {name: version for name, (version, _) in batch.streams.items()}
        self.rows += batch.rows
        return answers


def told(answers: list[Answer]) -> list[str]:
    """Answers as callers see them, so that equal refusals compare equal."""
    return [repr(answer) for answer in answers]


@given(st.lists(appends, max_size=12), st.integers(0, 12))
def test_answers_do_not_depend_on_the_grouping(requests: list[Append], cut: int) -> None:
    """One by one, all at once, or in groups: the same answers and the same log."""
    groups = [requests[:cut], requests[cut:]]
    disks = [Disk(), Disk(), Disk()]
    one_by_one = [answer for append in requests for answer in disks[0].commit([append])]
    at_once = disks[1].commit(requests)
    in_groups = [answer for group in groups for answer in disks[2].commit(group)]

    assert told(one_by_one) == told(at_once) == told(in_groups)
    assert disks[0].rows == disks[1].rows == disks[2].rows
    assert disks[0].known == disks[1].known == disks[2].known


@given(st.lists(appends, max_size=12))
def test_answered_positions_hold_the_events(requests: list[Append]) -> None:
    """Each position of a first answer holds the very event that was asked for."""
    disk = Disk()
    answers = disk.commit(requests)
    stored: dict[int, NewEvent] = {row.seq: row.event for row in disk.rows}

    assert list(stored) == list(range(1, disk.seq + 1))
    for append, answer in zip(requests, answers, strict=True):
        if not isinstance(answer, Refused) and not answer.repeated:
            assert [stored[position] for position in answer.positions] == list(append.events)


@given(st.lists(appends, max_size=12))
def test_a_refusal_adds_nothing(requests: list[Append]) -> None:
    """Without the refused appends the log is the same."""
    disk, without = Disk(), Disk()
    answers = disk.commit(requests)
    without.commit(
        [
            append
            for append, answer in zip(requests, answers, strict=True)
            if not isinstance(answer, Refused)
        ]
    )

    assert [(row.seq, row.event) for row in disk.rows] == [
        (row.seq, row.event) for row in without.rows
    ]
    assert disk.known == without.known

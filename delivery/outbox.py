"""Everything that is known about one hook's deliveries, and what of it is not on disk yet.

The consumer alone changes an outbox, between two awaits, so what `collect` gathers fits together.
"""

from collections import deque
from collections.abc import Callable
from uuid import uuid4

import anyio

from eventstore.events import DeliveriesSettled, Suppressed

from .admission import Window
from .recovery import Recovered
from .state import Changes, Item, Lane, Open, Parked, Progress
from .suppression import Fired, Memory, Reason


class Outbox:
    """`open` are decided and not settled, `running` of them in flight, `due` ready to be retried.

    `position` is None while the hook follows the live lane; otherwise everything up to there was
    decided for it. `stopped` says why nothing is sent. What `progress.settled` covers is settled
    for good: deciding it again, after `state.db` was lost, only folds the memory.
    """

    def __init__(self, hook_id: str, settled: int, woken: Callable[["Outbox"], None]) -> None:
        self.hook_id = hook_id
        self._woken = woken
        self.open: dict[Item, Open] = {}
        self.running: set[Item] = set()
        self.due: deque[Item] = deque()
        self.parked: dict[Item, Parked] = {}
        self.memory: Memory = {}
        self.progress = Progress(settled=settled)
        self.position: int | None = None
        self.stopped: str | None = None
        self.catching_up = False  # a task is reading this hook's lane
        self.window = Window()
        self._changed: anyio.Event | None = None  # made for whoever waits
        self._stored_open: set[Item] = set()
        self._stored_parked: set[Item] = set()
        self._stored_lane: Lane | None = None
        self._touched: set[Item] = set()
        self._remembered: set[bytes] = set()
        self._progressed = False
        self._gone = False
        self._run: str | None = None  # the reason of the suppression run that may go on

    def fire(self, item: Item) -> None:
        """Decided for delivery."""
        self._put(item, Open())
        self._run = None

    def suppress(self, reason: Reason, seq: int) -> None:
        """Matched and decided against; consecutive ones with one reason become one run."""
        runs = self.progress.suppressed
        if self._run == reason and runs:
            run = runs[-1]
            runs[-1] = Suppressed(reason, run.first, seq, run.count + 1)
        else:
            runs.append(Suppressed(reason, seq, seq, 1))
        self._run = reason
        self._progressed = True

    def skip(self, first: int, last: int) -> None:
        """All of first..last is passed over by hand; how much of it matches is not counted."""
        self.progress.suppressed.append(Suppressed("skipped", first, last, 0))
        self._run = None
        self._progressed = True

    def remembered(self, keys: list[bytes]) -> None:
        """These keys of `memory` changed."""
        self._remembered.update(keys)

    def delivered(self, item: Item) -> None:
        """Arrived: said by the next receipt."""
        self._drop(item)
        self.progress.delivered += 1
        if item[0] <= self.progress.settled:
            self.progress.late.append(item)
        self._progressed = True

    def retry(self, item: Item, attempt: Open) -> None:
        """Failed, and again later."""
        self._put(item, attempt)

    def park(self, item: Item, parked: Parked) -> None:
        """Given up until somebody sends it again."""
        self._drop(item)
        self.parked[item] = parked
        self._touched.add(item)

    def resend(self, item: Item, ordered: int) -> bool:
        """A delivery parked before position `ordered` becomes an open one with a fresh schedule."""
        parked = self.parked.get(item)
        if parked is None or parked.position > ordered:
            return False
        del self.parked[item]
        self._put(item, Open())
        return True

    def knows(self, item: Item) -> bool:
        """Whether the delivery was decided on and is open or parked."""
        return item in self.open or item in self.parked

    def cancel(self, items: list[Item]) -> None:
        """Never to be made: the reason is in the log."""
        for item in items:
            self._drop(item)
            self.parked.pop(item, None)

    def restore(self, opened: dict[Item, Open], parked: dict[Item, Parked]) -> None:
        """Take over what `state.db` holds."""
        self.open, self._stored_open = opened, set(opened)
        self.parked, self._stored_parked = parked, set(parked)

    def recover(self, recovered: Recovered) -> None:
        """Take over what the log says, none of it stored here yet."""
        self.progress.settled = max(self.progress.settled, recovered.settled)
        self.open, self.parked = recovered.open, recovered.parked
        self._touched.update(self.open, self.parked)
        self.stopped = recovered.stopped
        self._progressed = True

    def restore_lane(self, lane: Lane) -> None:
        self.position, self.stopped, self._stored_lane = lane.position, lane.stopped, lane

    def restore_memory(self, key: bytes, digest: bytes, wall_us: int) -> None:
        self.memory[key] = Fired(digest, wall_us)

    def next_change(self) -> anyio.Event:
        """Set by the next `wake`."""
        if self._changed is None:
            self._changed = anyio.Event()
        return self._changed

    def wake(self) -> None:
        """Something that held this hook up may be over."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        self._woken(self)

    def erase(self) -> None:
        """Forget everything, on disk too."""
        self.cancel([*self.open, *self.parked])
        self._remembered.update(self.memory)
        self.memory.clear()
        self.position = None
        self._gone = True

    def receipt(self, upto: int, hook_version: int) -> DeliveriesSettled | None:
        """Decide on the next receipt and start counting anew; None when there is nothing to say.

        It stays in `progress.intent` until `receipted`, so that the same words are stored again.
        """
        progress = self.progress
        if progress.intent is None and self.has_news:
            after = progress.settled
            progress.intent = DeliveriesSettled(
                id=uuid4().hex,
                after=after,
                upto=max(upto, after),
                delivered=progress.delivered,
                hook_version=hook_version,
                open=sorted(item for item in self.open if after < item[0]),
                late=progress.late,
                suppressed=progress.suppressed,
            )
            self.progress = Progress(settled=max(upto, after), intent=progress.intent)
            self._run = None
            self._progressed = True
        return self.progress.intent

    def receipted(self) -> None:
        """The intended receipt is in the log."""
        self.progress.intent = None
        self._progressed = True

    @property
    def has_news(self) -> bool:
        """Something happened since the last receipt."""
        return bool(self.progress.delivered or self.progress.suppressed)

    def collect(self, changes: Changes) -> None:
        """Add what is not on disk yet to `changes`, and consider it stored."""
        self._collect_items(changes)
        for key in self._remembered:
            fired = self.memory.get(key)
            if fired is None:
                changes.delete("fired", self.hook_id, key)
            else:
                changes.put("fired", self.hook_id, key, fired.digest, fired.wall_us)
        self._remembered.clear()
        lane = None if self.position is None else Lane(self.position, self.stopped)
        if lane != self._stored_lane:
            if lane is None:
                changes.delete("lane", self.hook_id)
            else:
                changes.put("lane", self.hook_id, lane.position, lane.stopped)
            self._stored_lane = lane
        if self._gone:
            changes.delete("progress", self.hook_id)
        elif self._progressed:
            changes.put("progress", self.hook_id, changes.encode(self.progress))
            self._progressed = False

    def _collect_items(self, changes: Changes) -> None:
        for item in self._touched:
            _collect(
                changes, "open", (self.hook_id, *item), self.open.get(item), item, self._stored_open
            )
            _collect(
                changes,
                "parked",
                (self.hook_id, *item),
                self.parked.get(item),
                item,
                self._stored_parked,
            )
        self._touched.clear()

    def _put(self, item: Item, value: Open) -> None:
        self.open[item] = value
        self._touched.add(item)

    def _drop(self, item: Item) -> None:
        self.open.pop(item, None)
        self._touched.add(item)


def _collect(
    changes: Changes,
    table: str,
    key: tuple[str, int, str],
    value: Open | Parked | None,
    item: Item,
    stored: set[Item],
) -> None:
    """What came and went between two flushes never touches the disk."""
    if value is not None:
        changes.put(table, *key, changes.encode(value))
        stored.add(item)
    elif item in stored:
        changes.delete(table, *key)
        stored.discard(item)

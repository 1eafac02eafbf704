"""Everything that is known about one hook's deliveries, and what of it is not on disk yet.

It is changed between two awaits only, so what `collect` gathers fits together.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal
from uuid import uuid4

import anyio
import msgspec

from eventstore.events import DeliveriesSettled, Suppressed

from .admission import Window
from .recovered import Recovered
from .state import Item, Lane, Open, Parked, Progress
from .store import Changes, encode
from .suppression import Fired, Memory


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
        self._changed: anyio.Event | None = None  # somebody waits for it
        self._stored_open: set[Item] = set()
        self._stored_parked: set[Item] = set()
        self._stored_lane = Lane()
        self._touched: set[Item] = set()
        self._remembered: set[bytes] = set()
        self._progressed = True
        self._gone = False
        self._run: str | None = None  # the reason of the suppression run that may go on

    def knows(self, item: Item) -> bool:
        """It was decided for delivery before, and is not settled."""
        return item in self.open or item in self.parked

    def fire(self, item: Item) -> None:
        """Decided for delivery."""
        self._put(item, Open())
        self.end_run()

    def suppress(self, reason: Literal["on_change", "snooze", "skipped"], seq: int) -> None:
        """Matched and decided against; consecutive ones with one reason become one run."""
        runs = self.progress.suppressed
        if self._run == reason and runs:
            run = runs[-1]
            runs[-1] = Suppressed(reason, run.first, seq, run.count + 1)
        else:
            runs.append(Suppressed(reason, seq, seq, 1))
        self._run = reason
        self._progressed = True

    def end_run(self) -> None:
        """The next suppressed event does not follow on the last one."""
        self._run = None

    def skip(self, upto: int) -> None:
        """Pass over all that waits, up to there; how much of it matches is not counted."""
        if self.position is None or upto <= self.position:
            return
        self.progress.suppressed.append(Suppressed("skipped", self.position + 1, upto, 0))
        self.position = upto
        self.end_run()
        self._progressed = True

    def skips(self, seq: int) -> bool:
        """The log says that this event was passed over by hand."""
        skipped = self.progress.skipped
        while skipped and skipped[0][1] < seq:
            skipped.pop(0)
            self._progressed = True
        return any(first <= seq <= last for first, last in skipped)

    def remembered(self, keys: list[bytes]) -> None:
        """These keys of `memory` changed."""
        self._remembered.update(keys)

    def forget_memory(self) -> None:
        """Start the memory of on_change and snooze anew."""
        self._remembered.update(self.memory)
        self.memory.clear()

    def delivered(self, item: Item) -> None:
        """Arrived: said by the next receipt."""
        opened = self.open.get(item)
        if item[0] <= self.progress.settled or (opened is not None and opened.resent):
            self.progress.late.append(item)
        self._drop(item)
        self.progress.delivered += 1
        self._progressed = True

    def retry(self, item: Item, attempt: Open) -> None:
        """Failed, and again later."""
        self._put(item, attempt)

    def park(self, item: Item, parked: Parked) -> None:
        """Given up until somebody sends it again."""
        self._drop(item)
        self.parked[item] = parked

    def learn_parked(self, item: Item, parked: Parked, decided: int) -> None:
        """The log says it was given up; after a crash that may be news.

        If it is on its way again, or has arrived, the next receipt will name it.
        """
        if item in self.parked:
            return
        if item in self.open and item in self.running:
            self._put(item, msgspec.structs.replace(self.open[item], resent=True))
        elif item in self.open or decided < item[0]:
            self.park(item, parked)
        else:
            self.progress.late.append(item)
            self._progressed = True

    def resend(self, item: Item, ordered: int) -> bool:
        """A delivery parked before position `ordered` becomes an open one with a fresh schedule."""
        parked = self.parked.get(item)
        if parked is None or parked.position > ordered:
            return False
        del self.parked[item]
        self._put(item, Open(resent=True, copy=parked.position))
        return True

    def copied(self, item: Item, old: int, new: int) -> None:
        """The fact at `old` that holds what is to be sent was copied to `new`."""
        parked, opened = self.parked.get(item), self.open.get(item)
        if parked is not None and parked.position == old:
            self.parked[item] = msgspec.structs.replace(parked, position=new)
            self._touched.add(item)
        elif opened is not None and opened.copy == old:
            self._put(item, msgspec.structs.replace(opened, copy=new))

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
        self.progress.skipped = sorted(recovered.skipped)
        self.open, self.parked = recovered.open, recovered.parked
        self._touched.update(self.open, self.parked)
        self.stopped = recovered.stopped
        self.memory = recovered.memory
        self._remembered.update(self.memory)
        self._progressed = True

    def restore_lane(self, lane: Lane) -> None:
        self.position, self.stopped, self._stored_lane = lane.position, lane.stopped, lane

    def restore_memory(self, key: bytes, digest: bytes, wall_us: int) -> None:
        self.memory[key] = Fired(digest, wall_us)

    def wake(self) -> None:
        """Something that held this hook up may be over."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        self._woken(self)

    async def until_woken(self) -> None:
        """Return after the next `wake`."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def erase(self) -> None:
        """Forget everything, on disk too."""
        self.cancel([*self.open, *self.parked])
        self.forget_memory()
        self.position = None
        self.stopped = None
        self._gone = True

    def receipt(self, upto: int, hook_version: int) -> DeliveriesSettled | None:
        """Decide on the next receipt and start counting anew; None when there is nothing to say.

        It stays in `progress.intent` until `receipted`, so that the same words are stored again.
        """
        progress = self.progress
        news = progress.delivered or progress.suppressed or progress.late
        if progress.intent is None and news:
            after = progress.settled
            upto = max(upto, after)
            intent = DeliveriesSettled(
                id=uuid4().hex,
                after=after,
                upto=upto,
                delivered=progress.delivered,
                hook_version=hook_version,
                open=sorted(item for item in self.open if after < item[0] <= upto),
                late=progress.late,
                suppressed=progress.suppressed,
            )
            self.progress = Progress(settled=upto, intent=intent, skipped=progress.skipped)
            self.end_run()
            self._progressed = True
        return self.progress.intent

    def receipted(self) -> None:
        """The intended receipt is in the log."""
        self.progress.intent = None
        self._progressed = True

    def collect(self, changes: Changes) -> None:
        """Add what is not on disk yet to `changes`, which the caller keeps until it is."""
        for item in self._touched:
            self._collect(changes, "open", item, self.open.get(item), self._stored_open)
            self._collect(changes, "parked", item, self.parked.get(item), self._stored_parked)
        self._touched.clear()
        for digest in self._remembered:
            fired = self.memory.get(digest)
            if fired is None:
                changes.delete("fired", (self.hook_id, digest))
            else:
                changes.put("fired", (self.hook_id, digest), fired.digest, fired.wall_us)
        self._remembered.clear()
        lane = Lane(self.position, self.stopped)
        if lane != self._stored_lane:
            self._stored_lane = lane
            if lane == Lane():
                changes.delete("lane", (self.hook_id,))
            else:
                changes.put("lane", (self.hook_id,), lane.position, lane.stopped)
        if self._gone:
            changes.delete("progress", (self.hook_id,))
        elif self._progressed:
            changes.put("progress", (self.hook_id,), encode(self.progress))
            self._progressed = False

    def _collect(
        self,
        changes: Changes,
        table: str,
        item: Item,
        value: Open | Parked | None,
        stored: set[Item],
    ) -> None:
        """What came and went between two flushes never touches the disk."""
        key = (self.hook_id, *item)
        if value is not None:
            changes.put(table, key, encode(value))
            stored.add(item)
        elif item in stored:
            changes.delete(table, key)
            stored.discard(item)

    def _put(self, item: Item, value: Open) -> None:
        self.open[item] = value
        self._touched.add(item)

    def _drop(self, item: Item) -> None:
        self.open.pop(item, None)
        self._touched.add(item)

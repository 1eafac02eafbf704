"""Decides which call runs on which worker, and which worker changes hands. No clock, no processes.

Promise: a worker that ran a call of one workspace never gets one of another; at most `workers`
calls run and at most `workers + spares` workers live at once; one hook holds at most all workers
but one; calls of a workspace begin in the order of their arrival, but for hooks that hold all they
may. Workspaces take turns, so that none waits for ever while calls end. No call waits while there
are a free place and a worker for it.
"""

from collections import deque
from collections.abc import Iterator
from math import inf

import msgspec

SLICE = 0.1
"""Seconds for which a workspace with calls keeps a worker that another one waits for."""

LINGER = 0.01
"""Seconds for which it does after its last call: the next one often follows a moment later, and
waiting that long costs less than the start of a worker."""

RETRY = 1.0
"""Seconds after a failed start during which none is tried, and calls that need one are refused."""


class Ticket(msgspec.Struct, eq=False):
    """A call that waits, runs on `seat`, or was refused because no worker can be had for it."""

    workspace: str
    hook: str
    seat: "Seat | None" = None
    refused: bool = False


class Seat(msgspec.Struct, eq=False):
    """A worker. `workspace` is the one whose calls it has had, None if it is still fresh."""

    workspace: str | None = None
    since: float = 0.0  #: when the workspace got it
    used: float = 0.0  #: when its last call ended
    ticket: Ticket | None = None  #: its call


class Decision(msgspec.Struct):
    """What is to be done. At the time `wake` at the latest the next decision is due."""

    begin: list[Ticket]
    refuse: list[Ticket]
    evict: list[Seat]
    start: int = 0
    wake: float = inf


class Schedule:
    """The calls, in the order in which their workspaces take turns, and the workers.

    Say what happened, then ask for a decision and act on it. All times are from one clock.
    """

    def __init__(self, workers: int, spares: int) -> None:
        self._workers = workers
        self._most = workers + spares
        self._width = max(1, workers - 1)
        # Whoever was served last is last. A dict serves as an ordered set of tickets.
        self._queues: dict[str, dict[Ticket, None]] = {}
        self._seats: list[Seat] = []  # the most recently used last: its Lua states are the warmest
        self._wanted = 0
        self._starting = 0
        self._stalled_until = -inf

    def want(self, workers: int) -> None:
        """So many workers are to be there, even if there is no call."""
        self._wanted = max(self._wanted, workers)

    def enter(self, ticket: Ticket) -> None:
        """A call arrives."""
        self._wanted = self._most
        self._queues.setdefault(ticket.workspace, {})[ticket] = None

    def leave(self, ticket: Ticket, now: float) -> None:
        """A call ends, waiting or running."""
        seat = ticket.seat
        if seat is None:
            self._unqueue(ticket)
            return
        ticket.seat = seat.ticket = None
        seat.used = now
        self._seats.remove(seat)
        self._seats.append(seat)

    def started(self) -> Seat:
        """A worker is ready."""
        self._starting -= 1
        self._stalled_until = -inf
        seat = Seat()
        self._seats.insert(0, seat)
        return seat

    def not_started(self, now: float) -> None:
        """A worker could not be started."""
        self._starting -= 1
        self._stalled_until = now + RETRY

    def lost(self, seat: Seat) -> None:
        """A worker is gone. If it had a call, that one is the next of its workspace again."""
        self._seats.remove(seat)
        ticket = seat.ticket
        if ticket is not None:
            ticket.seat = None
            queue = {ticket: None, **self._queues.pop(ticket.workspace, {})}
            self._queues = {ticket.workspace: queue, **self._queues}

    def decide(self, now: float) -> Decision:
        """What to do now. Assumes that it is done: calls have begun, evicted workers are gone."""
        decision = Decision([], [], [])
        stalled = now < self._stalled_until
        needed = 0
        turns = deque(self._queues if stalled else self._candidates())
        while turns:
            workspace = turns.popleft()
            if self._begin(workspace, now, decision):
                turns.append(workspace)
            elif self._needs_worker(workspace):
                needed += 1
                if stalled:
                    self._refuse(workspace, decision)
                elif needed > self._most - len(self._seats):
                    self._make_room(workspace, now, decision)
        if not stalled:
            decision.start = self._starts(needed)
            self._starting += decision.start
        return decision

    def _candidates(self) -> Iterator[str]:
        """The workspaces that a decision may concern: those with a worker, and the next without."""
        holders = {seat.workspace for seat in self._seats}
        others = 0
        for workspace in self._queues:
            others += workspace not in holders
            if workspace in holders or others <= self._most:
                yield workspace

    def _begin(self, workspace: str, now: float, decision: Decision) -> bool:
        """Begin a call of the workspace, if there is one that may and a worker for it."""
        ticket = self._next(workspace)
        if ticket is None or self._running() >= self._workers:
            return False
        seat = self._free_seat(workspace)
        if seat is None:
            return False
        if seat.workspace is None:
            seat.workspace, seat.since = workspace, now
        seat.ticket, ticket.seat = ticket, seat
        self._unqueue(ticket)
        if workspace in self._queues:
            self._queues[workspace] = self._queues.pop(workspace)
        decision.begin.append(ticket)
        return True

    def _needs_worker(self, workspace: str) -> bool:
        """Whether one more worker would help the workspace, or will when its turn comes."""
        return (
            self._next(workspace) is not None
            and self._free_seat(workspace) is None
            and (self._running() < self._workers or self._held(workspace) == 0)
        )

    def _refuse(self, workspace: str, decision: Decision) -> None:
        if self._held(workspace) == 0 and not self._starting:
            for ticket in self._queues.pop(workspace):
                ticket.refused = True
                decision.refuse.append(ticket)

    def _make_room(self, workspace: str, now: float, decision: Decision) -> None:
        """Evict the worker that is missed least, or see to it that this is tried again in time."""
        mine = self._place(workspace)
        idle = [s for s in self._seats if s.ticket is None and s.workspace != workspace]
        # First whoever has no calls, then whoever would be served last. Whoever is served before
        # this workspace would only need a worker again at once.
        places = sorted(((self._place(seat.workspace), seat) for seat in idle), key=_last_first)
        for place, seat in places:
            if place < mine:
                return
            kept_until = self._kept_until(seat, workspace, waits=place != inf)
            if kept_until <= now:
                self._seats.remove(seat)
                decision.evict.append(seat)
                return
            decision.wake = min(decision.wake, kept_until)

    def _place(self, workspace: str | None) -> float:
        """When it is its turn, from 0; infinity if it has no call that may begin."""
        if workspace is None or self._next(workspace) is None:
            return inf
        return list(self._queues).index(workspace)

    def _kept_until(self, seat: Seat, other: str, *, waits: bool) -> float:
        """When another workspace may have this worker, which has no call now."""
        slice_ends = seat.since + SLICE
        if not waits:
            return min(slice_ends, seat.used + LINGER)
        held = self._held(other)
        # Between workspaces that both have calls, a worker only moves towards equal shares.
        return slice_ends if held == 0 or self._held(seat.workspace) > held + 1 else inf

    def _starts(self, needed: int) -> int:
        """As many as calls need at once, and else one after the other: a start takes a core."""
        room = self._wanted - len(self._seats) - self._starting
        return max(0, min(room, max(needed, 1) - self._starting))

    def _next(self, workspace: str) -> Ticket | None:
        """The first call of the workspace whose hook may have one more."""
        running = [s.ticket.hook for s in self._seats if s.ticket and s.workspace == workspace]
        for ticket in self._queues.get(workspace, ()):
            if running.count(ticket.hook) < self._width:
                return ticket
        return None

    def _free_seat(self, workspace: str) -> Seat | None:
        """The workspace's own worker that is free, or else a fresh one."""
        for wanted in (workspace, None):
            for seat in reversed(self._seats):
                if seat.ticket is None and seat.workspace == wanted:
                    return seat
        return None

    def _held(self, workspace: str | None) -> int:
        return sum(seat.workspace == workspace for seat in self._seats)

    def _running(self) -> int:
        return sum(seat.ticket is not None for seat in self._seats)

    def _unqueue(self, ticket: Ticket) -> None:
        queue = self._queues.get(ticket.workspace, {})
        queue.pop(ticket, None)
        if not queue:
            self._queues.pop(ticket.workspace, None)


def _last_first(placed: tuple[float, Seat]) -> float:
    return -placed[0]

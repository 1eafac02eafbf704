"""Which call runs on which worker: random histories, rules one by one, and simulated tenants."""

import heapq
from collections import Counter
from collections.abc import Callable
from functools import partial
from math import inf

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from delivery.jail.schedule import LINGER, RETRY, SLICE, Decision, Schedule, Seat, Ticket

START = 0.05
"""Seconds that the start of a worker takes in simulations."""


def stocked(workers: int = 2, spares: int = 1) -> Schedule:
    """A schedule whose workers have all been started, still fresh."""
    schedule = Schedule(workers, spares)
    schedule.want(workers + spares)
    for _ in range(workers + spares):
        assert schedule.decide(0).start == 1
        schedule.started()
    return schedule


def arrive(schedule: Schedule, *tickets: Ticket) -> None:
    for ticket in tickets:
        schedule.enter(ticket)


def serve(schedule: Schedule, ticket: Ticket, now: float) -> Seat:
    """Run a call from its arrival to its end, all at one moment; the worker that had it."""
    schedule.enter(ticket)
    assert schedule.decide(now).begin == [ticket]
    seat = ticket.seat
    assert seat is not None
    schedule.leave(ticket, now)
    return seat


def test_nothing_is_started_before_it_is_wanted() -> None:
    """A service without functions has no workers; the first call gets one, the rest follow."""
    schedule = Schedule(2, 1)
    before = schedule.decide(0).start
    schedule.enter(Ticket("a", "h"))
    starts = [schedule.decide(0).start]
    for _ in range(3):
        schedule.started()
        starts.append(schedule.decide(0).start)

    assert before == 0
    assert starts == [1, 1, 1, 0]


def test_workspaces_that_wait_have_their_workers_started_at_once() -> None:
    """Only the stock grows one by one."""
    schedule = Schedule(3, 1)
    arrive(schedule, *[Ticket(workspace, "h") for workspace in "abc"])

    assert schedule.decide(0).start == 3


def test_a_probe_starts_one_worker_only() -> None:
    """Looking at the system does not cost the memory of a whole pool."""
    schedule = Schedule(2, 1)
    schedule.want(1)
    first = schedule.decide(0).start
    schedule.started()

    assert (first, schedule.decide(0).start) == (1, 0)


def test_a_workspace_meets_its_own_warm_worker_again() -> None:
    """The most recently used one, although there are fresh ones."""
    schedule = stocked()
    seats = [serve(schedule, Ticket("a", "h"), now) for now in range(5)]

    assert len(set(map(id, seats))) == 1


def test_another_workspace_gets_a_fresh_worker() -> None:
    """Nobody is evicted as long as there is one."""
    schedule = stocked()
    seats = [serve(schedule, Ticket(workspace, "h"), 0) for workspace in "abcabc"]

    assert [seat.workspace for seat in seats] == list("abcabc")
    assert len(set(map(id, seats))) == 3


def test_the_worker_idle_for_longest_is_evicted() -> None:
    """Without a fresh worker, the one least recently used makes room."""
    schedule = stocked()
    for now, workspace in enumerate("abca"):
        serve(schedule, Ticket(workspace, "h"), now)
    arrive(schedule, Ticket("d", "h"))
    decision = schedule.decide(10)

    assert [seat.workspace for seat in decision.evict] == ["b"]
    assert (decision.begin, decision.start) == ([], 1)


def test_an_empty_queue_hands_over_after_a_moment() -> None:
    """A tenant that asks again and again keeps its worker between two calls."""
    schedule = stocked(1, 0)
    serve(schedule, Ticket("a", "h"), 1)
    arrive(schedule, Ticket("b", "h"))
    early = schedule.decide(1 + LINGER / 2)
    due = schedule.decide(early.wake)

    assert (early.evict, early.wake) == ([], 1 + LINGER)
    assert [seat.workspace for seat in due.evict] == ["a"]


def test_a_busy_workspace_keeps_its_worker_for_a_slice() -> None:
    """While its calls wait, it is served until its time is over, and then the other one is."""
    schedule = stocked(1, 0)
    calls = [Ticket("a", "h") for _ in range(5)]
    arrive(schedule, *calls, Ticket("b", "h"))
    served: list[Ticket] = []
    evicted: list[str | None] = []
    for step in range(4):
        now = step * SLICE / 3
        decision = schedule.decide(now)
        served += decision.begin
        evicted += [seat.workspace for seat in decision.evict]
        for ticket in decision.begin:
            schedule.leave(ticket, now)
    schedule.started()

    assert (served, evicted) == (calls[:3], ["a"])
    assert [ticket.workspace for ticket in schedule.decide(1).begin] == ["b"]


def test_workers_move_towards_equal_shares() -> None:
    """A tenant that holds all of them while another one waits gives away one."""
    schedule = stocked(2, 0)
    arrive(schedule, *[Ticket("a", str(hook)) for hook in range(9)])
    running = schedule.decide(0).begin
    arrive(schedule, Ticket("b", "h"))
    schedule.leave(running[0], SLICE)
    once_more = schedule.decide(SLICE)
    schedule.leave(running[1], SLICE)
    decision = schedule.decide(SLICE)
    schedule.started()

    assert [ticket.workspace for ticket in once_more.begin] == ["a"]
    assert [seat.workspace for seat in decision.evict] == ["a"]
    assert [ticket.workspace for ticket in schedule.decide(SLICE).begin] == ["b"]


def test_tenants_with_equal_shares_leave_each_other_alone() -> None:
    """For ever, although both have more calls waiting and one has not been served for long."""
    schedule = stocked(2, 0)
    arrive(schedule, Ticket("b", "long"), *[Ticket("a", str(hook)) for hook in range(20)])
    running = schedule.decide(0).begin
    arrive(schedule, *[Ticket("b", str(hook)) for hook in range(20)])
    for step in range(1, 10):
        schedule.leave(running.pop(), step * SLICE)
        decision = schedule.decide(step * SLICE)
        running += decision.begin

        assert [ticket.workspace for ticket in running] == ["b", "a"]
        assert (decision.evict, decision.start) == ([], 0)


def test_no_more_calls_run_than_there_are_places() -> None:
    """Spares are for after a kill, not for more calls at once."""
    schedule = stocked(2, 2)
    arrive(schedule, *[Ticket(workspace, "h") for workspace in "abcd"])
    first = schedule.decide(0).begin
    schedule.leave(first[0], 0)
    second = schedule.decide(0).begin

    assert [ticket.workspace for ticket in (*first, *second)] == ["a", "b", "c"]


def test_one_hook_leaves_a_place_to_others() -> None:
    """Those behind it are served before its own next call."""
    schedule = stocked(3, 0)
    hostile = [Ticket("a", "hostile") for _ in range(5)]
    kind = Ticket("a", "kind")
    arrive(schedule, *hostile, kind)

    assert schedule.decide(0).begin == [*hostile[:2], kind]


def test_of_a_workspaces_workers_the_last_one_used_is_the_next() -> None:
    """Its states are the warmest, and the other one can be evicted."""
    schedule = stocked(2, 0)
    one, other = Ticket("a", "one"), Ticket("a", "other")
    arrive(schedule, one, other)
    schedule.decide(0)
    last = other.seat
    schedule.leave(one, 1)
    schedule.leave(other, 2)

    assert serve(schedule, Ticket("a", "one"), 3) is last


def test_whoever_has_no_calls_is_evicted_before_whoever_has() -> None:
    """Even if it used its worker last."""
    schedule = stocked(1, 2)
    for now, workspace in enumerate("abc"):
        serve(schedule, Ticket(workspace, "h"), now)
    arrive(schedule, *[Ticket(workspace, "h") for workspace in "bad"])
    decision = schedule.decide(10)

    assert [ticket.workspace for ticket in decision.begin] == ["b"]
    assert [seat.workspace for seat in decision.evict] == ["c"]


def test_among_those_with_calls_the_last_to_be_served_gives_way() -> None:
    """Evicting anybody who is served before would only move the need for a worker."""
    schedule = stocked(1, 2)
    for now, workspace in enumerate("abc"):
        serve(schedule, Ticket(workspace, "h"), now)
    arrive(schedule, Ticket("a", "h"))
    schedule.decide(10)
    arrive(schedule, *[Ticket(workspace, "h") for workspace in "bdc"])
    first = schedule.decide(10)
    again = schedule.decide(10)

    assert [seat.workspace for seat in first.evict] == ["c"]
    assert (first.start, again.evict, again.start) == (1, [], 0)


def test_a_worker_is_made_ready_while_all_places_are_taken() -> None:
    """A workspace without one does not wait for a place first and for a start then."""
    schedule = stocked(1, 1)
    serve(schedule, Ticket("b", "h"), 0)
    arrive(schedule, Ticket("a", "h"))
    schedule.decide(1)
    arrive(schedule, Ticket("c", "h"))
    decision = schedule.decide(1)

    assert [seat.workspace for seat in decision.evict] == ["b"]
    assert decision.start == 1


def test_nobody_is_evicted_while_a_worker_starts_for_the_call() -> None:
    """The place that is free is taken first."""
    schedule = Schedule(1, 1)
    schedule.want(2)
    schedule.decide(0)
    schedule.started()
    serve(schedule, Ticket("a", "h"), 0)
    arrive(schedule, Ticket("b", "h"))

    assert schedule.decide(1).evict == []


def test_a_failed_start_refuses_whoever_needs_one() -> None:
    """Calls are not left waiting for a worker that cannot be had, and starts are not tried on."""
    schedule = Schedule(1, 1)
    early, late, later = (Ticket(name, "h") for name in ("early", "late", "later"))
    schedule.enter(early)
    schedule.decide(0)
    schedule.not_started(1)
    first = schedule.decide(1)
    schedule.enter(late)
    second = schedule.decide(1 + RETRY / 2)
    schedule.enter(later)
    third = schedule.decide(1 + RETRY)

    assert [first.refuse, second.refuse, third.refuse] == [[early], [late], []]
    assert [first.start, second.start, third.start] == [0, 0, 1]


def test_a_failed_start_leaves_those_alone_who_have_a_worker() -> None:
    """The stock may be short while a workspace goes on."""
    schedule = Schedule(2, 0)
    first, second = Ticket("a", "one"), Ticket("a", "two")
    arrive(schedule, first, second)
    schedule.decide(0)
    schedule.started()
    schedule.decide(0)
    schedule.not_started(0)
    waiting = schedule.decide(0)
    schedule.leave(first, 0)

    assert waiting.refuse == []
    assert schedule.decide(0).begin == [second]


def test_one_of_two_starts_may_fail() -> None:
    """Both calls wait for the other one."""
    schedule = Schedule(2, 0)
    first, second = Ticket("a", "h"), Ticket("b", "h")
    arrive(schedule, first, second)
    starts = schedule.decide(0).start
    schedule.not_started(0)
    refused = schedule.decide(0).refuse
    schedule.started()

    assert (starts, refused) == (2, [])
    assert schedule.decide(0).begin == [first]


def test_a_call_whose_worker_is_lost_is_the_next_one() -> None:
    """It goes before those that came later."""
    schedule = stocked(1, 1)
    first, second = Ticket("a", "h"), Ticket("a", "h")
    arrive(schedule, first, second)
    schedule.decide(0)
    assert first.seat is not None
    schedule.lost(first.seat)

    assert schedule.decide(0).begin == [first]


MOSTLY = st.sampled_from([True, True, True, False])


class Histories(RuleBasedStateMachine):
    """Anything may happen in any order; the promises hold after each decision."""

    @initialize(workers=st.integers(1, 4), spares=st.integers(0, 2))
    def open(self, workers: int, spares: int) -> None:
        """A pool of any size."""
        self.workers, self.most = workers, workers + spares
        self.width = max(1, workers - 1)
        self.schedule = Schedule(workers, spares)
        self.now = 0.0
        self.stalled_until = -inf
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []
        self.seats: dict[Seat, str | None] = {}  # and whose calls they have had
        self.starting = 0
        self.last = Decision([], [], [])

    @rule(workspace=st.sampled_from("abcd"), hook=st.sampled_from("xyz"))
    def a_call_arrives(self, workspace: str, hook: str) -> None:
        """Of any hook of any workspace."""
        ticket = Ticket(workspace, hook)
        self.waiting.append(ticket)
        self.schedule.enter(ticket)
        self.decide()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), survives=MOSTLY)
    def a_call_ends(self, data: st.DataObject, survives: bool) -> None:
        """Well, or with its worker."""
        ticket = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        seat = ticket.seat
        assert seat is not None
        self.schedule.leave(ticket, self.now)
        if not survives:
            self.lose(seat)
        self.decide()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_call_is_given_up(self, data: st.DataObject) -> None:
        """Before its turn came."""
        ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.schedule.leave(ticket, self.now)
        self.decide()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_worker_turns_out_to_be_dead(self, data: st.DataObject) -> None:
        """Just when a call was to be sent to it."""
        ticket = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        assert ticket.seat is not None
        self.lose(ticket.seat)
        self.waiting.insert(0, ticket)
        self.decide()

    @precondition(lambda self: self.starting)
    @rule(well=MOSTLY)
    def a_start_ends(self, well: bool) -> None:
        """With a worker or without."""
        self.starting -= 1
        if well:
            self.seats[self.schedule.started()] = None
            self.stalled_until = -inf
        else:
            self.schedule.not_started(self.now)
            self.stalled_until = self.now + RETRY
        self.decide()

    @rule(seconds=st.sampled_from([LINGER / 2, LINGER, SLICE / 2, SLICE, RETRY]))
    def time_passes(self, seconds: float) -> None:
        """In steps around those that matter."""
        self.now += seconds
        self.decide()

    def lose(self, seat: Seat) -> None:
        self.schedule.lost(seat)
        del self.seats[seat]

    def decide(self) -> None:
        self.last = self.schedule.decide(self.now)
        for seat in self.last.evict:
            assert seat.ticket is None
            assert self.seats.pop(seat) is not None, "a fresh worker is never evicted"
        for ticket in self.last.refuse:
            assert self.now < self.stalled_until
            assert ticket.refused
            self.waiting.remove(ticket)
        for ticket in self.last.begin:
            self.begin(ticket)
        self.starting += self.last.start

    def begin(self, ticket: Ticket) -> None:
        first = next(t for t in self.waiting if t.workspace == ticket.workspace and self.may(t))
        assert ticket is first, "calls of a workspace begin in order"
        assert ticket.seat is not None
        assert self.seats[ticket.seat] in (None, ticket.workspace), "a worker changed hands alive"
        assert all(other.seat is not ticket.seat for other in self.running)
        self.seats[ticket.seat] = ticket.workspace
        self.waiting.remove(ticket)
        self.running.append(ticket)

    def may(self, ticket: Ticket) -> bool:
        """Whether the hook does not hold all it may."""
        held = Counter((t.workspace, t.hook) for t in self.running)
        return held[ticket.workspace, ticket.hook] < self.width

    @invariant()
    def limits_hold(self) -> None:
        """On calls at once, on processes, on what one hook holds."""
        held = Counter((ticket.workspace, ticket.hook) for ticket in self.running)

        assert len(self.running) <= self.workers
        assert len(self.seats) + self.starting <= self.most
        assert all(count <= self.width for count in held.values())

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Whoever waits with a place free has a worker already, or waits for a start or a time."""
        free = [seat for seat in self.seats if seat.ticket is None]
        for ticket in self.waiting:
            if len(self.running) == self.workers or not self.may(ticket):
                continue
            usable = [s for s in free if self.seats[s] in (None, ticket.workspace)]
            assert not usable, "there was a worker for it"
            mine = [whose for whose in self.seats.values() if whose == ticket.workspace]
            assert self.starting or mine or self.now < self.last.wake < inf

    @invariant()
    def nobody_waits_for_a_time_that_has_passed(self) -> None:
        """Deciding again at once changes nothing."""
        again = self.schedule.decide(self.now)

        assert (again.begin, again.refuse, again.evict, again.start) == ([], [], [], 0)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


class Tenant:
    """Asks again as soon as it is answered, with so many calls at once. Notes its waits."""

    def __init__(self, workspace: str, at_once: int, seconds: float) -> None:
        self.workspace = workspace
        self.at_once = at_once
        self.seconds = seconds
        self.waits: list[float] = []


class Simulation:
    """Tenants on a pool, without processes: what happens when is kept in one heap."""

    def __init__(self, workers: int, spares: int, tenants: list[Tenant]) -> None:
        self.schedule = Schedule(workers, spares)
        self.now = 0.0
        self.evicted = 0
        self.entered: dict[Ticket, tuple[Tenant, float]] = {}
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        for tenant in tenants:
            for number in range(tenant.at_once):
                self.ask(tenant, str(number))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.act()
        while self._events[0][0] <= seconds:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
            self.act()

    def ask(self, tenant: Tenant, hook: str) -> None:
        ticket = Ticket(tenant.workspace, hook)
        self.entered[ticket] = (tenant, self.now)
        self.schedule.enter(ticket)

    def answer(self, ticket: Ticket) -> None:
        tenant, _ = self.entered.pop(ticket)
        self.schedule.leave(ticket, self.now)
        self.at(self.now + 1e-4, partial(self.ask, tenant, ticket.hook))

    def act(self) -> None:
        decision = self.schedule.decide(self.now)
        self.evicted += len(decision.evict)
        for ticket in decision.begin:
            tenant, since = self.entered[ticket]
            tenant.waits.append(self.now - since)
            self.at(self.now + tenant.seconds, partial(self.answer, ticket))
        for _ in range(decision.start):
            self.at(self.now + START, self.schedule.started)
        if decision.wake != inf:
            self.at(decision.wake, lambda: None)

    def at(self, when: float, happen: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("spares", [0, 1])
def test_two_busy_tenants_do_not_cost_a_start_per_call(at_once: int, spares: int) -> None:
    """On one worker they change hands by the clock, whether their queues run empty or not."""
    tenants = [Tenant(workspace, at_once, 0.001) for workspace in "ab"]
    simulation = Simulation(1, spares, tenants)
    simulation.run(5)

    assert simulation.evicted <= 5 / SLICE
    assert min(len(tenant.waits) for tenant in tenants) > 1000


@settings(max_examples=30, deadline=None)
@given(
    workers=st.integers(1, 3),
    spares=st.integers(0, 1),
    loads=st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([1e-3, 0.01, 0.3])), min_size=2, max_size=8
    ),
)
def test_nobody_starves(workers: int, spares: int, loads: list[tuple[int, float]]) -> None:
    """However greedy the others are, each call waits no longer than one turn of everybody."""
    tenants = [Tenant(str(number), *load) for number, load in enumerate(loads)]
    longest = max(tenant.seconds for tenant in tenants)
    turn = len(tenants) * (SLICE + LINGER + START + longest)
    simulation = Simulation(workers, spares, tenants)
    simulation.run(3)
    under_way = [simulation.now - since for _, since in simulation.entered.values()]

    for tenant in tenants:
        assert max(tenant.waits) <= 2 * turn * tenant.at_once
    assert max(under_way) <= 2 * turn * max(tenant.at_once for tenant in tenants) + longest

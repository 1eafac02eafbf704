"""Places for attempts: bounded, fair, and nobody is forgotten in the queue."""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis.strategies import DataObject, data as any_data, integers, sampled_from

from delivery.admission import Admission, Limits, Place, Window
from tests.delivery.world import until

LIMITS = Limits(hook=4, host=3, total=4, probes=2, slow_after=0.01)


class Customer:
    """Takes a place whenever it is woken and wants one, as an outbox does."""

    def __init__(
        self, admission: Admission, *, size: int = 1, host: str | None = None, wants: int = 0
    ) -> None:
        self.admission = admission
        self.window = Window()
        self.window.size = size
        self.host = host
        self.wants = wants
        self.places: list[Place] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1
        self.ask()

    def ask(self) -> None:
        while self.wants and (place := self.admission.admit(self.window, self.host, self)):
            self.wants -= 1
            self.places.append(place)

    def leave(self, *, ok: bool | None = True) -> None:
        self.places.pop(0).release(ok=ok)
        self.wake()


async def asked() -> None:
    """Let the admission ask whoever waits."""
    for _ in range(50):
        await checkpoint()


@pytest.fixture
def admission() -> Admission:
    return Admission(LIMITS)


async def test_a_hook_starts_with_one_attempt(admission: Admission) -> None:
    """Nothing is known about its receiver yet."""
    customer = Customer(admission, wants=2)
    customer.ask()

    assert len(customer.places) == 1


async def test_success_doubles_the_window_up_to_the_limit(admission: Admission) -> None:
    """A receiver that answers well is trusted with more."""
    customer = Customer(admission)
    sizes = []
    for _ in range(4):
        customer.wants = 1
        customer.ask()
        customer.leave()
        sizes.append(customer.window.size)

    assert sizes == [2, 4, 4, 4]


async def test_failure_closes_the_window(admission: Admission) -> None:
    """A receiver that fails is probed with one attempt at a time."""
    customer = Customer(admission, size=4, wants=1)
    customer.ask()
    customer.leave(ok=False)

    assert customer.window.size == 1


async def test_a_cancelled_attempt_says_nothing(admission: Admission) -> None:
    """The window stays as it is."""
    customer = Customer(admission, size=4, wants=1)
    customer.ask()
    customer.leave(ok=None)

    assert (customer.window.size, customer.window.running) == (4, 0)


async def test_unproven_hooks_leave_the_healthy_pool_alone(admission: Admission) -> None:
    """However many probes hang, a healthy hook finds a place."""
    for _ in range(10):
        Customer(admission, wants=1).ask()
    healthy = Customer(admission, size=2, wants=1)
    healthy.ask()

    assert len(healthy.places) == 1


async def test_probes_are_bounded(admission: Admission) -> None:
    """Every one of them may be a socket that never answers."""
    customers = [Customer(admission, wants=1) for _ in range(10)]
    for customer in customers:
        customer.ask()

    assert sum(len(customer.places) for customer in customers) == LIMITS.probes


async def test_hooks_share_their_host(admission: Admission) -> None:
    """A host gets no more than its share, whichever pool the attempts come from."""
    customers = [Customer(admission, size=size, host="a", wants=2) for size in (2, 2, 1)]
    for customer in customers:
        customer.ask()
    elsewhere = Customer(admission, size=2, host="b", wants=1)
    elsewhere.ask()

    assert sum(len(customer.places) for customer in customers) == LIMITS.host
    assert len(elsewhere.places) == 1


async def test_a_slow_attempt_gives_its_healthy_place_back(admission: Admission) -> None:
    """Hooks that hang hold the healthy ones up for `slow_after` at most."""
    slow = Customer(admission, size=4, wants=4)
    slow.ask()
    waiting = Customer(admission, size=2, wants=2)
    waiting.ask()

    assert not waiting.places
    await until(lambda: len(waiting.places) == 2)
    assert slow.window.size == 1
    for _ in range(4):
        slow.leave()
    for _ in range(2):
        waiting.leave()
    await asked()
    fresh = [Customer(admission, size=4, wants=4), Customer(admission), Customer(admission)]
    for customer in fresh[1:]:
        customer.wants = 1
    for customer in fresh:
        customer.ask()
    assert [len(customer.places) for customer in fresh] == [4, 1, 1], "every place came back"


async def test_places_are_given_in_turn(admission: Admission) -> None:
    """Who was refused first is asked first, and nobody who comes later gets ahead."""
    holder = Customer(admission, size=4, wants=4)
    holder.ask()
    waiting = [Customer(admission, size=2, wants=1) for _ in range(3)]
    for customer in waiting:
        customer.ask()
    order = []
    for _ in range(3):
        holder.wants = 1  # it would take its own place again at once
        holder.leave()
        await asked()
        order.append([len(customer.places) for customer in waiting])

    assert order == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


async def test_who_does_not_want_its_place_any_more_passes_it_on(admission: Admission) -> None:
    """A wake-up is not lost on a hook that was paused or deleted meanwhile."""
    holder = Customer(admission, size=4, wants=4)
    holder.ask()
    gave_up, patient = (Customer(admission, size=2, wants=1) for _ in range(2))
    gave_up.ask()
    patient.ask()
    gave_up.wants = 0
    holder.leave()
    await asked()

    assert len(patient.places) == 1


async def test_who_lacks_something_else_passes_it_on(admission: Admission) -> None:
    """A free place goes to a hook that can use it, not to one whose host is full."""
    holder = Customer(admission, size=4, wants=1)
    crowd = Customer(admission, size=4, host="full", wants=3)
    for customer in (holder, crowd):
        customer.ask()
    blocked = Customer(admission, size=2, host="full", wants=1)
    free = Customer(admission, size=2, host="free", wants=1)
    blocked.ask()
    free.ask()
    holder.leave()
    await asked()

    assert (len(blocked.places), len(free.places)) == (0, 1)
    crowd.leave()
    await asked()
    assert len(blocked.places) == 1


async def test_a_waiter_waits_once(admission: Admission) -> None:
    """Asking again and again makes no longer queue."""
    holder = Customer(admission, size=4, wants=4)
    holder.ask()
    waiting = Customer(admission, size=4, wants=1)
    for _ in range(1000):
        waiting.ask()
    holder.leave()
    await asked()

    assert waiting.woken == 1


async def test_a_flush_wakes_those_who_wait_for_it(admission: Admission) -> None:
    """All of them, once."""
    waiting = [Customer(admission) for _ in range(3)]
    for customer in waiting:
        admission.wait_for_flush(customer)
        admission.wait_for_flush(customer)
    admission.flushed()
    admission.flushed()

    assert [customer.woken for customer in waiting] == [1, 1, 1]


class Crowd:
    """Customers who do as hypothesis pleases."""

    def __init__(self, choices: DataObject) -> None:
        self.choices = choices
        admission, hosts = Admission(LIMITS), sampled_from([None, "a", "b"])
        self.customers = [
            Customer(admission, size=choices.draw(integers(1, 3)), host=choices.draw(hosts))
            for _ in range(6)
        ]

    async def step(self) -> None:
        customer = self.choices.draw(sampled_from(self.customers))
        match self.choices.draw(integers(0, 3)):
            case 0:
                customer.wants += 1
                customer.ask()
            case 1 if customer.places:
                customer.leave(ok=self.choices.draw(sampled_from([True, False, None])))
            case 2:
                customer.wants = 0
            case _:
                await asked()

    async def story(self) -> None:
        for _ in range(self.choices.draw(integers(0, 40))):
            await self.step()
        await asked()
        for customer in self.customers:
            before = len(customer.places)
            customer.ask()
            assert len(customer.places) == before, "somebody had to ask twice"
        for place in [place for customer in self.customers for place in customer.places]:
            place.release(ok=None)


@settings(max_examples=60, deadline=None)
@given(any_data())
def test_nobody_waits_for_nothing(choices: DataObject) -> None:
    """Whatever happens, a free place and somebody who could use it never wait for each other."""
    anyio.run(lambda: Crowd(choices).story())

"""Who may start an attempt now? So that a slow, dead or hostile receiver harms only its own hook.

A hook starts with one attempt at a time. Each success doubles its window, each failure closes it to
one again. A hook whose last attempt succeeded takes its place from the healthy pool; all others
probe, one at a time, from a pool of their own. An attempt that lasts longer than `slow_after`
gives its place in the healthy pool back and turns its hook into a probing one, so hooks that hang
hold the healthy ones up for that long at most.
"""

import asyncio
from collections import Counter, defaultdict
from typing import Protocol

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """How many attempts may run at once; `probes` bounds sockets held by unproven receivers.

    `slow_after`: seconds after which an attempt no longer counts against the healthy pool.
    """

    hook: int = 32
    host: int = 64
    total: int = 256
    probes: int = 1024
    slow_after: float = 1.0


class Window:
    """How much one hook is trusted with: `size` attempts at once, `running` of them taken."""

    __slots__ = ("running", "size")

    def __init__(self) -> None:
        self.size = 1
        self.running = 0

    def succeeded(self, limit: int) -> None:
        self.size = min(self.size * 2, limit)

    def failed(self) -> None:
        self.size = 1


class Waiter(Protocol):
    """Whoever was refused a place and wants to be told when to ask again."""

    def wake(self) -> None: ...


class Place:
    """An admitted attempt. Given back exactly once, by `release`."""

    __slots__ = ("_admission", "_host", "_timer", "_window", "healthy")

    def __init__(
        self, admission: "Admission", window: Window, host: str | None, *, healthy: bool
    ) -> None:
        self._admission = admission
        self._window = window
        self._host = host
        self._timer: asyncio.TimerHandle | None = None
        self.healthy = healthy
        if healthy:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(admission.limits.slow_after, self._turn_slow)

    def release(self, *, ok: bool | None) -> None:
        """Give the place back; `ok` None says nothing about the receiver (cancelled)."""
        if self._timer is not None:
            self._timer.cancel()
        if ok:
            self._window.succeeded(self._admission.limits.hook)
        elif ok is not None:
            self._window.failed()
        self._window.running -= 1
        self._admission._leave(self._host, healthy=self.healthy)

    def _turn_slow(self) -> None:
        self.healthy = False
        self._window.failed()
        self._admission._turn_slow()


_Queue = dict[Waiter, None]
"""Waiters in the order in which they were refused, each once."""


class Admission:
    """Counts the places, and asks those who wait, in turn, for as long as there are free ones.

    A free place is not kept for the one who is asked: it may not want it any more, or lack
    something else. So after it the next one is asked. Who comes anew has to wait behind the others.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._taken = {True: 0, False: 0}  # by whether the hook is healthy
        self._hosts: Counter[str] = Counter()
        self._pool_queues: dict[bool, _Queue] = {True: {}, False: {}}
        self._host_queues: defaultdict[str, _Queue] = defaultdict(dict)
        self._flush_queue: _Queue = {}
        self._asked: set[Waiter] = set()
        self._asking = False

    def admit(self, window: Window, host: str | None, waiter: Waiter) -> Place | None:
        """A place, or None and `waiter` is woken once asking again may help.

        A hook at its own window's limit is not queued: the end of its own attempt wakes it.
        """
        if window.running >= window.size:
            return None
        healthy = window.size > 1
        pool = self._pool_queues[healthy]
        if self._must_wait(waiter, pool, self._pool_room(healthy)):
            pool[waiter] = None
            return None
        if host is not None:
            if self._must_wait(waiter, self._host_queues.get(host), self._host_room(host)):
                self._host_queues[host][waiter] = None
                return None
            self._hosts[host] += 1
        self._asked.discard(waiter)
        self._taken[healthy] += 1
        window.running += 1
        return Place(self, window, host, healthy=healthy)

    def wait_for_flush(self, waiter: Waiter) -> None:
        """Queue somebody who is held up by what is not on disk yet."""
        self._flush_queue[waiter] = None

    def flushed(self) -> None:
        """Let those ask again who waited for the disk."""
        waiting, self._flush_queue = self._flush_queue, {}
        for waiter in waiting:
            waiter.wake()

    def _must_wait(self, waiter: Waiter, queue: _Queue | None, room: int) -> bool:
        return room <= 0 or (bool(queue) and waiter not in self._asked)

    def _pool_room(self, healthy: bool) -> int:
        return (self.limits.total if healthy else self.limits.probes) - self._taken[healthy]

    def _host_room(self, host: str) -> int:
        return self.limits.host - self._hosts[host]

    def _leave(self, host: str | None, *, healthy: bool) -> None:
        self._taken[healthy] -= 1
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
        self._ask_soon()

    def _turn_slow(self) -> None:
        self._taken[True] -= 1
        self._taken[False] += 1
        self._ask_soon()

    def _ask_soon(self) -> None:
        if not self._asking and (any(self._pool_queues.values()) or self._host_queues):
            self._asking = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        """Wake as many as there are places; they ask in this turn of the loop or in the next."""
        asked: list[Waiter] = []
        for healthy, queue in self._pool_queues.items():
            asked += _first(queue, self._pool_room(healthy))
        for host, queue in list(self._host_queues.items()):
            asked += _first(queue, self._host_room(host))
            if not queue:
                del self._host_queues[host]
        self._asked = set(asked)
        for waiter in asked:
            waiter.wake()
        self._asking = False
        if asked:
            self._ask_soon()


def _first(queue: _Queue, count: int) -> list[Waiter]:
    waiters = list(queue)[: max(count, 0)]
    for waiter in waiters:
        del queue[waiter]
    return waiters

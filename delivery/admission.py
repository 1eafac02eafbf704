"""Who may start an attempt now? So that a slow, dead or hostile receiver harms only its own hook.

A hook starts with one attempt at a time. Each success doubles its window, each failure closes it to
one again. A hook whose last attempt succeeded takes its place from the healthy pool; all others
probe, one at a time, from a pool of their own. An attempt that lasts longer than `SLOW_AFTER`
gives its place in the healthy pool back and turns its hook into a probing one, so hooks that hang
hold the healthy ones up for that long at most.
"""

import asyncio
from collections import Counter, deque
from typing import Protocol

import msgspec

SLOW_AFTER = 1.0
"""Seconds after which an attempt no longer counts against the healthy pool."""


class Limits(msgspec.Struct, frozen=True):
    """How many attempts may run at once; `probes` bounds sockets held by unproven receivers."""

    hook: int = 32
    host: int = 64
    total: int = 256
    probes: int = 1024


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
        self.healthy = healthy
        self._timer = (
            asyncio.get_running_loop().call_later(SLOW_AFTER, self._turn_slow) if healthy else None
        )

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


class Admission:
    """Counts the places. Waiters are woken in the order in which they were refused."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.healthy = 0
        self.probing = 0
        self._hosts: Counter[str] = Counter()
        self._waiting: deque[Waiter] = deque()

    def admit(self, window: Window, host: str | None, waiter: Waiter) -> Place | None:
        """A place, or None and `waiter` is woken once asking again may help.

        A hook at its own window's limit is not queued: the end of its own attempt wakes it.
        """
        if window.running >= window.size:
            return None
        healthy = window.size > 1
        room = self.healthy < self.limits.total if healthy else self.probing < self.limits.probes
        if not room or (host is not None and self._hosts[host] >= self.limits.host):
            self._waiting.append(waiter)
            return None
        window.running += 1
        self.healthy += healthy
        self.probing += not healthy
        if host is not None:
            self._hosts[host] += 1
        return Place(self, window, host, healthy=healthy)

    def wait(self, waiter: Waiter) -> None:
        """Queue somebody who is held up by something else; `wake_all` tells when it is over."""
        self._waiting.append(waiter)

    def wake_all(self) -> None:
        """Let everybody ask again."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            waiter.wake()

    def _leave(self, host: str | None, *, healthy: bool) -> None:
        self.healthy -= healthy
        self.probing -= not healthy
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
        self._wake_one()

    def _turn_slow(self) -> None:
        self.healthy -= 1
        self.probing += 1
        self._wake_one()

    def _wake_one(self) -> None:
        if self._waiting:
            self._waiting.popleft().wake()

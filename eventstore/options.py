"""What can be set about a log when it is opened."""

import time
from collections.abc import Callable

import msgspec


def _wall_us() -> int:
    return time.time_ns() // 1000


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults are for a service; tests shrink the bounds and bring their own clock.

    A batch is what one COMMIT stores. An append larger than a batch's bounds is a batch of its own.
    """

    clock: Callable[[], int] = _wall_us  #: the wall clock in microseconds
    batch_events: int = 1000
    batch_bytes: int = 8 * 1024 * 1024
    queue_events: int = 20_000  #: waiting for the writer; beyond it, appends are refused
    queue_bytes: int = 64 * 1024 * 1024
    max_page_count: int | None = None  #: the largest log.db may get, in pages of 4096 bytes


DEFAULTS = LogOptions()

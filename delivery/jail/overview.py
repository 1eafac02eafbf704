"""How users' code is jailed here: said once at the start, and shown to operators who ask."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from .pool import WorkerPool
from .process import JailUnavailable

_logger = logging.getLogger("hooktape.delivery.jail")

BARRIERS: Final = ("rlimits", "namespaces", "seccomp")
"""What a full jail is made of."""


class Overview:
    """Speaks for all pools that are in use. The system is the same for each: the first is asked."""

    def __init__(self, pools: Sequence[WorkerPool]) -> None:
        self._pools = pools

    async def announce(self) -> None:
        """Start a first worker to see what the system offers, and say so in the log."""
        try:
            ready = await self._pools[0].probe()
        except JailUnavailable as problem:
            _logger.error("functions and templates with logic do not run: %s", problem)
            return
        missing = [barrier for barrier in BARRIERS if barrier not in ready.barriers]
        if missing:
            _logger.warning(
                "users' code is not fully jailed, this system offers no %s; the setting `jail` says"
                " what is enough",
                " and no ".join(missing),
            )
        else:
            _logger.info("users' code runs in a jail of %s", ", ".join(ready.barriers))

    def state(self) -> dict[str, Any]:
        """`engine` and `barriers` are null until a worker was ready; `problem` says why not."""
        pool = self._pools[0]
        ready = pool.ready
        return {
            "engine": ready and ready.engine,
            "barriers": ready and ready.barriers,
            "problem": pool.problem,
            **self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """Of all pools together: see `WorkerPool.summary`."""
        total: Counter[str] = Counter()
        for pool in self._pools:
            total.update(
                {name.removeprefix("jail_"): count for name, count in pool.summary().items()}
            )
        return dict(total)

"""Those who send events to the service, and insist."""

from random import Random
from typing import Any

import anyio
import httpx
from anyio.abc import TaskGroup

_PRODUCERS = 8
_AGAIN = 0.02
"""Seconds until a producer that was not answered tries again."""


class Producers:
    """They send single events and batches, and create consumers, one request at a time each.

    Every event has a name of its own, which is its id. What is not acknowledged is sent again, as
    it was, to wherever `url` points by then.
    """

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self._client = client
        self._seed = seed
        self._ending = False
        self.url = ""
        self.attempted: set[str] = set()
        self.positions: dict[str, int] = {}  #: acknowledged events, by name
        self.consumers: dict[str, str] = {}  #: ids of acknowledged consumers, by name
        self.batches: list[list[str]] = []

    def start(self, tasks: TaskGroup) -> None:
        for number in range(_PRODUCERS):
            tasks.start_soon(self._produce, number)

    def end(self) -> None:
        """Begin nothing new; what was begun is still brought to its end."""
        self._ending = True

    @property
    def acknowledged(self) -> int:
        return len(self.positions) + len(self.consumers)

    async def _produce(self, number: int) -> None:
        random = Random(f"{self._seed}/{number}")  # noqa: S311 - a reproducible one is wanted
        count = 0
        while not self._ending:
            size = random.choice((0, 1, 1, 1, 1, 1, 4))
            names = [f"{number}.{count + n}" for n in range(max(size, 1))]
            count += len(names)
            self.attempted.update(names)
            if size:
                await self._emit(names, random.choice("ab"))
            else:
                await self._create(names[0])

    async def _emit(self, names: list[str], event: str) -> None:
        self.batches.append(names)
        events = [
            {"source": "team", "event": event, "data": {"name": name}, "id": name} for name in names
        ]
        answer = await self._insist("/events", events)
        self.positions.update(zip(names, answer["positions"], strict=True))

    async def _create(self, name: str) -> None:
        answer = await self._insist("/consumers", {"username": name}, key=name)
        self.consumers[name] = answer["id"]

    async def _insist(self, path: str, content: object, key: str | None = None) -> Any:
        """Send until there is an answer; a 503 says to send it again. The JSON answered."""
        headers = {} if key is None else {"idempotency-key": key}
        while True:
            try:
                answer = await self._client.post(self.url + path, json=content, headers=headers)
            except httpx.TransportError:
                answer = httpx.Response(503)
            if answer.status_code != 503:
                return answer.raise_for_status().json()
            await anyio.sleep(_AGAIN)

"""What documents write, what it becomes here, and what many of their examples share."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from tests.receiver import Receiver
from tests.service import Completed

ADMIN = (
    "http://{HOSTNAME}:8001",
    "http://localhost:8001",
    "http://localhost:31001",
    "https://api.kong.lan:8444",
    "$ADMIN",
)
TARGET = (
    "{WEBHOOK_URL}",
    "https://hooks.slack.com/services/TTTTTTTTT/YYYYYYYYYYY/xxxxxxxxxxxxxxxxxx",
    "https://webhook.site/…",
    "http://<host>/admin-1created",
    "<endpoint>",
    "$SLACK",
    "$URL",
)
"""The addresses of the Admin API and of a receiver: all that is ever replaced in a line."""

VARIABLES = {"USER": "ubuntu", "WORKSPACE": "team-a"}
"""What the shell itself replaces."""

Type = Callable[[str], Awaitable[Completed]]
Curl = Callable[[str], Awaitable[Any]]


def addressed(line: str, admin: str, target: str) -> str:
    """The line with our addresses. Nothing may leave this machine."""
    for written in ADMIN:
        line = line.replace(written, admin)
    for written in TARGET:
        line = line.replace(written, target)
    if elsewhere := re.findall(r"https?://(?!127\.0\.0\.1:)\S*", line):
        raise ValueError(f"no loopback addresses: {elsewhere}")
    return line


def without_nulls(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entity.items() if value is not None}


async def arrived(receiver: Receiver, count: int) -> list[Any]:
    """The first `count` bodies at the hook's target, as JSON."""
    with anyio.fail_after(10):
        requests = await receiver.wait_for(count, "/hook")
    return [json.loads(request.body) for request in requests]


ADA = r"""
curl -i -X POST http://{HOSTNAME}:8001/consumers \
  -d username="Ada Lovelace"
"""

LOIS = r"""
curl -i -X POST http://{HOSTNAME}:8001/consumers \
  -d username="Lois Lane"
"""

LAMBDA_LUA = """\
return function (data, event, source, pid)
  local user = data.entity.username
  error("Event hook on consumer " .. user .. "")
end
"""

"""The log handler, against the samples that Kong's users published."""

import os
from typing import Any

import msgspec
import pytest

from delivery.log_handler import NOTICE, LogHandler, boxed
from delivery.outcome import Delivery, Outcome
from projections.hooks import Hook

RATE_LIMIT: dict[str, Any] = {
    "consumer": {},
    "ip": "10.42.0.1",
    "limit": 3,
    "rate": 4,
    "service": {
        "connect_timeout": 60000,
        "created_at": 1668754239,
        "enabled": True,
        "host": "httpbin.org",
        "id": "9d0bee90-04b9-4af3-993f-b10db881b144",
        "name": "demo",
        "path": "/anything",
        "port": 80,
        "protocol": "http",
        "read_timeout": 60000,
        "retries": 5,
        "tags": None,
        "updated_at": 1668754239,
        "write_timeout": 60000,
        "ws_id": "d06c2d4d-3fb1-49ae-a4c8-5806328c591d",
    },
    "window": "minute",
}

RATE_LIMIT_BOX = """\
[kong] event_hooks.lua:?:452 [core]--------------------------------------------------------------------------------------+
|"log callback: " { "rate-limit-exceeded", "rate-limiting-advanced", {                                                   |
|    consumer = {},                                                                                                      |
|    ip = "10.42.0.1",                                                                                                   |
|    limit = 3,                                                                                                          |
|    rate = 4,                                                                                                           |
|    service = {                                                                                                         |
|      connect_timeout = 60000,                                                                                          |
|      created_at = 1668754239,                                                                                          |
|      enabled = true,                                                                                                   |
|      host = "httpbin.org",                                                                                             |
|      id = "9d0bee90-04b9-4af3-993f-b10db881b144",                                                                      |
|      name = "demo",                                                                                                    |
|      path = "/anything",                                                                                               |
|      port = 80,                                                                                                        |
|      protocol = "http",                                                                                                |
|      read_timeout = 60000,                                                                                             |
|      retries = 5,                                                                                                      |
|      updated_at = 1668754239,                                                                                          |
|      write_timeout = 60000,                                                                                            |
|      ws_id = "d06c2d4d-3fb1-49ae-a4c8-5806328c591d"                                                                    |
|    },                                                                                                                  |
|    window = "minute"                                                                                                   |
|  }, 2120 }                                                                                                             |
+------------------------------------------------------------------------------------------------------------------------+"""  # noqa: E501 -- the box is that wide


def rows(*values: Any) -> list[str]:
    """The rows of a box without its frame."""
    return [row[1:-1].rstrip() for row in boxed(values).split("\n")[1:-1]]


def test_the_box_is_the_published_one() -> None:
    """The sample of the rate limit example, to the last blank."""
    assert (
        boxed(["rate-limit-exceeded", "rate-limiting-advanced", RATE_LIMIT, 2120]) == RATE_LIMIT_BOX
    )


def test_a_crud_event_reads_like_kong_s() -> None:
    """The table of the consumer example in Kong's documentation."""
    entity = {
        "username": "Elizabeth Bennet",
        "type": 0,
        "id": "4757bd6b-8d54-4b08-bf24-01e346a9323e",
        "created_at": 1627574246,
    }
    data = {"schema": "consumers", "operation": "create", "entity": entity}

    assert rows("consumers", "crud", data, 68854) == [
        '"log callback: " { "consumers", "crud", {',
        "    entity = {",
        "      created_at = 1627574246,",
        '      id = "4757bd6b-8d54-4b08-bf24-01e346a9323e",',
        "      type = 0,",
        '      username = "Elizabeth Bennet"',
        "    },",
        '    operation = "create",',
        '    schema = "consumers"',
        "  }, 68854 }",
    ]


def test_values_are_lua_literals() -> None:
    """Lists stay on a line, odd keys are bracketed, quotes and control characters escaped."""
    data = {
        "b": [],
        "a": [1, "x", True, None, 1.5],
        "content-type": 'say "hi"',
        "d": 'it\'s "both"',
        "e": "tab\there\nline\\ \x00\x1b",
        "f": [{"g": 1}, {}],
    }

    assert rows("e", "s", data, 1) == [
        '"log callback: " { "e", "s", {',
        '    a = { 1, "x", true, nil, 1.5 },',
        "    b = {},",
        '    ["content-type"] = \'say "hi"\',',
        '    d = "it\'s \\"both\\"",',
        '    e = "tab\\there\\nline\\\\ \\000\\027",',
        "    f = { {",
        "        g = 1",
        "      }, {} }",
        "  }, 1 }",
    ]


def test_long_lines_are_cut_to_the_box() -> None:
    """A line of more than 120 columns goes on in the next row, without a mark, as Kong does."""
    lines = boxed(["e", "s", {"text": "x" * 300}, 1]).split("\n")

    assert {len(line) for line in lines} == {122}
    assert "".join(line[1:-1] for line in lines[2:5]).strip() == f'text = "{"x" * 300}"'


def delivery() -> Delivery:
    hook = Hook(
        id="h",
        workspace="w",
        version=1,
        source="crud",
        event="consumers",
        handler="log",
        on_change=False,
        snooze=None,
        created_at=0,
        updated_at=0,
        config={},
    )
    return Delivery(
        id="d",
        hook=hook,
        seq=1,
        event_id="e",
        source="crud",
        event="consumers",
        data={"operation": "create", "share": "100%s"},
        time_us=0,
    )


async def test_the_record_serves_text_and_json_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Level notice, the box as its message, and the same as fields; `data` as it was emitted."""
    logged = delivery()
    with caplog.at_level(NOTICE, "hooktape.delivery.log"):
        outcome = await LogHandler()(logged)

    [record] = caplog.records
    assert outcome == Outcome(ok=True, result=True)
    assert record.levelno == NOTICE
    assert record.getMessage() == boxed(["consumers", "crud", logged.data, os.getpid()])
    assert record.__dict__["fields"] == {
        "event": "consumers",
        "source": "crud",
        "data": logged.data,
        "pid": os.getpid(),
    }


async def test_a_dry_run_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A record would be an effect."""
    outcome = await LogHandler()(msgspec.structs.replace(delivery(), dry_run=True))

    assert outcome.ok
    assert caplog.records == []

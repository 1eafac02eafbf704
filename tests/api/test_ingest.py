"""What a gateway's http-log plugin posts, over the API."""

import logging
from typing import Any

import httpx
import msgspec
import pytest

from tests.api.admin_api import OTHER_WORKSPACE, Api
from tests.api.kong_records import MINUTE, REQUEST_ID, failed, limited, record

PATH = "/ingest/kong-http-log"
JSON = {"content-type": "application/json; charset=utf-8"}


async def report(api: Api, body: Any, path: str = PATH, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = msgspec.json.encode(body)
    return await api.client.post(path, content=content, headers=JSON | named)


async def test_one_request(api: Api) -> None:
    """A single record is an object; 202 says that its events are on disk."""
    answer = await report(api, limited(MINUTE))
    (logged, exceeded) = await api.log.read(0)

    assert (answer.status_code, answer.json()) == (
        202,
        {"records": 1, "refused": 0, "positions": [1, 2], "repeated": False},
    )
    assert logged.stream == "emitted/http-log/log"
    assert exceeded.stream == "emitted/rate-limiting-advanced/rate-limit-exceeded"


async def test_a_batch(api: Api) -> None:
    """A queue's records are an array, stored in order."""
    answer = await report(api, [record("a"), record("b", tries=[failed("10.0.0.5", 80)])])
    page = (await api.client.get("/events")).json()["data"]

    assert answer.json()["positions"] == [1, 2, 3]
    assert [(event["event"], event["caller_id"]) for event in page] == [
        ("log", "a"),
        ("log", "b"),
        ("health", "b:1"),
    ]


async def test_a_repeated_request_is_stored_once(api: Api) -> None:
    """The queue sends a batch again, perhaps beside others: the gateway's request id tells."""
    await report(api, [record("a"), record("b")])
    again = await report(api, [record("a"), record("b")])
    mixed = await report(api, [record("b"), record("c")])

    assert again.json() == {"records": 2, "refused": 0, "positions": [1, 2], "repeated": True}
    assert mixed.json()["positions"] == [2, 3]
    assert api.log.head == 3


async def test_a_request_reported_otherwise_counts_as_reported_first(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch is never held up by it; what is left out is logged."""
    await report(api, record("a"))
    answer = await report(api, [record("a", client_ip="10.9.9.9"), record("b")])

    assert (answer.status_code, answer.json()["positions"]) == (202, [2])
    assert "otherwise than before: emitted/http-log/log" in caplog.text


async def test_requests_without_an_id_all_count(api: Api) -> None:
    """Gateways before 3.5 name none."""
    await report(api, [record(None), record(None)])

    assert api.log.head == 2


async def test_a_bad_record_does_not_keep_the_others_out(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch would come again for ever: it is taken, counted and logged, without its values."""
    with caplog.at_level(logging.WARNING, "hooktape.api"):
        answer = await report(api, [record("a"), {"request": {"id": 5}}, record("b", consumer=7)])

    assert answer.json() == {"records": 3, "refused": 2, "positions": [1], "repeated": False}
    assert "2 of 3 records of a gateway were refused, the first at [1]: Expected" in caplog.text


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"request": {"id": 5}}, None),
        (5, None),
        ([5], {"[0]": "Expected `object`, got `int`"}),
    ],
)
async def test_with_nothing_good_the_report_is_refused(
    api: Api, body: object, fields: dict[str, str] | None
) -> None:
    """Whoever tries it out by hand is told what is wrong."""
    answer = await report(api, body)

    assert answer.status_code == 400
    assert answer.json().get("fields") == fields


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
    ],
)
async def test_what_is_no_report_is_refused(
    api: Api, content: bytes, content_type: str, status: int
) -> None:
    """In Kong's words."""
    headers = {"content-type": content_type} if content_type else {}
    answer = await api.client.post(PATH, content=content, headers=headers)

    assert answer.status_code == status
    assert api.log.head == 0


async def test_nothing_to_store_is_fine(api: Api) -> None:
    """An empty batch is taken without a word to the log."""
    answer = await report(api, [])

    assert (answer.status_code, answer.json()["positions"]) == (202, [])
    assert api.log.head == 0


async def test_events_belong_to_the_workspace_of_the_path(api: Api) -> None:
    """Not to the one that the record names: whoever may write to one may not write to others."""
    await report(api, record(), f"/team{PATH}", x_request_id="r")
    (event,) = await api.log.read(0)
    found = await api.client.get(f"/team/events/{REQUEST_ID}?source=http-log")

    assert (event.workspace, event.request_id) == (OTHER_WORKSPACE, "r")
    assert found.json()["position"] == 1


async def test_an_idempotency_key_counts_here_too(api: Api) -> None:
    """For reports without ids; the same key for another report is a conflict."""
    first = await report(api, record(None), idempotency_key="k")
    again = await report(api, record(None), idempotency_key="k")
    other = await report(api, record("x"), idempotency_key="k")

    assert (first.status_code, again.json()["repeated"], other.status_code) == (202, True, 409)
    assert api.log.head == 1

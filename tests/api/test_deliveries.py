"""The levers of delivery: who may pull them, and what delivery is asked."""

from typing import Any

import pytest

from tests.api.admin_api import HOOK, Api

DELIVERY = "c57340ab-9fed-40fd-bb7e-1cef8d37c2df"


async def test_history_is_paged_backwards(api: Api) -> None:
    """`next` leads below the last position shown; a page that is not full is the last."""
    api.deliveries.answers = [{"position": 9}, {"position": 7}, {"position": 4}]
    first = (await api.client.get(f"/event-hooks/{HOOK}/deliveries?size=2")).json()
    last = (await api.client.get(f"/event-hooks/{HOOK}/deliveries?before=7")).json()

    assert first == {
        "data": [{"position": 9}, {"position": 7}],
        "next": f"/event-hooks/{HOOK}/deliveries?before=7&size=2",
    }
    assert last["next"] is None
    assert api.deliveries.asked == [("history", HOOK, None, 2), ("history", HOOK, 7, 100)]


async def test_parked_deliveries_are_paged_forwards(api: Api) -> None:
    """Oldest first."""
    api.deliveries.answers = [{"position": 4}]
    page = (await api.client.get(f"/event-hooks/{HOOK}/parked?size=1&after=3")).json()

    assert page["next"] == f"/event-hooks/{HOOK}/parked?after=4&size=1"
    assert api.deliveries.asked == [("parked", HOOK, 3, 1)]


async def test_one_or_all_parked_deliveries_are_sent_again(api: Api) -> None:
    """202: they are back to work, not yet delivered."""
    api.deliveries.resent = 2
    everything = await api.client.post(f"/event-hooks/{HOOK}/parked/resend")
    one = await api.client.post(f"/event-hooks/{HOOK}/parked/{DELIVERY}/resend")

    assert (everything.status_code, everything.json()) == (202, {"resent": 2})
    assert one.status_code == 202
    assert api.deliveries.asked == [("resend", HOOK, None), ("resend", HOOK, DELIVERY)]


async def test_what_is_not_parked_cannot_be_sent_again(api: Api) -> None:
    """One that is not there is a 404; of nothing, all is nothing."""
    one = await api.client.post(f"/event-hooks/{HOOK}/parked/{DELIVERY}/resend")
    everything = await api.client.post(f"/event-hooks/{HOOK}/parked/resend")

    assert (one.status_code, everything.status_code) == (404, 202)


async def test_a_hook_is_paused(api: Api) -> None:
    """The answer is the hook's state."""
    response = await api.client.post(f"/event-hooks/{HOOK}/pause")

    assert (response.status_code, response.json()) == (200, {"state": "stopped"})
    assert api.deliveries.asked == [("pause", HOOK)]


@pytest.mark.parametrize(
    ("query", "body", "skip"),
    [
        ("", {}, False),
        ("", {"json": {}}, False),
        ("", {"json": {"skip": True}}, True),
        ("", {"json": {"skip": False}}, False),
        ("", {"data": {"skip": "true"}}, True),
        ("", {"data": {"skip": "false"}}, False),
        ("?skip=true", {}, True),
        ("?skip=false", {}, False),
        ("?skip=true", {"json": {"skip": False}}, False),
    ],
)
async def test_a_hook_catches_up_or_skips(
    api: Api, query: str, body: dict[str, Any], skip: bool
) -> None:
    """By body or query, the body being the more explicit; catching up is the default."""
    response = await api.client.post(f"/event-hooks/{HOOK}/resume{query}", **body)

    assert (response.status_code, response.json()) == (200, {"state": "live"})
    assert api.deliveries.asked == [("resume", HOOK, skip)]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {"json": {"skip": 1}}),
        ("", {"json": {"skip": "true"}}),
        ("", {"json": {"skip": None}}),
        ("", {"json": {"jump": True}}),
        ("", {"data": {"skip": "yes"}}),
        ("", {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("?skip=1", {}),
    ],
)
async def test_a_doubtful_resume_is_refused(api: Api, query: str, body: dict[str, Any]) -> None:
    """Skipping loses deliveries, so it must be asked for clearly."""
    response = await api.client.post(f"/event-hooks/{HOOK}/resume{query}", **body)

    assert response.status_code == 400
    assert api.deliveries.asked == []


async def test_an_event_is_explained(api: Api) -> None:
    """By position, by id, or by the caller's own id."""
    await api.client.post(
        "/events", json={"source": "balancer", "event": "health", "data": {}, "id": "mine"}
    )
    api.deliveries.answers = [{"hook": HOOK, "state": "delivered"}]
    for path in ("/events/1/deliveries", "/events/mine/deliveries?source=balancer"):
        response = await api.client.get(path)
        assert response.json() == {"data": [{"hook": HOOK, "state": "delivered"}]}

    assert api.deliveries.asked == [("explain", 1), ("explain", 1)]
    assert (await api.client.get("/events/2/deliveries")).status_code == 404


LEVERS = [
    ("GET", "deliveries"),
    ("GET", "parked"),
    ("POST", "parked/resend"),
    ("POST", f"parked/{DELIVERY}/resend"),
    ("POST", "pause"),
    ("POST", "resume"),
]


@pytest.mark.parametrize(("method", "lever"), LEVERS)
async def test_an_unknown_hook_has_no_levers(api: Api, method: str, lever: str) -> None:
    """404 for one that is not there or in another workspace, 400 for what is no id."""
    for path, status in (
        (f"/event-hooks/{DELIVERY}/{lever}", 404),
        (f"/team/event-hooks/{HOOK}/{lever}", 404),
        (f"/event-hooks/{HOOK.replace('-', '')}/{lever}", 400),
        (f"/event-hooks/x/{lever}", 400),
    ):
        response = await api.client.request(method, path)
        assert response.status_code == status

    assert api.deliveries.asked == []


async def test_ids_come_in_any_case(api: Api) -> None:
    """UUIDs are compared in lower case."""
    await api.client.post(f"/event-hooks/{HOOK.upper()}/pause")

    assert api.deliveries.asked == [("pause", HOOK)]


@pytest.mark.parametrize("lever", ["pause", "resume", "parked/resend"])
async def test_levers_know_a_retry_by_its_key(api: Api, lever: str) -> None:
    """The key and the content of the request go along, and are the same for a retry."""
    for _ in range(2):
        await api.client.post(f"/event-hooks/{HOOK}/{lever}", headers={"Idempotency-Key": "again"})
    first, second = api.deliveries.origins

    assert first.idempotency is not None
    assert first.idempotency == second.idempotency
    assert first.idempotency.key.endswith("again")

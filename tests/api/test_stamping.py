"""What entities get that their senders left out."""

from api.stamping import Origin, stamped
from projections.tables import TABLES

ORIGIN = Origin(now=1_700_000_000.25391, seed=bytes(16))


def test_a_decision_taken_again_makes_up_the_same() -> None:
    """Ids and secrets depend on the request alone; another request has others."""
    record = TABLES["keyauth_credentials"].record
    one, again = stamped(record, {}, ORIGIN), stamped(record, {}, ORIGIN)
    other = stamped(record, {}, Origin(now=1, seed=b"x" * 16))

    assert one == again
    assert one["id"] != other["id"]
    assert one["key"] != other["key"]


def test_what_is_made_up_for_one_purpose_says_nothing_about_another() -> None:
    """The id, which all may see, is not the key."""
    record = TABLES["jwt_secrets"].record
    made = stamped(record, {}, ORIGIN)
    beside = stamped(record, {}, ORIGIN, "beside")

    texts = {made["id"].replace("-", ""), made["key"], made["secret"], beside["key"], beside["id"]}
    assert len(texts) == 5
    assert made["id"][14] == "4"


def test_times_are_as_fine_as_their_field() -> None:
    """Whole seconds, and milliseconds for targets; `updated_at` is never taken from outside."""
    sent = {"created_at": 5, "updated_at": 5}
    consumer = stamped(TABLES["consumers"].record, sent, ORIGIN)
    target = stamped(TABLES["targets"].record, {}, ORIGIN)

    assert (consumer["created_at"], consumer["updated_at"]) == (5, 1_700_000_000)
    assert (target["created_at"], target["updated_at"]) == (1_700_000_000.254,) * 2


def test_what_was_sent_stays() -> None:
    """Ids in lower case."""
    made = stamped(TABLES["keyauth_credentials"].record, {"id": "AB", "key": "k"}, ORIGIN)

    assert (made["id"], made["key"]) == ("ab", "k")

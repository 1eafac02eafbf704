"""What a write comes to, decided from the entities as they are."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from api.commands import (
    Decision,
    Parent,
    Request,
    decide_create,
    decide_delete,
    decide_update,
    decide_upsert,
    locate,
)
from api.responses import (
    BadRequest,
    EntityNotFound,
    ForeignKeysUnresolved,
    ForeignKeyViolation,
    InvalidPrimaryKey,
    PrimaryKeyViolation,
    RequestError,
    UniqueViolation,
)
from api.stamping import Origin
from eventstore.events import EntityCreated
from eventstore.records import Kind
from projections.entities import Entities
from projections.tables import DEFAULT_WORKSPACE, TABLES
from tests.spec import Fact, fact, recorded

ADA = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
SERVICE = "00000000-0000-4000-8000-0000000000c1"
ROUTE = "00000000-0000-4000-8000-0000000000d1"
OTHER = "00000000-0000-4000-8000-0000000000ff"
NOW = 1_700_000_000
ORIGIN = Origin(now=NOW + 0.25, seed=bytes(16))
NEW = ORIGIN.identity()


def stored(table: str, identity: str, *, workspace: str = DEFAULT_WORKSPACE, **fields: Any) -> Fact:
    entity = {"id": identity, "created_at": 1, "updated_at": 1, **fields}
    return fact(f"{table}/{identity}", EntityCreated(entity=entity), workspace=workspace)


def view(*facts: Fact) -> Entities:
    entities = Entities()
    for event in recorded(facts):
        entities.apply(entities.evolve(event))
    return entities


def sent(table: str, *, form: bool = False, parent: Parent | None = None, **args: Any) -> Request:
    return Request(
        table=TABLES[table],
        workspace=DEFAULT_WORKSPACE,
        args=args,
        form=form,
        origin=ORIGIN,
        digest=str.upper,
        parent=parent,
    )


def bodies(decision: Decision) -> list[tuple[str, str, Any]]:
    """Stream, type and decoded body of each event."""
    return [(e.stream, e.type, msgspec.json.decode(e.body)) for e in decision.events]


def test_a_creation_is_one_event_without_nulls() -> None:
    """Defaults, times and computed fields are in the event; what has no value is not."""
    decision = decide_create(view(), sent("consumers", username="Ada"))

    entity = {
        "id": NEW,
        "created_at": NOW,
        "updated_at": NOW,
        "username": "Ada",
        "username_lower": "ada",
        "type": 0,
    }
    assert bodies(decision) == [(f"consumers/{NEW}", "entity_created", {"entity": entity})]
    assert decision.events[0].kind == Kind.CONFIG
    assert decision.entity == entity | {"custom_id": None, "tags": None}


def test_a_form_is_decided_like_json() -> None:
    """Only the types differ."""
    form = sent("services", form=True, host="a", port="81", enabled="false", tags="x", path="")
    json = sent("services", host="a", port=81, enabled=False, tags=["x"], path=None)

    assert decide_create(view(), form) == decide_create(view(), json)


def test_id_and_creation_time_may_be_sent() -> None:
    """As in Kong; `updated_at` is always the service's own."""
    request = sent("consumers", id=ADA.upper(), username="a", created_at=5, updated_at=6)
    decision = decide_create(view(), request)

    assert decision.entity is not None
    assert [decision.entity[n] for n in ("id", "created_at", "updated_at")] == [ADA, 5, NOW]


def test_secrets_travel_apart_from_the_entity() -> None:
    """What deliveries and feeds show never holds the secret of a hook."""
    config = {"url": "http://x", "secret": "s3"}
    decision = decide_create(
        view(), sent("event_hooks", source="crud", handler="webhook", config=config)
    )

    ((_, _, body),) = bodies(decision)
    assert body["secrets"] == {"config.secret": "s3"}
    assert "secret" not in body["entity"]["config"]


def test_tokens_are_hashed_once() -> None:
    """A token is hashed when it is sent; a PATCH of something else keeps the hash."""
    ((_, _, created),) = bodies(
        decide_create(view(), sent("rbac_users", name="ada", user_token="t0ken"))
    )
    entities = view(
        fact(
            f"rbac_users/{NEW}", EntityCreated(entity=created["entity"], secrets=created["secrets"])
        )
    )
    ((_, _, patched),) = bodies(decide_update(entities, sent("rbac_users", comment="x"), "ada"))
    ((_, _, renewed),) = bodies(decide_update(entities, sent("rbac_users", user_token="t2"), "ada"))

    assert created["secrets"] == patched["secrets"] == {"user_token": "T0KEN"}
    assert renewed["secrets"] == {"user_token": "T2"}
    assert b"t0ken" not in msgspec.json.encode([created, patched])


def test_a_token_belongs_to_one_user() -> None:
    """Tokens are compared by their hashes."""
    ((_, _, body),) = bodies(decide_create(view(), sent("rbac_users", name="a", user_token="t")))
    entities = view(fact(f"rbac_users/{NEW}", EntityCreated(**body)))

    with pytest.raises(UniqueViolation):
        decide_create(entities, sent("rbac_users", id=ADA, name="b", user_token="t"))


def test_a_patch_keeps_what_was_not_sent() -> None:
    """The event holds the entity before and after; nulls clear."""
    entities = view(stored("consumers", ADA, username="ada", custom_id="1", tags=["x"]))
    decision = decide_update(entities, sent("consumers", custom_id=None), ADA)

    before = {"id": ADA, "created_at": 1, "updated_at": 1, "username": "ada"}
    ((stream, type_, body),) = bodies(decision)
    assert (stream, type_) == (f"consumers/{ADA}", "entity_updated")
    assert body["old_entity"] == before | {"custom_id": "1", "tags": ["x"]}
    assert body["entity"] == before | {
        "updated_at": NOW,
        "username_lower": "ada",
        "type": 0,
        "tags": ["x"],
    }


def test_a_patch_that_changes_nothing_is_an_update() -> None:
    """Kong moves `updated_at`, and so do we."""
    entities = view(stored("consumers", ADA, username="ada"))
    decision = decide_update(entities, sent("consumers"), "ada")

    assert decision.entity is not None
    assert decision.entity["updated_at"] == NOW


def test_a_null_that_stands_for_no_value_outlives_a_patch() -> None:
    """`retries` has a default, but it was set to null and stays so."""
    entities = view(stored("services", SERVICE, host="a", name="s"))
    decision = decide_update(entities, sent("services", port=81), "s")

    assert decision.entity is not None
    assert decision.entity["retries"] is None


def test_the_url_of_a_service_can_be_patched() -> None:
    """The shorthand is spelt out before it is merged."""
    entities = view(stored("services", SERVICE, host="a", path="/x", name="s"))
    decision = decide_update(entities, sent("services", url="https://b:8443"), "s")

    ((_, _, body),) = bodies(decision)
    changed = {
        name: body["entity"].get(name) for name in ("protocol", "host", "port", "path", "url")
    }
    assert changed == {"protocol": "https", "host": "b", "port": 8443, "path": None, "url": None}


@pytest.mark.parametrize(("key", "named"), [(ADA, {"id": ADA}), ("ada", {"username": "ada"})])
def test_a_patch_of_nothing_is_refused(key: str, named: dict[str, str]) -> None:
    """The refusal names what was looked for."""
    with pytest.raises(EntityNotFound) as refused:
        decide_update(view(), sent("consumers"), key)

    assert refused.value.fields == named


def test_put_replaces_the_whole_entity() -> None:
    """What was not sent goes back to its default, the creation time to now."""
    entities = view(stored("consumers", ADA, username="ada", custom_id="1", tags=["x"]))
    decision = decide_upsert(entities, sent("consumers", custom_id="2"), "ada")

    ((_, type_, body),) = bodies(decision)
    assert type_ == "entity_updated"
    assert body["entity"] == {
        "id": ADA,
        "created_at": NOW,
        "updated_at": NOW,
        "username": "ada",
        "username_lower": "ada",
        "custom_id": "2",
        "type": 0,
    }


@pytest.mark.parametrize(("key", "identity"), [(ADA, ADA), ("ada", NEW)])
def test_put_creates_what_is_not_there(key: str, identity: str) -> None:
    """The path gives the id, or the name."""
    decision = decide_upsert(view(), sent("consumers", id=BOB, username="x"), key)

    ((stream, type_, body),) = bodies(decision)
    assert (stream, type_) == (f"consumers/{identity}", "entity_created")
    assert body["entity"]["username"] == ("x" if key == ADA else "ada")


def test_deleting_nothing_is_no_event() -> None:
    """What is not there needs no deleting."""
    assert decide_delete(view(), sent("consumers"), ADA) == Decision((), None)


def test_a_deletion_takes_along_what_belongs_to_the_entity() -> None:
    """One event per entity, owners first, so that no position shows a reference to nothing."""
    entities = view(
        stored("consumers", ADA, username="ada"),
        stored("plugins", BOB, name="cors", consumer={"id": ADA}),
    )
    decision = decide_delete(entities, sent("consumers"), "ada")

    assert [(stream, type_) for stream, type_, _ in bodies(decision)] == [
        (f"plugins/{BOB}", "entity_deleted"),
        (f"consumers/{ADA}", "entity_deleted"),
    ]
    assert bodies(decision)[1][2]["entity"]["username"] == "ada"


def test_a_deletion_is_refused_while_something_else_refers_to_the_entity() -> None:
    """A service with routes stays."""
    entities = view(
        stored("services", SERVICE, host="a"), stored("routes", ROUTE, service={"id": SERVICE})
    )

    with pytest.raises(ForeignKeyViolation) as refused:
        decide_delete(entities, sent("services"), SERVICE)
    assert refused.value.fields == {"@referenced_by": "routes"}
    assert refused.value.message == (
        "an existing 'routes' entity references this 'services' entity"
    )


@pytest.mark.parametrize(
    ("facts", "key", "message"),
    [
        ([], "default", "Cannot delete default workspace"),
        (
            [
                stored("workspaces", OTHER, name="w"),
                stored("consumers", ADA, workspace=OTHER, username="a"),
            ],
            "w",
            "Workspace is not empty",
        ),
    ],
)
def test_an_occupied_workspace_is_not_deleted(facts: list[Fact], key: str, message: str) -> None:
    """Neither the default one, nor one that anything belongs to."""
    with pytest.raises(BadRequest, match=message):
        decide_delete(view(*facts), sent("workspaces"), key)


@pytest.mark.parametrize(
    ("table", "args", "error", "fields"),
    [
        ("consumers", {"username": "ada"}, UniqueViolation, {"username": "ada"}),
        ("consumers", {"id": ADA, "username": "b"}, PrimaryKeyViolation, {"id": ADA}),
        (
            "routes",
            {"hosts": ["a"], "service": {"id": ROUTE}},
            ForeignKeyViolation,
            {"service": {"id": ROUTE}},
        ),
        (
            "routes",
            {"hosts": ["a"], "service": {"id": OTHER}},
            ForeignKeyViolation,
            {"service": {"id": OTHER}},
        ),
        (
            "routes",
            {"hosts": ["a"], "service": {"name": "x"}},
            ForeignKeysUnresolved,
            {
                "service": {
                    "name": "the foreign key cannot be resolved with '{name=\"x\"}'"
                    " for an existing 'services' entity"
                }
            },
        ),
        (
            "plugins",
            {"name": "cors", "service": {"id": SERVICE}},
            UniqueViolation,
            {
                "name": "cors",
                "service": {"id": SERVICE},
                "route": None,
                "consumer": None,
                "consumer_group": None,
            },
        ),
    ],
)
def test_what_other_entities_stand_against(
    table: str, args: Any, error: type[RequestError], fields: Any
) -> None:
    """Names are taken, ids too, and references have to lead somewhere in the same workspace."""
    entities = view(
        stored("consumers", ADA, username="ada"),
        stored("services", SERVICE, name="s", host="a"),
        stored("services", OTHER, workspace=OTHER, name="s2", host="a"),
        stored("plugins", BOB, name="cors", service={"id": SERVICE}),
    )

    with pytest.raises(error) as refused:
        decide_create(entities, sent(table, **args))
    assert refused.value.fields == fields


def test_a_name_is_not_taken_by_its_own_entity() -> None:
    """Updating an entity does not collide with itself."""
    entities = view(stored("consumers", ADA, username="ada"))

    assert decide_update(entities, sent("consumers", username="ada"), ADA).events


def test_a_reference_may_use_a_name() -> None:
    """`service.name=s` is looked up, and stored by id."""
    entities = view(stored("services", SERVICE, name="s", host="a"))
    decision = decide_create(entities, sent("routes", hosts=["a"], service={"name": "s"}))

    assert decision.entity is not None
    assert decision.entity["service"] == {"id": SERVICE}


def test_a_request_under_a_parent_refers_to_it() -> None:
    """The reference comes from the path, and the key is looked up among the siblings."""
    entities = view(
        stored("upstreams", ADA, name="u"),
        stored("upstreams", BOB, name="v"),
        stored("targets", ROUTE, target="a:1", upstream={"id": ADA}),
        stored("targets", SERVICE, target="a:1", upstream={"id": BOB}),
    )
    targets = TABLES["targets"]
    parent = Parent("upstream", entities.get("upstreams", BOB))  # type: ignore[arg-type]

    decision = decide_create(entities, sent("targets", parent=parent, target="b:1"))
    found = [
        row and row.id
        for row in (
            locate(entities, targets, DEFAULT_WORKSPACE, "a:1", parent),
            locate(entities, targets, DEFAULT_WORKSPACE, SERVICE, parent),
            locate(entities, targets, DEFAULT_WORKSPACE, ROUTE, parent),
            locate(entities, targets, DEFAULT_WORKSPACE, "c:1", parent),
        )
    ]

    assert decision.entity is not None
    assert decision.entity["upstream"] == {"id": BOB}
    assert found == [SERVICE, SERVICE, None, None]


def test_what_has_no_name_is_found_by_id_only() -> None:
    """The body of the refusal is Kong's."""
    with pytest.raises(InvalidPrimaryKey) as refused:
        locate(view(), TABLES["event_hooks"], DEFAULT_WORKSPACE, "x")

    assert refused.value.message == "invalid primary key: '{id=\"expected a valid UUID\"}'"


def test_another_workspace_is_out_of_sight() -> None:
    """Neither id nor name finds what belongs to another workspace, and its id stays taken."""
    entities = view(stored("consumers", ADA, workspace=OTHER, username="ada"))
    consumers = TABLES["consumers"]

    assert locate(entities, consumers, DEFAULT_WORKSPACE, ADA) is None
    assert locate(entities, consumers, DEFAULT_WORKSPACE, "ada") is None
    assert locate(entities, consumers, OTHER, "ada") is not None
    with pytest.raises(PrimaryKeyViolation):
        decide_upsert(entities, sent("consumers", username="x"), ADA)


def test_an_erased_entity_can_be_written_anew() -> None:
    """Only its id is known, so a PATCH has to bring all that is required."""
    entities = view(
        fact(f"consumers/{ADA}", EntityCreated(entity={"id": ADA, "username": "a"}), erased=True)
    )
    decision = decide_update(entities, sent("consumers", username="ada"), ADA)

    ((_, _, body),) = bodies(decision)
    assert body["old_entity"] == {"id": ADA}
    assert body["entity"]["created_at"] == NOW


_NAMES = st.sampled_from(
    sorted({name for table in TABLES.values() for name in table.record.fields} | {"", "foo"})
)
_VALUES = st.recursive(
    st.sampled_from([None, True, 0, -1, 2**70, 1.5, "", "a", "a b", "\0", ADA, "http://[", "http://a/b"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(
    st.sampled_from(sorted(TABLES)),
    st.dictionaries(_NAMES, _VALUES, max_size=5),
    st.booleans(),
    st.sampled_from([ADA, SERVICE, "ada", "", "\udfff"]),
)
def test_any_request_is_decided_or_refused(
    table: str, args: dict[str, Any], form: bool, key: str
) -> None:
    """Whatever is sent to whatever table, there are events that can be stored, or a refusal."""
    entities = view(
        stored("consumers", ADA, username="ada"),
        stored("services", SERVICE, name="ada", host="a"),
        stored("plugins", ROUTE, name="cors", consumer={"id": ADA}),
    )
    request = msgspec.structs.replace(sent(table, form=form), args=args)

    for decide, *path in (
        (decide_create,),
        (decide_update, key),
        (decide_upsert, key),
        (decide_delete, key),
    ):
        try:
            decision: Decision = decide(entities, request, *path)
        except RequestError as refused:
            assert refused.message  # noqa: PT017 - either outcome is fine
        else:
            for event in decision.events:
                assert event.stream.partition("/")[0] in TABLES
                assert msgspec.json.decode(event.body)

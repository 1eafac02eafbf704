"""The read model of entities: what it keeps, and what it finds."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given as forall, strategies as st

from eventstore.events import EntityCreated, EntityDeleted, EntityUpdated, EventEmitted
from projections.entities import BUILT_IN, Entities, Entity
from projections.tables import DEFAULT_WORKSPACE
from tests.spec import fact, given, recorded

ADA = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
OTHER_WORKSPACE = "00000000-0000-4000-8000-0000000000ff"


def created(identity: str, secrets: dict[str, Any] | None = None, **fields: Any) -> EntityCreated:
    return EntityCreated(entity={"id": identity, **fields}, secrets=secrets or {})


def updated(identity: str, **fields: Any) -> EntityUpdated:
    return EntityUpdated(entity={"id": identity, **fields}, old_entity={"id": identity})


def deleted(identity: str) -> EntityDeleted:
    return EntityDeleted(entity={"id": identity})


def row(table: str, identity: str, *, version: int, seq: int, **fields: Any) -> Entity:
    return Entity(
        table=table,
        id=identity,
        workspace=DEFAULT_WORKSPACE,
        entity={"id": identity, **fields},
        version=version,
        seq=seq,
    )


def folded(*facts: Any) -> Entities:
    """A model that has seen the facts."""
    model = Entities()
    for event in recorded(facts):
        model.apply(model.evolve(event))
    return model


def test_an_entity_is_what_its_last_event_says() -> None:
    """Creation and update each replace the whole entity."""
    given(Entities, fact(f"consumers/{ADA}", created(ADA, username="ada"))).when(
        fact(f"consumers/{ADA}", updated(ADA, username="lovelace"))
    ).then(
        {f"consumers/{ADA}": row("consumers", ADA, version=1, seq=2, username="lovelace")},
    )


def test_a_deleted_entity_is_gone_with_its_name() -> None:
    """The name of a deleted entity is free again."""
    model = (
        given(Entities, fact(f"consumers/{ADA}", created(ADA, username="ada")))
        .when(fact(f"consumers/{ADA}", deleted(ADA)))
        .then({})
    )

    assert model.get("consumers", ADA) is None
    assert model.find("consumers", DEFAULT_WORKSPACE, "username", "ada") is None


def test_an_erased_body_leaves_the_id() -> None:
    """Erasing takes everything but the existence of the entity, also out of the indexes."""
    model = (
        given(Entities, fact(f"consumers/{ADA}", created(ADA, username="ada")))
        .when(fact(f"consumers/{ADA}", updated(ADA, username="ada", tags=["x"]), erased=True))
        .then({f"consumers/{ADA}": row("consumers", ADA, version=1, seq=2)})
    )

    assert model.find("consumers", DEFAULT_WORKSPACE, "username", "ada") is None


def test_an_erased_deletion_is_still_a_deletion() -> None:
    """What a deletion says does not need its body."""
    given(Entities, fact(f"consumers/{ADA}", created(ADA, username="ada"))).when(
        fact(f"consumers/{ADA}", deleted(ADA), erased=True)
    ).then({})


def test_other_streams_change_nothing() -> None:
    """Emitted events and tables of a newer program are not entities."""
    given(Entities).when(
        fact("emitted/balancer/health", EventEmitted(data=b"{}")),  # type: ignore[arg-type]
        fact("unheard_of/1", created("1")),
    ).then({})


def test_the_default_workspace_is_there_from_the_start() -> None:
    """No event creates it, and clearing the model keeps it."""
    model = Entities()
    model.clear()

    assert model.workspace("default") == model.workspace(DEFAULT_WORKSPACE) == DEFAULT_WORKSPACE
    assert model.get("workspaces", DEFAULT_WORKSPACE) == BUILT_IN[f"workspaces/{DEFAULT_WORKSPACE}"]


def test_names_are_found_within_their_workspace() -> None:
    """The same name in two workspaces names two entities."""
    model = folded(
        fact(f"consumers/{ADA}", created(ADA, username="x")),
        fact(f"consumers/{BOB}", created(BOB, username="x"), workspace=OTHER_WORKSPACE),
    )

    assert [
        getattr(model.find("consumers", workspace, "username", "x"), "id", None)
        for workspace in (DEFAULT_WORKSPACE, OTHER_WORKSPACE, "nowhere")
    ] == [ADA, BOB, None]


def test_a_table_without_workspaces_has_one_namespace() -> None:
    """A licence stored under one workspace is found from every other."""
    model = folded(fact(f"licenses/{ADA}", created(ADA, payload="x"), workspace=OTHER_WORKSPACE))

    assert model.find("licenses", DEFAULT_WORKSPACE, "payload", "x") is not None


def test_two_entities_may_swap_names() -> None:
    """A value that changed hands is found at its new owner."""
    model = folded(
        fact(f"consumers/{ADA}", created(ADA, username="a")),
        fact(f"consumers/{BOB}", created(BOB, username="b")),
        fact(f"consumers/{ADA}", updated(ADA, username="c")),
        fact(f"consumers/{BOB}", updated(BOB, username="a")),
        fact(f"consumers/{ADA}", updated(ADA, username="b")),
    )

    found = [model.find("consumers", DEFAULT_WORKSPACE, "username", name) for name in "abc"]
    assert [entity and entity.id for entity in found] == [BOB, ADA, None]


def test_changes_that_come_together_may_come_in_any_order() -> None:
    """A name is found at its new owner though its old one is changed after it."""
    model = folded(fact(f"consumers/{ADA}", created(ADA, username="a")))
    model.apply(
        {
            f"consumers/{BOB}": row("consumers", BOB, version=0, seq=2, username="a"),
            f"consumers/{ADA}": row("consumers", ADA, version=1, seq=3, username="b"),
        }
    )

    found = [model.find("consumers", DEFAULT_WORKSPACE, "username", name) for name in "ab"]
    assert [entity and entity.id for entity in found] == [BOB, ADA]


def test_a_value_may_be_unique_in_all_workspaces() -> None:
    """A token is found wherever its user is, a name only where it is."""
    made = created(ADA, {"user_token": "5e884"}, name="ada")
    model = folded(fact(f"rbac_users/{ADA}", made, workspace="elsewhere"))

    assert model.find("rbac_users", DEFAULT_WORKSPACE, "user_token", "5e884") is not None
    assert model.find("rbac_users", DEFAULT_WORKSPACE, "name", "ada") is None
    assert model.find("rbac_users", "elsewhere", "name", "ada") is not None


def test_every_change_is_counted() -> None:
    """What was worked out from the entities is known to be out of date; clearing counts, too."""
    model = folded()
    seen = [model.revision]
    model.apply({})
    seen.append(model.revision)
    model.clear()
    seen.append(model.revision)

    assert sorted(set(seen)) == seen


def test_a_secret_can_be_unique() -> None:
    """A user is found by the hash of the token, which is no part of the public entity."""
    model = folded(fact(f"rbac_users/{ADA}", created(ADA, {"user_token": "5e884"}, name="ada")))

    found = model.find("rbac_users", DEFAULT_WORKSPACE, "user_token", "5e884")
    assert found is not None
    assert "user_token" not in found.entity


def test_children_follow_their_reference() -> None:
    """A route is a child of the service it refers to, and of no other once it moved."""
    model = folded(
        fact(f"routes/{ADA}", created(ADA, service={"id": "s1"})),
        fact(f"routes/{BOB}", created(BOB, service={"id": "s1"})),
        fact(f"routes/{BOB}", updated(BOB, service={"id": "s2"})),
    )

    assert [child.id for child in model.children("routes", "service", "s1")] == [ADA]
    assert [child.id for child in model.children("routes", "service", "s2")] == [BOB]
    assert model.children("routes", "service", "s3") == []


def test_a_combination_is_unique_with_its_nulls() -> None:
    """A plugin without a route differs from the same plugin on one."""
    model = folded(
        fact(f"plugins/{ADA}", created(ADA, name="cors")),
        fact(f"plugins/{BOB}", created(BOB, name="cors", route={"id": "r"})),
    )
    fields = ("name", "route", "service", "consumer", "consumer_group")

    for values, expected in (
        (("cors", None, None, None, None), ADA),
        (("cors", {"id": "r"}, None, None, None), BOB),
        (("cors", {"id": "q"}, None, None, None), None),
    ):
        found = model.find_together("plugins", DEFAULT_WORKSPACE, fields, values)
        assert (found and found.id) == expected


def test_a_workspace_with_a_hook_is_not_empty() -> None:
    """Anything that belongs to a workspace keeps it occupied, until it is gone."""
    model = folded(
        fact(f"event_hooks/{ADA}", created(ADA, handler="log"), workspace=OTHER_WORKSPACE)
    )

    assert not model.is_empty(OTHER_WORKSPACE)
    assert model.is_empty("elsewhere")


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_pages_hold_every_entity_once_in_order(size: int) -> None:
    """Following pages to the end gives all ids, sorted, whatever their size."""
    ids = [str(uuid4()) for _ in range(7)]
    model = folded(*(fact(f"consumers/{i}", created(i, username=i)) for i in ids))

    seen: list[str] = []
    more = True
    while more:
        after = seen[-1] if seen else ""
        page, more = model.page("consumers", DEFAULT_WORKSPACE, after=after, size=size)
        seen += [entity.id for entity in page]

    assert seen == sorted(ids)


def test_a_page_can_be_filtered_and_span_all_workspaces() -> None:
    """A filter does not count what it leaves out; workspace "" stands for all of them."""
    model = folded(
        fact(f"consumers/{ADA}", created(ADA, tags=["x"])),
        fact(f"consumers/{BOB}", created(BOB, tags=["y"]), workspace=OTHER_WORKSPACE),
    )

    everything, _ = model.page("consumers", "", size=10)
    tagged, more = model.page(
        "consumers", "", size=1, match=lambda entity: "y" in entity.entity["tags"]
    )

    assert [entity.id for entity in everything] == [ADA, BOB]
    assert ([entity.id for entity in tagged], more) == ([BOB], False)


_IDS = [str(UUID(int=n)) for n in range(6)]
_STEP = st.tuples(
    st.sampled_from(_IDS), st.sampled_from(["a", "b", "c", None]), st.sampled_from(_IDS)
)


@forall(st.lists(_STEP, max_size=40), st.integers(1, 40))
def test_indexes_agree_with_the_items(steps: list[tuple[str, str | None, str]], cut: int) -> None:
    """After any history, each index gives what a search through all items would."""
    seen: set[str] = set()
    facts = []
    for identity, name, service in steps:
        stream = f"routes/{identity}"
        body = {"service": {"id": service}}
        if name is None:
            facts.append(fact(stream, deleted(identity)))
            seen.discard(identity)
        elif identity in seen:
            facts.append(fact(stream, updated(identity, name=name + identity, **body)))
        else:
            facts.append(fact(stream, created(identity, name=name + identity, **body)))
            seen.add(identity)
    model = Entities()
    for event in recorded(facts):
        model.apply(model.evolve(event))
    # The same at once, as a cold start loads a snapshot: many insertions take another path.
    loaded = Entities()
    loaded.apply({f"routes/{i}": model.get("routes", i) for i in _IDS})

    for view in (model, loaded):
        page, _ = view.page("routes", DEFAULT_WORKSPACE, size=100)
        assert [entity.id for entity in page] == sorted(seen)
        for entity in page:
            name = entity.entity["name"]
            assert view.find("routes", DEFAULT_WORKSPACE, "name", name) is entity
        for service in _IDS:
            expected = [e.id for e in page if e.entity["service"]["id"] == service]
            assert [e.id for e in view.children("routes", "service", service)] == expected


def test_many_entities_loaded_at_once_are_in_order() -> None:
    """A snapshot of any size ends sorted."""
    ids = [str(uuid4()) for _ in range(500)]
    model = Entities()
    model.apply({f"consumers/{i}": row("consumers", i, version=0, seq=1) for i in ids})

    page, more = model.page("consumers", DEFAULT_WORKSPACE, size=1000)
    assert ([entity.id for entity in page], more) == (sorted(ids), False)

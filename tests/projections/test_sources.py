"""The catalogue of events."""

from eventstore.events import (
    SOURCES_PREFIX,
    CompactionFinished,
    EntityCreated,
    SourcePublished,
)
from projections.sources import Definition, Sources, SourceVersion
from tests.spec import Fact, fact, given, recorded


def sources() -> Sources:
    return Sources(["consumers"])


def published(source: str, event: str, *, erased: bool = False, **definition: object) -> Fact:
    body = SourcePublished(source=source, event=event, **definition)  # type: ignore[arg-type]
    return fact(f"{SOURCES_PREFIX}{source}/{event}", body, erased=erased)


def test_publishing_adds_a_version() -> None:
    """Each definition of an event is kept, with the position from which it holds."""
    first, second = Definition(fields=["a"]), Definition(fields=["a", "b"], unique=["b"])
    given(sources, published("app", "paid", fields=["a"])).when(
        published("app", "paid", fields=["a", "b"], unique=["b"])
    ).then({"app/paid": [SourceVersion(1, first), SourceVersion(2, second)]})


def test_an_event_is_read_with_the_definition_of_its_time() -> None:
    """A definition holds for the events after it, until the next one."""
    model = (
        given(sources)
        .when(published("app", "paid", subject="old"), published("app", "paid", subject="new"))
        .then(
            {
                "app/paid": [
                    SourceVersion(1, Definition(subject="old")),
                    SourceVersion(2, Definition(subject="new")),
                ]
            }
        )
    )

    assert model.as_of("app", "paid", 1) is None
    assert model.as_of("app", "paid", 2) == Definition(subject="old")
    assert model.as_of("app", "paid", 3) == Definition(subject="new")
    assert model.as_of("app", "other", 3) is None
    assert model.current("app", "paid") == Definition(subject="new")
    assert model.current("app", "other") is None


def test_an_erased_definition_leaves_the_event_published() -> None:
    """Erasure takes the description, not the fact that there is such an event."""
    model = (
        given(sources)
        .when(published("app", "paid", erased=True, fields=["a"]))
        .then({"app/paid": [SourceVersion(1, Definition())]})
    )

    assert model.current("app", "paid") == Definition()


def test_other_events_change_nothing() -> None:
    """Entities, even of a table with a similar name, are no sources."""
    given(sources).when(fact("consumers/1", EntityCreated(entity={"id": "1"}))).then({})


def test_the_catalogue_names_every_form_of_a_change() -> None:
    """Each table has its plain crud event and one per operation, all with Kong's fields."""
    change = Definition(fields=["operation", "entity", "old_entity", "schema"])
    catalogue = sources().all()

    assert catalogue["crud"] == dict.fromkeys(
        ["consumers", "consumers:create", "consumers:update", "consumers:delete"], change
    )
    assert catalogue["dao:crud"] == dict.fromkeys(["create", "update", "delete"], change)


def test_the_catalogue_knows_kongs_plugins() -> None:
    """The sources that Kong documents exist from the start, with their unique fields."""
    limit = sources().current("rate-limiting-advanced", "rate-limit-exceeded")

    assert limit == Definition(
        fields=["consumer", "ip", "service", "rate", "limit", "window"],
        unique=["consumer", "ip", "service"],
        description="Run an event when a rate limit has been exceeded",
    )
    assert sources().all().keys() >= {
        "ai-rate-limiting-advanced",
        "balancer",
        "http-log-enterprise",
        "oas-validation",
        "service-protection",
        "validation",
    }


def test_a_built_in_definition_holds_at_any_position() -> None:
    """It needs no publishing, and a published one of the same name does not replace it."""
    model = sources()
    model.apply({"balancer/health": [SourceVersion(1, Definition(fields=["other"]))]})

    built_in = model.built_in("balancer", "health")
    assert built_in is not None
    assert model.as_of("balancer", "health", 0) == built_in
    assert model.current("balancer", "health") == built_in


def test_own_events_stand_beside_the_built_in_ones() -> None:
    """Publishing an event of a known source adds to that source."""
    model = sources()
    model.apply({"balancer/drained": [SourceVersion(1, Definition())]})

    assert set(model.all()["balancer"]) == {"health", "drained"}


def test_a_compaction_takes_away_what_no_event_left_can_meet() -> None:
    """Definitions that were replaced below the floor; the one in force at it stays."""
    finished = CompactionFinished(id="c", floor=4, count=3, snapshot=9)
    versions = [published("s", "e", description=text) for text in ("one", "two", "three", "four")]
    before, now = Sources([]), Sources([])
    for event in recorded([*versions, fact("system/compaction", finished)]):
        if event.type != "compaction_finished":
            before.apply(before.evolve(event))
        now.apply(now.evolve(event))

    assert [now.as_of("s", "e", seq) for seq in range(4, 7)] == [
        before.as_of("s", "e", seq) for seq in range(4, 7)
    ]
    assert now.current("s", "e") == before.current("s", "e")
    assert now.as_of("s", "e", 2) is None


def test_what_a_gateway_reports_is_published() -> None:
    """The events of the bridge have Kong's definitions, so `on_change` works on them."""
    known = sources().all()

    assert known["http-log"]["log"] == known["http-log-enterprise"]["log"]
    assert known["http-log"]["log"].unique == ["consumer", "ip", "service"]
    assert "rate-limit-exceeded" in known["rate-limiting-advanced"]
    assert "health" in known["balancer"]

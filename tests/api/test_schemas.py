"""`/schemas`: the table of entities as Kong's clients read it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from projections.plugins import PLUGINS
from projections.tables import TABLES
from tests.api.entity_api import EntityApi, serving_entities


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[EntityApi]:
    """The endpoints over a fresh log."""
    async with serving_entities(tmp_path) as served:
        yield served


async def fields(api: EntityApi, path: str) -> dict[str, Any]:
    """The fields of a schema by their names."""
    answer = await api.client.get(path)
    assert answer.status_code == 200, answer.text
    return {name: field for each in answer.json()["fields"] for name, field in each.items()}


@pytest.mark.parametrize("table", TABLES)
async def test_every_table_has_a_schema(api: EntityApi, table: str) -> None:
    """All fields are listed, and the id is what it is in Kong's documentation."""
    shown = await fields(api, f"/schemas/{table}")

    record = TABLES[table].record
    assert set(shown) == {name for name, field in record.fields.items() if not field.transient}
    assert shown["id"] == {"type": "string", "auto": True, "uuid": True}


async def test_a_schema_says_what_a_field_can_be(api: EntityApi) -> None:
    """Types, ranges, choices, defaults and references, in Kong's words."""
    services, targets = (
        await fields(api, "/schemas/services"),
        await fields(api, "/schemas/targets"),
    )

    assert services["created_at"] == {"type": "integer", "auto": True, "timestamp": True}
    assert services["retries"] == {"type": "integer", "between": [0, 32767], "default": 5}
    assert services["protocol"]["one_of"][:2] == ["grpc", "grpcs"]
    assert services["host"] == {"type": "string", "required": True}
    assert services["name"] == {"type": "string", "unique": True}
    assert services["tags"] == {"type": "set", "elements": {"type": "string"}}
    assert targets["created_at"]["type"] == "number"
    assert targets["upstream"] == {
        "type": "foreign",
        "required": True,
        "reference": "upstreams",
        "on_delete": "cascade",
    }


async def test_shorthands_stand_apart(api: EntityApi) -> None:
    """They are sent and never shown."""
    schema = (await api.client.get("/schemas/services")).json()

    assert schema["shorthand_fields"] == [{"url": {"type": "string"}}]


async def test_a_handler_selects_the_fields_of_a_hook(api: EntityApi) -> None:
    """One subschema per handler; secrets are marked."""
    schema = (await api.client.get("/schemas/event_hooks")).json()

    assert schema["subschema_key"] == "handler"
    assert schema["subschemas"].keys() == {"webhook", "webhook-custom", "log", "lambda"}
    ((config,),) = ([f["config"] for f in schema["subschemas"]["webhook"]["fields"]],)
    inner = {name: field for each in config["fields"] for name, field in each.items()}
    assert inner["url"] == {"type": "string", "required": True}
    assert inner["secret"] == {"type": "string", "encrypted": True}
    assert inner["headers"] == {
        "type": "map",
        "keys": {"type": "string"},
        "values": {"type": "string"},
        "default": {},
    }


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_plugins_that_events_come_from_have_schemas(api: EntityApi, plugin: str) -> None:
    """Of the others nothing is known here."""
    shown = await fields(api, f"/schemas/plugins/{plugin}")

    assert shown["config"]["type"] == "record"
    assert shown["config"]["fields"]


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/schemas/x", "No entity named 'x'"),
        ("GET", "/schemas/plugins/x", "No plugin named 'x'"),
        ("POST", "/schemas/x/validate", "No entity named 'x'"),
    ],
)
async def test_unknown_schemas_are_named(
    api: EntityApi, method: str, path: str, message: str
) -> None:
    """404 with Kong's sentence."""
    answer = await api.client.request(method, path)

    assert (answer.status_code, answer.json()) == (404, {"message": message})


@pytest.mark.parametrize(
    ("entity", "sent"),
    [
        ("services", {"json": {"url": "http://a:80/b"}}),
        ("event_hooks", {"data": {"source": "crud", "handler": "log", "snooze": "5"}}),
        ("plugins", {"json": {"name": "mine", "config": {"a": {"b": 1}}}}),
        ("plugins", {"data": {"name": "rate-limiting", "config.minute": "5"}}),
    ],
)
async def test_a_valid_entity_is_only_looked_at(api: EntityApi, entity: str, sent: Any) -> None:
    """200 with Kong's sentence, and nothing is stored."""
    answer = await api.client.post(f"/schemas/{entity}/validate", **sent)

    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "schema validation successful"},
    )
    assert await api.events() == []


async def test_an_invalid_entity_is_refused_as_it_would_be(api: EntityApi) -> None:
    """With every fault at once."""
    body = {"source": 5, "handler": "webhook", "config": {}}

    looked_at = await api.client.post("/schemas/event_hooks/validate", json=body)
    sent = await api.client.post("/event-hooks", json=body)

    assert looked_at.status_code == sent.status_code == 400
    assert looked_at.json() == sent.json()

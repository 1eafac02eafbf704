"""The document that describes the API, held against what it describes."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.openapi.document import DESCRIBED, document
from api.openapi.parameters import plain_path
from api.openapi.schemas import name_of
from api.responses import ANSWERS, Json
from api.routing import endpoints_of, route
from projections.fields import Record
from projections.tables import TABLES
from tests.api.rbac_api import SECRETS, SUPER, RbacApi, serving_rbac


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[RbacApi]:
    """The whole application."""
    async with serving_rbac(tmp_path) as served:
        yield served


@pytest.fixture
def described(api: RbacApi) -> dict[str, Any]:
    return document(api.routes, "1")


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation by method and path."""
    for path, item in described["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield f"{method.upper()} {path}", operation


def routed(api: RbacApi) -> set[str]:
    """What the router answers, HEAD and OPTIONS left out."""
    return {
        f"{method} {plain_path(each.path)}"
        for each in api.routes
        if isinstance(each, Route)
        for method in endpoints_of(each)
    }


def schema(described: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = described["components"]["schemas"][name]
    return found


def faults(described: dict[str, Any], name: str, value: Any) -> list[str]:
    """What is wrong with a value by a component, fields that it does not name included."""
    closed = {"unevaluatedProperties": False, "components": described["components"]}
    validator = OAS31Validator(schema(described, name) | closed)
    return [error.message for error in validator.iter_errors(value)]


async def test_it_is_valid(described: dict[str, Any]) -> None:
    """By the specification of OpenAPI 3.1."""
    validate(described)

    assert described["openapi"] == "3.1.0"


async def test_it_has_the_operations_of_the_router_and_no_others(
    api: RbacApi, described: dict[str, Any]
) -> None:
    """In both directions; and nothing is described that is not there any more."""
    assert {name for name, _ in operations(described)} == routed(api)
    assert {plain_path(name) for name in DESCRIBED} <= routed(api)


async def test_a_route_without_a_description_is_noticed(api: RbacApi) -> None:
    """Whoever adds an endpoint has to say what it does."""

    async def endpoint(_request: Request) -> Response:
        return Json({})

    with pytest.raises(LookupError, match="POST /forgotten is not described"):
        document([*api.routes, route("/forgotten", POST=endpoint)], "1")


async def test_ids_of_operations_are_unique_and_readable(described: dict[str, Any]) -> None:
    """They become names of functions, and each operation says what it does in one line."""
    ids = [operation["operationId"] for _, operation in operations(described)]

    assert len(ids) == len(set(ids))
    assert [each for each in ids if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", each)] == []
    assert all(
        operation["summary"] and "\n" not in operation["summary"]
        for _, operation in operations(described)
    )


async def test_ids_stay(described: dict[str, Any]) -> None:
    """Clients are generated with these names."""
    names = {operation["operationId"]: name for name, operation in operations(described)}

    assert names["list_event_hooks"] == "GET /event-hooks"
    assert names["create_event_hook"] == "POST /event-hooks"
    assert names["update_event_hook"] == "PATCH /event-hooks/{event_hooks}"
    assert names["create_plugin_of_service"] == "POST /services/{services}/plugins"
    assert names["get_service_of_route"] == "GET /routes/{routes}/service"
    assert names["delete_target_of_upstream"] == "DELETE /upstreams/{upstreams}/targets/{targets}"


async def test_every_refusal_is_described(described: dict[str, Any]) -> None:
    """Each kind that Kong numbers has a schema, and each status an answer."""
    components = described["components"]
    numbered = {kind.__name__: code for kind, (_, code, _) in ANSWERS.items() if code}
    statuses = {str(status) for status, _, _ in ANSWERS.values()} - {"405"}
    used = {status for _, operation in operations(described) for status in operation["responses"]}

    assert {
        name: components["schemas"][name]["properties"]["code"]["const"] for name in numbered
    } == numbered
    assert statuses <= used
    assert "Allow" in components["responses"]["MethodNotAllowed"]["headers"]
    assert "Retry-After" in components["responses"]["ServiceUnavailable"]["headers"]


async def test_writes_say_what_they_may_be_refused_with(described: dict[str, Any]) -> None:
    """And that they heed an idempotency key, and a version where there is one."""
    update = dict(operations(described))["PATCH /event-hooks/{event_hooks}"]
    headers = [each["$ref"].rpartition("/")[2] for each in update["parameters"]]

    assert headers == ["IdempotencyKey", "IfMatch"]
    assert set(update["responses"]) == {
        "200", "400", "401", "403", "404", "409", "412", "413", "415", "500", "503", "507",
    }  # fmt: skip
    assert "ETag" in update["responses"]["200"]["headers"]


async def test_bodies_may_be_forms(described: dict[str, Any]) -> None:
    """Whatever is written as JSON can be written as a form, by the same schema."""
    bodies = [
        operation["requestBody"]["content"]
        for name, operation in operations(described)
        if "requestBody" in operation
        and name.split()[1] not in ("/events", "/ingest/kong-http-log")
    ]

    assert bodies
    for content in bodies:
        assert list(content) == [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ]
        assert len({str(each) for each in content.values()}) == 1


async def test_an_entity_is_described_as_its_table_says(described: dict[str, Any]) -> None:
    """Defaults, ranges, choices, nulls, references and shorthands."""
    service = schema(described, "ServiceInput")
    fields = service["properties"]
    target = schema(described, "TargetOfUpstreamReplacement")

    assert fields["protocol"]["default"] == "http"
    assert "tls_passthrough" in fields["protocol"]["enum"]
    assert (fields["port"]["minimum"], fields["port"]["maximum"]) == (0, 65535)
    assert fields["path"]["type"] == ["string", "null"]
    assert fields["url"]["writeOnly"]
    assert fields["updated_at"]["readOnly"]
    assert fields["client_certificate"]["x-hooktape-references"] == "certificates"
    assert service["anyOf"] == [{"required": ["host"]}, {"required": ["url"]}]
    assert not service["additionalProperties"]
    assert [each["required"] for each in schema(described, "ConsumerInput")["anyOf"]] == [
        ["custom_id"],
        ["username"],
    ]
    assert "required" not in target
    assert schema(described, "TargetInput")["required"] == ["upstream", "target"]
    assert "required" not in schema(described, "ServicePatch")


async def test_hooks_are_described_by_handler(described: dict[str, Any]) -> None:
    """Each handler has a config of its own, and what Kong does not know is marked."""
    by_handler = {
        each["properties"]["handler"]["const"]: each["properties"]["config"]
        for each in schema(described, "EventHookInput")["oneOf"]
    }

    assert by_handler.keys() == {"webhook", "webhook-custom", "log", "lambda"}
    assert by_handler["webhook"]["required"] == ["url"]
    assert by_handler["webhook"]["properties"]["secret"]["x-hooktape-secret"]
    assert by_handler["webhook"]["properties"]["format"]["x-hooktape-extension"]
    assert by_handler["lambda"]["properties"]["functions"]["minItems"] == 1


def hashed(record: Record) -> set[str]:
    return {name for name, field in record.fields.items() if field.hashed}


async def test_what_is_hashed_is_never_answered(described: dict[str, Any]) -> None:
    """It can be sent, and that is all."""
    for table in TABLES.values():
        secret = hashed(table.record) if table.endpoints else set()
        if not secret:
            continue
        shown = schema(described, name_of(table))
        sent = schema(described, f"{name_of(table)}Patch")["properties"]
        assert secret.isdisjoint(shown["properties"])
        assert all(sent[field]["writeOnly"] for field in secret)


async def test_entities_are_answered_as_described(api: RbacApi, described: dict[str, Any]) -> None:
    """One of every table: all that is required is there, and nothing else than what is named."""
    wrong: dict[str, list[str]] = {}
    certificate = ""
    for name, content in SECRETS.items():
        table = TABLES[name]
        if "certificate" in content:
            content = content | {"certificate": {"id": certificate}}
        made = await api.done(f"/{table.path}", content)
        entity = made[table.wrapped] if table.wrapped else made
        certificate = entity["id"] if name == "certificates" else certificate
        entity.pop("user_token", None)  # shown once, by an endpoint of its own
        if found := faults(described, name_of(table), entity):
            wrong[name] = found

    assert wrong == {}


async def test_the_document_is_served_as_it_was_made(
    api: RbacApi, described: dict[str, Any]
) -> None:
    """To everybody, once for each version: who has it already is told so."""
    first = await api.ask(None, "GET", "/openapi.json")
    tagged = {"If-None-Match": first.headers["etag"]}
    again = await api.ask(None, "GET", "/openapi.json", headers=tagged)
    below = await api.ask(SUPER, "GET", "/default/openapi.json")

    assert first.headers["content-type"] == "application/json"
    assert first.json() | {"info": 0} == described | {"info": 0}
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert below.content == first.content

"""Refusals in Kong's own words."""

import msgspec
import pytest

from api.responses import (
    BadGateway,
    BadRequest,
    Conflict,
    EntityNotFound,
    Forbidden,
    ForeignKeyViolation,
    InvalidOffset,
    InvalidOption,
    InvalidPrimaryKey,
    InvalidSize,
    Json,
    MethodNotAllowed,
    NotFound,
    SchemaViolation,
    TooLarge,
    Unavailable,
    UniqueViolation,
    UnsupportedMediaType,
    answer,
)
from eventstore.errors import (
    ConfigMoved,
    IdentityReused,
    LogUnavailable,
    OutcomeUnknown,
    Truncated,
    WrongVersion,
)

ID = "c57340ab-9fed-40fd-bb7e-1cef8d37c2df"


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        pytest.param(
            SchemaViolation({"config": {"url": "required field missing"}}),
            400,
            '{"message":"schema violation (config.url: required field missing)",'
            '"name":"schema violation","fields":{"config":{"url":"required field missing"}},'
            '"code":2}',
            id="one violation, nested",
        ),
        pytest.param(
            SchemaViolation({"source": "required field missing", "handler": "expected a string"}),
            400,
            '{"message":"2 schema violations (handler: expected a string; source: required field'
            ' missing)","name":"schema violation","fields":{"source":"required field missing",'
            '"handler":"expected a string"},"code":2}',
            id="two violations, sorted",
        ),
        pytest.param(
            SchemaViolation({"a": "unknown field"}, ["at least one of these fields"]),
            400,
            '{"message":"2 schema violations (at least one of these fields; a: unknown field)",'
            '"name":"schema violation","fields":{"@entity":["at least one of these fields"],'
            '"a":"unknown field"},"code":2}',
            id="about the entity first",
        ),
        pytest.param(
            SchemaViolation({"tags": [None, "expected a string"]}),
            400,
            '{"message":"schema violation (tags.2: expected a string)","name":"schema violation",'
            '"fields":{"tags":[null,"expected a string"]},"code":2}',
            id="a place in an array, counted from 1",
        ),
        pytest.param(
            SchemaViolation({"config": {"limits": {"day": "expected a number"}}}),
            400,
            '{"message":"schema violation (config.limits: {day=\\"expected a number\\"})",'
            '"name":"schema violation","fields":{"config":{"limits":{"day":"expected a number"}}},'
            '"code":2}',
            id="two levels down, as a table",
        ),
        pytest.param(
            UniqueViolation({"username": "bob"}),
            409,
            '{"message":"UNIQUE violation detected on \'{username=\\"bob\\"}\'",'
            '"name":"unique constraint violation","fields":{"username":"bob"},"code":5}',
            id="unique",
        ),
        pytest.param(
            InvalidPrimaryKey(),
            400,
            '{"message":"invalid primary key: \'{id=\\"expected a valid UUID\\"}\'",'
            '"name":"invalid primary key","fields":{"id":"expected a valid UUID"},"code":1}',
            id="primary key",
        ),
        pytest.param(
            EntityNotFound({"id": ID}),
            404,
            f'{{"message":"could not find the entity with primary key \'{{id=\\"{ID}\\"}}\'",'
            f'"name":"not found","fields":{{"id":"{ID}"}},"code":6}}',
            id="entity not found",
        ),
        pytest.param(
            ForeignKeyViolation.unknown("service", {"id": ID}, "services"),
            400,
            f'{{"message":"the foreign key \'{{id=\\"{ID}\\"}}\' does not reference an existing'
            f' \'services\' entity.","name":"foreign key violation",'
            f'"fields":{{"service":{{"id":"{ID}"}}}},"code":4}}',
            id="reference to nothing",
        ),
        pytest.param(
            ForeignKeyViolation.restricted("services", "routes"),
            400,
            "{\"message\":\"an existing 'routes' entity references this 'services' entity\","
            '"name":"foreign key violation","fields":{"@referenced_by":"routes"},"code":4}',
            id="still referenced",
        ),
        pytest.param(
            InvalidOption({"tags": "cannot be null"}),
            400,
            '{"message":"invalid option (tags: cannot be null)","name":"invalid options",'
            '"options":{"tags":"cannot be null"},"code":11}',
            id="option",
        ),
        pytest.param(
            InvalidSize(),
            400,
            '{"message":"size must be an integer between 1 and 1000","name":"invalid size",'
            '"code":9}',
            id="size",
        ),
        pytest.param(
            InvalidOffset("xyz", "bad base64 encoding"),
            400,
            '{"message":"\'xyz\' is not a valid offset: bad base64 encoding",'
            '"name":"invalid offset","code":7}',
            id="offset",
        ),
        pytest.param(NotFound(), 404, '{"message":"Not found"}', id="not found"),
        pytest.param(BadRequest("no"), 400, '{"message":"no"}', id="bad request"),
        pytest.param(Forbidden("no"), 403, '{"message":"no"}', id="forbidden"),
        pytest.param(Conflict("no"), 409, '{"message":"no"}', id="conflict"),
        pytest.param(BadGateway("no"), 502, '{"message":"no"}', id="bad gateway"),
        pytest.param(
            TooLarge(5), 413, '{"message":"the body is larger than 5 bytes"}', id="too large"
        ),
        pytest.param(
            UnsupportedMediaType(), 415, '{"message":"Unsupported Content-Type"}', id="media type"
        ),
    ],
)
def test_a_refusal_has_kongs_body(error: Exception, status: int, body: str) -> None:
    """Status and body of each refusal are what Kong's clients expect, byte for byte."""
    response = answer(error)

    assert response is not None
    assert (response.status_code, bytes(response.body).decode()) == (status, body)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (IdentityReused(None), 409, {}),
        (WrongVersion("consumers/1", 1, 2), 409, {}),
        (ConfigMoved(1, 2), 409, {}),
        (LogUnavailable("the queue is full"), 503, {"retry-after": "5"}),
        (LogUnavailable("no room left", full=True), 507, {"retry-after": "5"}),
        (OutcomeUnknown(), 503, {"retry-after": "1"}),
        (Unavailable("later", retry_after=9), 503, {"retry-after": "9"}),
        (MethodNotAllowed("GET, HEAD"), 405, {"allow": "GET, HEAD"}),
        (Truncated(8), 410, {}),
    ],
)
def test_the_logs_refusals_have_a_status(
    error: Exception, status: int, headers: dict[str, str]
) -> None:
    """Whoever may try again is told so; a refusal for good is a conflict."""
    response = answer(error)

    assert response is not None
    assert response.status_code == status
    assert msgspec.json.decode(response.body).keys() == {"message"}
    assert headers.items() <= dict(response.headers).items()


def test_an_unknown_outcome_says_how_to_find_out() -> None:
    """Neither stored nor refused: the same key brings certainty."""
    response = answer(OutcomeUnknown())

    assert response is not None
    assert b"same Idempotency-Key" in response.body


def test_a_bug_has_no_answer_of_its_own() -> None:
    """Unexpected exceptions are left to the front door."""
    assert answer(KeyError("x")) is None


def test_values_in_messages_are_quoted() -> None:
    """Text from outside cannot pretend to be structure."""
    error = UniqueViolation({"a-b": 'x"}y', "n": 1, "f": True, "z": None, "l": ["q"]})

    assert error.message == (
        'UNIQUE violation detected on \'{["a-b"]="x\\"}y",n=1,f=true,z=null,l={"q"}}\''
    )


def test_json_takes_headers() -> None:
    """Further headers stand beside the content type."""
    response = Json({"a": 1}, 201, [("Retry-After", "1")])

    assert response.status_code == 201
    assert response.headers["retry-after"] == "1"

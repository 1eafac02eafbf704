"""The document that describes the API: OpenAPI 3.1, made from its routes and from the tables.

Everything but the words follows from what runs: paths and methods from the router, entities from
their table, refusals from `api.responses`. A route that nobody has described is an error here, so
the document cannot fall behind.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MethodType
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute, Route

from api.entities import Endpoints, Subject
from api.openapi import parameters, problems
from api.openapi.entities import (
    ADMINS,
    change,
    creation,
    deletion,
    listing,
    replacement,
    showing,
)
from api.openapi.links import link
from api.openapi.operation import Operation, Shown
from api.openapi.own import OWN
from api.openapi.related import RELATED
from api.openapi.schemas import EntitySchemas, Schema
from api.openapi.upkeep import UPKEEP
from api.routing import Endpoint, endpoints_of

DESCRIBED: Final[Mapping[str, Operation]] = {**OWN, **UPKEEP, **RELATED, **ADMINS}
"""The operations that do not follow from the table of entities, by method and path."""

_DERIVED: Final[Mapping[Any, Callable[[Subject], Operation]]] = {
    Endpoints.list: listing,
    Endpoints.create: creation,
    Endpoints.show: showing,
    Endpoints.upsert: replacement,
    Endpoints.update: change,
    Endpoints.delete: deletion,
}
_FORMS: Final = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
_REF: Final = "#/components/schemas/{name}"

_ABOUT: Final = """\
Event hooks on an append-only log, speaking Kong's Admin API.

Every path also exists below the name or id of a workspace, `/{workspace}/...`; a plain path is
about the workspace `default`. A closing slash means nothing. HEAD is answered wherever GET is, and
OPTIONS everywhere, with all methods of a path in `Allow`; any other method is refused with 405.

Bodies are JSON or forms. In a form a field of a record is written `config.url=...` or
`config[url]=...`, an item of an array `tags[]=...` or `tags=...` again and again, and an empty
value is a null.

A 2xx answer to a write means that it is on disk. After a 503 it may be or not: send it again with
the same `Idempotency-Key`. Every answer has its `X-Request-Id`, also as `X-Kong-Admin-Request-Id`,
and `X-Kong-Admin-Latency` in milliseconds.

With `enforce_rbac` on, everything but what is marked as open wants a token."""

_HEADERS: Final[Mapping[str, tuple[str, Schema]]] = {
    "Allow": ("The methods of the path.", {"type": "string"}),
    "ETag": ("The version of what is answered, for `If-Match`.", {"type": "string"}),
    "Retry-After": ("In how many seconds to try again.", {"type": "integer", "minimum": 0}),
    "WWW-Authenticate": ("How to send a token.", {"type": "string"}),
    "X-Request-Id": ("The name of the request in the log.", {"type": "string"}),
}


def document(routes: Iterable[BaseRoute], version: str) -> dict[str, Any]:
    """The document for these routes, of which the first counts where two have the same path.

    Raises LookupError for an operation that nobody has described.
    """
    return _Writer(version).document([each for each in routes if isinstance(each, Route)])


def operation_of(method: str, path: str, endpoint: Endpoint) -> Operation:
    """What is said of an endpoint. Raises LookupError when nobody says anything."""
    described = DESCRIBED.get(f"{method} {path}")
    if described is None:
        owner = endpoint.__self__ if isinstance(endpoint, MethodType) else None
        if not isinstance(owner, Endpoints):
            raise LookupError(f"{method} {path} is not described in api/openapi")
        described = _DERIVED[getattr(endpoint, "__func__", None)](owner.subject)
    return described


class _Writer:
    """Writes one document, and gathers what its parts refer to."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._entities = EntitySchemas()
        self._structs: dict[str, Schema] = {}

    def document(self, routes: Iterable[Route]) -> dict[str, Any]:
        paths: dict[str, Schema] = {}
        tags: set[str] = set()
        for route in routes:
            path = parameters.plain_path(route.path)
            if path in paths:
                continue
            item = paths[path] = {"parameters": parameters.of_path(route.path)}
            for method, endpoint in endpoints_of(route).items():
                operation = operation_of(method, route.path, endpoint)
                tags.add(operation.tag)
                item[method.lower()] = self._operation(operation, endpoint)
        link(paths)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Hooktape Admin API",
                "version": self._version,
                "description": _ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [
                {"url": "/", "description": "The workspace `default`."},
                {
                    "url": "/{workspace}",
                    "description": "Any workspace.",
                    "variables": {"workspace": {"default": "default"}},
                },
            ],
            "security": [{}, {"token": []}, {"bearer": []}],
            "tags": [{"name": tag} for tag in sorted(tags, key=str.lower)],
            "paths": {path: paths[path] for path in sorted(paths)},
            "components": self._components(),
        }

    def _components(self) -> dict[str, Any]:
        schemas = [problems.problem_schemas(), self._structs, self._entities.components]
        return {
            "schemas": {name: part[name] for part in schemas for name in sorted(part)},
            "responses": problems.problem_responses(),
            "parameters": parameters.components(),
            "headers": {
                name: {"description": words, "schema": schema}
                for name, (words, schema) in _HEADERS.items()
            },
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "Kong-Admin-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        }

    def _operation(self, operation: Operation, endpoint: Endpoint) -> Schema:
        summary, description = _words(operation, endpoint)
        written: Schema = {
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": summary,
        }
        if description:
            written["description"] = description
        if given := parameters.of_operation(operation):
            written["parameters"] = given
        if operation.open:
            written["security"] = []
        if content := self._contents(operation):
            written["requestBody"] = {"content": content, "required": operation.body_required}
        written["responses"] = self._responses(operation)
        return written

    def _contents(self, operation: Operation) -> Schema:
        if operation.content is not None:
            return {kind: {"schema": self._schema(of)} for kind, of in operation.content.items()}
        if operation.body is None:
            return {}
        schema = self._shown(operation.body)
        return {kind: {"schema": schema} for kind in _FORMS}

    def _responses(self, operation: Operation) -> Schema:
        refused = {*problems.EVERYWHERE, *operation.problems}
        if operation.writes:
            refused.update(problems.WRITING)
        if operation.versioned:
            refused.add(412)
        responses: Schema = {
            str(status): {"$ref": f"#/components/responses/{problems.response_name(status)}"}
            for status in sorted(refused)
        }
        for status, shown in operation.answers.items():
            responses[str(status)] = self._answer(status, shown, operation)
        return dict(sorted(responses.items()))

    def _answer(self, status: int, shown: Shown, operation: Operation) -> Schema:
        answer: Schema = {
            "description": _MEANING[status],
            "headers": problems.headers(("ETag",) if operation.etag and status < 400 else ()),
        }
        if shown is not None:
            answer["content"] = {operation.media_type: {"schema": self._shown(shown)}}
        return answer

    def _shown(self, shown: Shown) -> Schema:
        if isinstance(shown, type):
            return self._schema(shown)
        assert shown is not None  # noqa: S101 - asked by the callers
        return shown(self._entities)

    def _schema(self, type_: Any) -> Schema:
        (schema,), components = msgspec.json.schema_components([type_], ref_template=_REF)
        self._structs |= components
        return schema


_MEANING: Final = {
    200: "As it is.",
    201: "Stored.",
    202: "Stored, and on its way.",
    204: "Done.",
    304: "As before.",
    503: "Not now.",
}


def _words(operation: Operation, endpoint: Endpoint) -> tuple[str, str]:
    """The sentence and the description of an operation, from the endpoint's docstring."""
    plain = endpoint.func if isinstance(endpoint, partial) else endpoint
    told = inspect.getdoc(plain) or ""
    summary, _, description = told.partition("\n\n")
    if operation.summary:
        summary, description = operation.summary, told
    return " ".join(summary.split()).rstrip("."), description

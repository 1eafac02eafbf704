"""What the Admin API answers: one JSON response and one table from exception to answer.

The bodies of refusals are Kong's: `{"message"}` alone, or with `name`, `fields` and `code`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from eventstore.errors import LogUnavailable, OutcomeUnknown, Refused, Truncated

_JSON_TYPE = (b"content-type", b"application/json; charset=utf-8")
_encode = msgspec.json.Encoder().encode


class Json(Response):
    """`content` as JSON. Faster than Starlette's own because its headers need no parsing."""

    media_type = "application/json"

    def __init__(
        self, content: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.status_code = status
        self.background = None
        self.body = _encode(content)
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            _JSON_TYPE,
            *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers),
        ]


class RequestError(Exception):
    """A request that is refused, with the sentence its sender is given.

    `fields` names the parts at fault; only problems that Kong numbers have them.
    """

    def __init__(self, message: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class SchemaViolation(RequestError):
    """The entity sent is not valid. `fields` is nested like the entity, with a text at each leaf.

    `entity` holds texts about the entity as a whole.
    """

    def __init__(self, fields: Mapping[str, Any], entity: Sequence[str] = ()) -> None:
        texts = [*entity, *_texts(fields)]
        super().__init__(
            _counted("schema violation", "schema violations", texts),
            {"@entity": list(entity), **fields} if entity else fields,
        )


class PrimaryKeyViolation(RequestError):
    """An entity is to be created under an id that another one has."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        super().__init__(f"primary key violation on key '{_lua(key)}'", key)


class UniqueViolation(RequestError):
    """`key` holds the fields and values that another entity already has."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        super().__init__(f"UNIQUE violation detected on '{_lua(key)}'", key)


class ForeignKeyViolation(RequestError):
    """A reference to an entity that is not there, or a delete of one that is still referenced."""

    @classmethod
    def unknown(cls, field: str, key: Mapping[str, Any], table: str) -> "ForeignKeyViolation":
        """`field` refers to `key`, which `table` does not hold."""
        message = f"the foreign key '{_lua(key)}' does not reference an existing '{table}' entity."
        return cls(message, {field: key})

    @classmethod
    def restricted(cls, table: str, child: str) -> "ForeignKeyViolation":
        """An entity of `table` cannot go while one of `child` refers to it."""
        message = f"an existing '{child}' entity references this '{table}' entity"
        return cls(message, {"@referenced_by": child})


class ForeignKeysUnresolved(RequestError):
    """References by a unique value that no entity has.

    `unresolved` holds, by field and by name of the unique field, that value and the table.
    """

    def __init__(self, unresolved: Mapping[str, Mapping[str, tuple[str, str]]]) -> None:
        fields = {
            field: {name: _unresolved(name, *target) for name, target in targets.items()}
            for field, targets in unresolved.items()
        }
        message = _counted("foreign key unresolved", "foreign keys unresolved", _texts(fields))
        super().__init__(message, fields)


class InvalidPrimaryKey(RequestError):
    """`fields` says what is wrong with each part of the key."""

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        wrong = fields or {"id": "expected a valid UUID"}
        super().__init__(f"invalid primary key: '{_lua(wrong)}'", wrong)


class EntityNotFound(RequestError):
    """A write to an entity that does not exist; a read raises `NotFound`."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        what = "primary key " if "id" in key else ""
        super().__init__(f"could not find the entity with {what}'{_lua(key)}'", key)


class InvalidSize(RequestError):
    def __init__(self, message: str = "size must be an integer between 1 and 1000") -> None:
        super().__init__(message)


class InvalidOffset(RequestError):
    def __init__(self, offset: str, reason: str) -> None:
        super().__init__(f"'{offset}' is not a valid offset: {reason}")


class InvalidOption(RequestError):
    """Options are the parameters of a query."""

    def __init__(self, options: Mapping[str, str]) -> None:
        message = _counted("invalid option", "option violations", _texts(options))
        super().__init__(message, options)


class NotFound(RequestError):
    def __init__(self, message: str = "Not found") -> None:
        super().__init__(message)


class MethodNotAllowed(RequestError):
    """`allow` lists the methods of the path, ready for the header."""

    def __init__(self, allow: str) -> None:
        super().__init__("Method not allowed")
        self.allow = allow


class BadRequest(RequestError):
    """The request as such cannot be understood."""


class Unauthorized(RequestError):
    """No token, or one that nobody has. Which of them is not told."""

    def __init__(self) -> None:
        super().__init__("Invalid RBAC credentials")


class Forbidden(RequestError):
    """Understood, and not permitted."""


class Conflict(RequestError):
    """Contradicts the present state."""


class PreconditionFailed(RequestError):
    """`If-Match` names another version than the present one."""


class TooLarge(RequestError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class UnsupportedMediaType(RequestError):
    def __init__(self) -> None:
        super().__init__("Unsupported Content-Type")


class BadGateway(RequestError):
    """Another server or a user's code, asked on behalf of the request, did not do its part.

    `details` go into the answer beside the message.
    """

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}


class Unavailable(RequestError):
    """Nothing was stored and the same request may succeed in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


ANSWERS: Mapping[type[RequestError], tuple[int, int | None, str]] = {
    InvalidPrimaryKey: (400, 1, "invalid primary key"),
    SchemaViolation: (400, 2, "schema violation"),
    PrimaryKeyViolation: (400, 3, "primary key violation"),
    ForeignKeyViolation: (400, 4, "foreign key violation"),
    UniqueViolation: (409, 5, "unique constraint violation"),
    EntityNotFound: (404, 6, "not found"),
    InvalidOffset: (400, 7, "invalid offset"),
    InvalidSize: (400, 9, "invalid size"),
    InvalidOption: (400, 11, "invalid options"),
    ForeignKeysUnresolved: (400, 13, "foreign keys unresolved"),
    BadRequest: (400, None, ""),
    Unauthorized: (401, None, ""),
    Forbidden: (403, None, ""),
    NotFound: (404, None, ""),
    MethodNotAllowed: (405, None, ""),
    Conflict: (409, None, ""),
    PreconditionFailed: (412, None, ""),
    TooLarge: (413, None, ""),
    UnsupportedMediaType: (415, None, ""),
    BadGateway: (502, None, ""),
    Unavailable: (503, None, ""),
}
"""Status, and for the problems that Kong numbers the code and the name that go into the body."""

_UNKNOWN = (
    "it is unknown whether the request was stored: send it again with the same Idempotency-Key"
    " (or the same event ids) to find out"
)


def answer(error: Exception) -> Json | None:
    """The response to an expected exception; None when it is a bug and nobody's answer."""
    match error:
        case RequestError():
            return refuse(error)
        case OutcomeUnknown():
            return Json({"message": _UNKNOWN}, 503, [("retry-after", "1")])
        case LogUnavailable():
            status = 507 if error.full else 503
            return Json({"message": error.reason}, status, [("retry-after", "5")])
        case Refused():
            return Json({"message": str(error)}, 409)
        case Truncated():
            return Json({"message": str(error)}, 410)
    return None


def refuse(problem: RequestError) -> Json:
    """The response to a request that is refused."""
    status, code, name = ANSWERS[type(problem)]
    body: dict[str, object] = {"message": problem.message}
    headers: list[tuple[str, str]] = []
    if code is not None:
        body["name"] = name
        if problem.fields is not None:
            body["options" if isinstance(problem, InvalidOption) else "fields"] = problem.fields
        body["code"] = code
    if isinstance(problem, MethodNotAllowed):
        headers.append(("allow", problem.allow))
    if isinstance(problem, Unauthorized):
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(problem, BadGateway):
        body |= problem.details
    if isinstance(problem, Unavailable):
        headers.append(("retry-after", str(problem.retry_after)))
    return Json(body, status, headers)


def _texts(fields: Mapping[str, Any]) -> list[str]:
    """Kong spells out one level of nesting as `a.b: text`; deeper ones are printed as tables.

    Faults in an array are listed by place, counted from 1; places without one hold None.
    """
    texts = []
    for name, problem in sorted(fields.items()):
        inner = dict(enumerate(problem, 1)) if isinstance(problem, list) else problem
        if isinstance(inner, Mapping):
            found = [(key, text) for key, text in sorted(inner.items()) if text]
            texts += [f"{name}.{key}: {_plain(text)}" for key, text in found]
        else:
            texts.append(f"{name}: {problem}")
    return texts


def _unresolved(name: str, value: str, table: str) -> str:
    key = _lua({name: value})
    return f"the foreign key cannot be resolved with '{key}' for an existing '{table}' entity"


def _counted(one: str, many: str, texts: Sequence[str]) -> str:
    return f"{one if len(texts) == 1 else f'{len(texts)} {many}'} ({'; '.join(texts)})"


def _plain(text: object) -> str:
    return text if isinstance(text, str) else _lua(text)


def _lua(value: object) -> str:
    """A value as Kong prints it in messages: `{id="x",n=1}`."""
    match value:
        case Mapping():
            return "{" + ",".join(f"{_key(key)}={_lua(item)}" for key, item in value.items()) + "}"
        case str():
            return _quoted(value)
        case list() | tuple():
            return "{" + ",".join(map(_lua, value)) + "}"
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
    return str(value)


def _key(key: str) -> str:
    return key if key.isidentifier() else f"[{_quoted(key)}]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

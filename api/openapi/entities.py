"""The operations on entities, which follow from the table of entities alone."""

from collections.abc import Mapping
from typing import Final

import msgspec

from api.entities import Subject
from api.openapi.operation import Made, Operation, one, page, record
from api.openapi.schemas import EntitySchemas, Schema, required, singular
from projections.tables import TABLES, Table

_WORDS: Final = {
    "acls": "ACLs",
    "basicauth": "basic-auth",
    "ca": "CA",
    "hmacauth": "HMAC-auth",
    "jwt": "JWT",
    "keyauth": "key-auth",
    "oauth2": "OAuth 2.0",
    "rbac": "RBAC",
    "snis": "SNIs",
}
_VOWELS: Final = ("a", "A", "e", "i", "o", "O", "u", "HMAC", "SNI", "RBAC")


def listing(subject: Subject) -> Operation:
    """GET of a collection."""
    table = subject.table
    query = ("size", "offset", "tags") if "tags" in table.record.fields else ("size", "offset")
    if table.search is not None:
        query = (*query, table.search)
    return Operation(
        id=f"list_{table.name}{_of(subject)}",
        tag=tag_of(table),
        summary=f"List {words(table)}{_belonging(subject)}.",
        answers={200: page(one(table.name))},
        query=query,
    )


def creation(subject: Subject) -> Operation:
    table = subject.table
    parent = None if subject.nested is None else subject.nested.field
    shown = _shown(table, table.wrapped)
    return Operation(
        id=f"create_{singular(table.name)}{_of(subject)}",
        tag=tag_of(table),
        summary=f"Create {_one(table)}{_belonging(subject)}.",
        answers={200 if table.wrapped else 201: shown},
        body=lambda schemas: schemas.input(table, parent=parent),
        body_required=bool(set(required(table.record)) - {parent}),
        etag=True,
    )


def showing(subject: Subject) -> Operation:
    """GET of one entity."""
    table = subject.table
    return Operation(
        id=f"get_{_subject(subject)}",
        tag=tag_of(table),
        summary=f"Show {_one(table)}{_belonging(subject)}.",
        answers={200: _shown(table, table.shown_as)},
        etag=True,
    )


def replacement(subject: Subject) -> Operation:
    """PUT. Where the path has the key it need not be sent; a reference is followed by id."""
    table = subject.table
    parent = None if subject.nested is None else subject.nested.field
    key = None if subject.referred is not None else table.key

    def body(schemas: EntitySchemas) -> Schema:
        return schemas.input(table, parent=parent, key=key)

    return Operation(
        id=f"upsert_{_subject(subject)}",
        tag=tag_of(table),
        summary=f"Create or replace {_one(table)}{_belonging(subject)}.",
        answers={200: one(table.name)},
        body=body,
        body_required=bool(set(required(table.record)) - {parent, key}),
        versioned=True,
        etag=True,
    )


def change(subject: Subject) -> Operation:
    table = subject.table
    return Operation(
        id=f"update_{_subject(subject)}",
        tag=tag_of(table),
        summary=f"Change what is sent of {_one(table)}{_belonging(subject)}.",
        answers={200: one(table.name)},
        body=lambda schemas: schemas.patch(table),
        body_required=False,
        versioned=True,
        etag=True,
    )


def deletion(subject: Subject) -> Operation:
    table = subject.table
    return Operation(
        id=f"delete_{_subject(subject)}",
        tag=tag_of(table),
        summary=f"Delete {_one(table)}{_belonging(subject)}, and what belongs to it.",
        answers={204: None},
        stores=True,
        versioned=True,
    )


def _admins() -> Mapping[str, Operation]:
    """Admins are written by endpoints of their own, which tell no version."""
    subject, path = Subject(TABLES["admins"], None, None), "/admins/{admins}"
    made = {
        "POST /admins": creation(subject),
        f"PUT {path}": replacement(subject),
        f"PATCH {path}": change(subject),
        f"DELETE {path}": deletion(subject),
    }
    return {key: msgspec.structs.replace(each, etag=False) for key, each in made.items()}


def tag_of(table: Table) -> str:
    """The headline under which the operations on a table are listed."""
    if table.name.startswith("rbac_"):
        return "RBAC"
    name = words(table)
    return name[:1].upper() + name[1:]


def words(table: Table) -> str:
    """`jwt_secrets` are JWT secrets."""
    return " ".join(_WORDS.get(word, word) for word in table.name.split("_"))


def _one(table: Table) -> str:
    name = singular(words(table))
    return f"an {name}" if name.startswith(_VOWELS) else f"a {name}"


def _subject(subject: Subject) -> str:
    """What ids are made with: by way of a reference the field, otherwise the table."""
    if subject.referred is not None:
        return f"{subject.referred.field}_of_{singular(subject.referred.table.name)}"
    return f"{singular(subject.table.name)}{_of(subject)}"


def _of(subject: Subject) -> str:
    return "" if subject.nested is None else f"_of_{singular(subject.nested.table.name)}"


def _belonging(subject: Subject) -> str:
    if subject.referred is not None:
        return f" that {_one(subject.referred.table)} refers to as {subject.referred.field}"
    return "" if subject.nested is None else f" of {_one(subject.nested.table)}"


def _shown(table: Table, under: str | None) -> Made:
    return one(table.name) if under is None else record(**{under: one(table.name)})


ADMINS: Final = _admins()
"""By method and path, as the other operations with descriptions of their own."""

"""The table of entities, and what is computed from it."""

from typing import Any

import msgspec
import pytest

from projections import checks, shorthands
from projections.fields import compile_record
from projections.stored import restore, reveal, shown, store, without_nulls
from projections.tables import TABLES, Names, Table
from projections.upstreams import hashing

HOOKS = TABLES["event_hooks"].record
HOOK = {
    "id": "i",
    "created_at": 1,
    "updated_at": 1,
    "source": "crud",
    "event": None,
    "handler": "webhook",
    "on_change": None,
    "snooze": None,
    "config": {
        "url": "http://x",
        "headers": {},
        "secret": "s3",
        "ssl_verify": True,
        "signature_algorithm": "sha256",
    },
}
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

all_tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())


@all_tables
def test_a_table_is_consistent(table: Table) -> None:
    """Keys and combinations name fields, references name tables, every entity has an id."""
    fields = table.record.fields

    assert {"id", "created_at"} <= fields.keys()
    assert {*table.together, *filter(None, [table.key, table.search])} <= fields.keys()
    assert all(f.shape.foreign and f.shape.foreign.table in TABLES for f in table.references)


@pytest.mark.parametrize(
    ("table", "names"), [(table, table.names) for table in TABLES.values() if table.names]
)
def test_names_are_those_of_entities_that_refer_back(table: Table, names: Names) -> None:
    """The list is a shorthand, and what it stands for belongs to the entity that has it."""
    named = TABLES[names.table].record.fields
    foreign = named[names.by].shape.foreign

    assert table.record.fields[names.field].transient
    assert named[names.name].unique
    assert foreign is not None
    assert (foreign.table, foreign.cascade) == (table.name, True)


def test_a_type_that_no_field_can_have_is_refused() -> None:
    """A mistake in the table shows when it is loaded."""

    class Wrong(msgspec.Struct):
        amount: complex

    with pytest.raises(TypeError, match="no entity field can be of type"):
        compile_record(Wrong)


def test_storing_takes_out_nulls_secrets_and_defaults_of_extensions() -> None:
    """What is left is what hooks and feeds may show."""
    public, secrets = store(HOOKS, HOOK)

    assert public == {
        "id": "i",
        "created_at": 1,
        "updated_at": 1,
        "source": "crud",
        "handler": "webhook",
        "config": {"url": "http://x", "headers": {}, "ssl_verify": True},
    }
    assert secrets == {"config.secret": "s3"}


def test_what_was_stored_can_be_shown_whole() -> None:
    """Fields without a value come back as null, secrets in place, extensions stay away."""
    config = {"url": "http://x", "headers": {}, "secret": "s3", "ssl_verify": True}

    assert shown(HOOKS, *store(HOOKS, HOOK)) == HOOK | {"config": config}


def test_an_extension_that_was_set_is_shown() -> None:
    """Only the default of an extension goes without saying."""
    config = {**HOOK["config"], "signature_algorithm": "sha1"}  # type: ignore[dict-item]
    public, secrets = store(HOOKS, HOOK | {"config": config})

    assert shown(HOOKS, public, secrets)["config"] == config


def test_hashes_are_kept_but_never_shown() -> None:
    """A token's hash is there to be compared with, not to be read."""
    record = TABLES["rbac_users"].record
    user = {"id": "i", "created_at": 1, "updated_at": 1, "name": "a", "user_token": "5e88"}
    public, secrets = store(record, user)

    assert restore(record, public, secrets)["user_token"] == "5e88"
    assert "user_token" not in shown(record, public, secrets)
    assert "user_token" not in public


def test_a_field_newer_than_the_entity_has_its_default() -> None:
    """An entity stored before a field existed is shown as if it had been created with it."""
    whole = restore(TABLES["services"].record, {"id": "i", "host": "h"}, {})

    assert (whole["protocol"], whole["retries"], whole["enabled"]) == ("http", None, True)
    assert (
        restore(TABLES["upstreams"].record, {"id": "i"}, {})["healthchecks"]["passive"]["type"]
        is None
    )


def test_revealing_changes_a_copy() -> None:
    """Secrets go back in place without touching what they were kept apart from."""
    entity = {"config": {"url": "u"}}

    assert reveal(entity, {"config.secret": "s", "key": "k"}) == {
        "config": {"url": "u", "secret": "s"},
        "key": "k",
    }
    assert entity == {"config": {"url": "u"}}


def test_nulls_in_arrays_keep_their_places() -> None:
    """A null member of a map goes, a null item of an array is an item."""
    assert without_nulls({"a": None, "b": [None, {"c": None}]}) == {"b": [None, {}]}


@pytest.mark.parametrize(
    ("check", "value", "fault"),
    [
        (checks.uuid, "c57340ab-9fed-40fd-bb7e-1cef8d37c2df", None),
        (checks.uuid, "C57340AB-9FED-40FD-BB7E-1CEF8D37C2DF", None),
        (checks.uuid, "c57340ab9fed40fdbb7e1cef8d37c2df", "expected a valid UUID"),
        (checks.http_method, "POST", None),
        (checks.http_method, "get", "invalid value: get"),
        (checks.http_url, "https://hooks.slack.com/services/foo", None),
        (checks.http_url, "http://[::1]:8080/x?y=%20", None),
        (checks.http_url, "hooks.slack.com/x", "missing host in url"),
        (checks.http_url, "//hooks.slack.com/x", "missing scheme in url"),
        (checks.http_url, "http://", "missing host in url"),
        (checks.http_url, "ftp://x/y", "expected an http or https url"),
        (checks.http_url, "http://x:99999/", "could not parse url. Port out of range 0-65535"),
        (checks.http_url, "http://x:0/", "could not parse url. Port out of range 1-65535"),
        (checks.http_url, "http://[::1", "could not parse url. Invalid IPv6 URL"),
        (
            checks.http_url,
            "http://x/\r\nHost: y",
            "could not parse url. it contains blanks or control characters",
        ),
        (checks.name, "a-b.c_~é", None),
        (
            checks.name,
            "a b",
            (
                "invalid value 'a b': the only accepted ascii characters are alphanumerics"
                " or ., -, _, and ~"
            ),
        ),
        (checks.tag, "two words", None),
        (
            checks.tag,
            "a,b",
            (
                "invalid tag 'a,b': expected printable ascii (except `,` and `/`)"
                " or valid utf-8 sequences"
            ),
        ),
        (checks.event_name, "consumers:create", None),
        (
            checks.event_name,
            "a/b",
            "invalid value: expected 1 to 128 printable characters without '/'",
        ),
        (checks.header_name, "Content-type", None),
        (
            checks.header_name,
            "a b",
            "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
        ),
        (checks.header_value, "a\r\nb: c", "invalid value: control character"),
        (checks.path, "/a%20b", None),
        (checks.path, "a", "should start with: /"),
        (checks.path, "/a//b", "must not have empty segments"),
        (checks.path, "/a%2", "invalid url-encoded value: '%2'"),
        (
            checks.path,
            "/a b",
            "invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)",
        ),
        (checks.route_path, "~/a(b|c)$", None),
        (checks.route_path, "a", "should start with: / (fixed path) or ~/ (regex path)"),
        (checks.host, "example.com", None),
        (checks.host, "127.0.0.1", None),
        (checks.host, "[::1]", None),
        (checks.host, "example.com:80", "must not have a port"),
        (checks.host, "a b", "invalid value: a b"),
        (checks.wildcard_host, "*.example.com", None),
        (checks.wildcard_host, "a.*.com", "wildcard must be leftmost or rightmost character"),
        (checks.wildcard_host, "*.a.*", "only one wildcard must be specified"),
        (checks.wildcard_host, "1.1.1.1", "must not be an IP"),
        (checks.route_host, "*.example.com:80", None),
        (checks.route_host, "1.1.1.1:80", None),
        (checks.upstream_name, "backend", None),
        (checks.upstream_name, "1.1.1.1", "Invalid name ('1.1.1.1'); no ip addresses allowed"),
        (checks.upstream_name, "a:80", "Invalid name ('a:80'); no port allowed"),
        (checks.upstream_name, "a b", "Invalid name ('a b'); must be a valid hostname"),
        (checks.target, "10.0.0.5:8080", None),
        (checks.target, "[::1]:80", None),
        (checks.target, "backend", None),
        (
            checks.target,
            "backend:99999",
            "Invalid target ('backend:99999'); not a valid hostname or ip address",
        ),
        (checks.certificate, PEM, None),
        (checks.certificate, "x", "invalid certificate: not in PEM format"),
        (checks.private_key, PEM, "invalid key: not in PEM format"),
        (checks.private_key, PEM.replace("CERTIFICATE", "EC PRIVATE KEY"), None),
        (checks.certificate, PEM.replace("AAAA", "AAA"), "invalid certificate: not in PEM format"),
    ],
)
def test_values_are_checked_in_kongs_words(
    check: checks.Check, value: str, fault: str | None
) -> None:
    """Each check passes what Kong passes and says what Kong says."""
    assert check(value) == fault


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a", ("http", "a", 80, None)),
        ("https://a/b/c", ("https", "a", 443, "/b/c")),
        ("http://a:8080/", ("http", "a", 8080, "/")),
        ("grpc://a:9000", ("grpc", "a", 9000, None)),
        ("http://a:x/", (None, None, None, None)),
        ("a", ("http", None, 80, "a")),
    ],
)
def test_a_service_can_be_given_by_its_url(url: str, expected: tuple[Any, ...]) -> None:
    """The parts of `url` become fields; what it lacks is left to the validation."""
    args = shorthands.from_url({"url": url})

    assert tuple(args.get(name) for name in ("protocol", "host", "port", "path")) == expected


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ({"hash_on": "ip"}, {"algorithm": "consistent-hashing"}),
        ({"algorithm": "latency", "hash_on": "ip"}, {"hash_on": "none"}),
        ({"algorithm": "least-connections"}, {"hash_on": "none"}),
        ({"algorithm": "round-robin"}, {}),
        ({"hash_on": "none"}, {}),
    ],
)
def test_hashing_and_algorithm_follow_each_other(args: Any, changed: Any) -> None:
    """Whichever of the two is sent decides the other."""
    assert hashing(args) == args | changed


@pytest.mark.parametrize(
    ("given", "stored"),
    [("a", "a:8000"), ("a:1", "a:1"), ("[::1]", "[::1]:8000"), ("[::1]:1", "[::1]:1")],
)
def test_a_target_without_a_port_has_port_8000(given: str, stored: str) -> None:
    """As in Kong, whatever form the host has."""
    assert shorthands.with_port({"target": given}) == {"target": stored}


def test_a_ca_certificate_is_known_by_its_digest() -> None:
    """The same certificate twice is found by what it is, not by how it is written."""
    digest = "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c"

    assert shorthands.with_digest({"cert": PEM})["cert_digest"] == digest
    assert shorthands.with_digest({"cert": "\n" + PEM})["cert_digest"] == digest

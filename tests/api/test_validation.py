# ruff: noqa: E501 - texts are compared whole
"""What may be sent, and what is said about the rest."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from api.responses import SchemaViolation
from api.validation import inferred, merged, validated
from projections.stored import restore, store
from projections.tables import TABLES

STAMPS = {"id": "0fd2319f-4f4f-4f4f-8f8f-0123456789ab", "created_at": 1, "updated_at": 1}
UUID = "c57340ab-9fed-40fd-bb7e-1cef8d37c2df"


def faults(table: str, **args: Any) -> Any:
    """The `fields` of the refusal of these arguments."""
    with pytest.raises(SchemaViolation) as refused:
        validated(TABLES[table], STAMPS | args)
    return refused.value.fields


def entity(table: str, **args: Any) -> dict[str, Any]:
    return validated(TABLES[table], STAMPS | args)


def test_a_consumer_needs_a_name_of_some_kind() -> None:
    """The check of the whole entity comes with Kong's text."""
    with pytest.raises(SchemaViolation) as refused:
        validated(TABLES["consumers"], STAMPS)

    text = "at least one of these fields must be non-empty: 'custom_id', 'username'"
    assert refused.value.message == f"schema violation ({text})"
    assert refused.value.fields == {"@entity": [text]}


def test_all_faults_are_told_at_once() -> None:
    """Wrong, missing and unknown fields are all named, next to what is wrong with the whole."""
    assert faults(
        "routes", name=1, foo=1, protocols=["http"], strip_path=None, hosts=["a", "b c"]
    ) == {
        "name": "expected a string",
        "foo": "unknown field",
        "strip_path": "required field missing",
        "hosts": [None, "invalid value: b c"],
    }


@pytest.mark.parametrize(
    ("table", "field", "value", "fault"),
    [
        ("consumers", "username", "", "length must be at least 1"),
        ("consumers", "username", "a\0b", "must not contain NUL"),
        ("consumers", "username", "\ud800", "invalid utf-8 character sequence"),
        ("consumers", "id", "x", "expected a valid UUID"),
        ("consumers", "tags", "x", "expected a set"),
        ("consumers", "tags", ["a,"], ["invalid tag 'a,': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"]),
        ("consumers", "type", 9, "expected one of: 0, 1, 2, 3"),
        ("services", "port", 70000, "value should be between 0 and 65535"),
        ("services", "port", "80", "expected an integer"),
        ("services", "port", 80.5, "expected an integer"),
        ("services", "port", True, "expected an integer"),
        ("services", "port", math.inf, "expected an integer"),
        ("services", "enabled", "true", "expected a boolean"),
        ("services", "enabled", 1, "expected a boolean"),
        ("services", "protocol", "gopher", "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp, ws, wss"),
        ("services", "url", 5, "expected a string"),
        ("services", "ca_certificates", [None, UUID], ["required field missing", None]),
        ("services", "ca_certificates", {"a": 1}, "expected an array"),
        ("services", "client_certificate", "x", "expected a record"),
        ("services", "client_certificate", {}, {"id": "missing primary key"}),
        ("services", "client_certificate", {"id": 1}, {"id": "expected a string"}),
        ("services", "client_certificate", {"id": "x"}, {"id": "expected a valid UUID"}),
        ("routes", "regex_priority", 2**60, "value should be between -9007199254740991 and 9007199254740991"),
        ("routes", "protocols", [], "length must be at least 1"),
        ("routes", "headers", "x", "expected a map"),
        ("routes", "headers", {"a": "b"}, "expected an array"),
        ("routes", "headers", {"a b": ["c"]}, "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'"),
        ("routes", "protocols", ["http", "tcp"], "these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp'), ('tls_passthrough'), ('grpc', 'grpcs'), ('ws', 'wss')"),
        ("upstreams", "healthchecks", [1], "expected a record"),
        ("upstreams", "healthchecks", {"active": {"timeout": "x", "nope": 1}}, {"active": {"timeout": "expected a number", "nope": "unknown field"}}),
        ("upstreams", "healthchecks", {"threshold": 101}, {"threshold": "value should be between 0 and 100"}),
        ("plugins", "config", "x", "expected a record"),
        ("plugins", "config", None, "required field missing"),
        ("plugins", "config", {"a": ["\ud800"]}, "invalid utf-8 character sequence"),
    ],
)  # fmt: skip
def test_each_fault_has_kongs_text(table: str, field: str, value: Any, fault: Any) -> None:
    """One wrong value, and what is said about it."""
    needed: dict[str, dict[str, Any]] = {
        "consumers": {"username": "a"},
        "services": {"host": "a"},
        "routes": {"hosts": ["a"]},
        "upstreams": {"name": "a"},
        "plugins": {"name": "cors"},
    }

    assert faults(table, **needed[table] | {field: value}) == {field: fault}


def test_free_values_may_not_be_nested_without_end() -> None:
    """A configuration that is taken as given still has to be storable."""
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}

    assert faults("plugins", name="x", config=deep) == {
        "config": "must not be nested deeper than 64 levels"
    }


def test_json_is_taken_strictly_but_for_what_lua_clients_send() -> None:
    """28.0 is an integer, and empty arrays and maps are the same."""
    service = entity("services", host="a", port=28.0, protocol="https", ca_certificates={})
    route = entity("routes", hosts=["a"], headers=[])

    assert (service["port"], service["ca_certificates"]) == (28, [])
    assert isinstance(service["port"], int)
    assert route["headers"] == {}


def test_sets_hold_each_item_once() -> None:
    """Repetitions go, the order stays, whatever the items are."""
    route = entity("routes", protocols=["tcp"], sources=[{"port": 2}, {"port": 1}, {"port": 2}])
    consumer = entity("consumers", username="a", tags=["b", "a", "b"])

    assert [source["port"] for source in route["sources"]] == [2, 1]
    assert consumer["tags"] == ["b", "a"]


def test_defaults_are_kongs() -> None:
    """A service of nothing but a host."""
    assert entity("services", host="a") == STAMPS | {
        "name": None,
        "url": None,
        "retries": 5,
        "protocol": "http",
        "host": "a",
        "port": 80,
        "path": None,
        "connect_timeout": 60000,
        "write_timeout": 60000,
        "read_timeout": 60000,
        "tags": None,
        "client_certificate": None,
        "tls_verify": None,
        "tls_verify_depth": None,
        "ca_certificates": None,
        "enabled": True,
    }


def test_null_clears_a_default_where_kong_lets_it() -> None:
    """`retries` has a default and may be null; `protocol` may not."""
    assert entity("services", host="a", retries=None)["retries"] is None
    assert faults("services", host="a", protocol=None) == {"protocol": "required field missing"}


@pytest.mark.parametrize(
    ("table", "args", "fields"),
    [
        (
            "services",
            {"host": "a", "protocol": "tcp", "path": "/x"},
            {
                "@entity": ["failed conditional validation given value of field 'protocol'"],
                "path": "value must be null",
            },
        ),
        (
            "routes",
            {},
            {"@entity": ["must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"]},
        ),
        (
            "routes",
            {"protocols": ["http"], "hosts": ["a"], "snis": ["b"]},
            {"@entity": ["'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"]},
        ),
        (
            "routes",
            {"protocols": ["tcp"], "paths": ["/a"]},
            {
                "@entity": ["must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'"],
                "paths": "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
            },
        ),
        (
            "routes",
            {"protocols": ["tls_passthrough"]},
            {"@entity": ["must set snis when 'protocols' is 'tls_passthrough'"]},
        ),
        (
            "routes",
            {"protocols": ["grpc"], "hosts": ["a"], "methods": ["GET"]},
            {"methods": "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'"},
        ),
        ("routes", {"protocols": [{}], "snis": ["a"]}, {"protocols": ["expected a string"]}),
        (
            "routes",
            {"protocols": ["ws"], "methods": ["GET"]},
            {
                "@entity": ["must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'ws'"],
                "methods": "cannot set 'methods' when 'protocols' is 'ws' or 'wss'",
            },
        ),
        (
            "filter_chains",
            {"filters": []},
            {
                "@entity": ["exactly one of these fields must be non-empty: 'service', 'route'"],
                "filters": "length must be at least 1",
            },
        ),
        (
            "keys",
            {"kid": "1"},
            {"@entity": ["at least one of these fields must be non-empty: 'jwk', 'pem'"]},
        ),
        (
            "upstreams",
            {"name": "a", "hash_on": "header"},
            {
                "@entity": ["failed conditional validation given value of field 'hash_on'"],
                "hash_on_header": "required field missing",
            },
        ),
        (
            "upstreams",
            {"name": "a", "hash_on": "ip", "hash_fallback": "ip"},
            {
                "@entity": ["failed conditional validation given value of field 'hash_on'"],
                "hash_fallback": "expected one of: none, consumer, header, cookie, path, query_arg, uri_capture",
            },
        ),
        (
            "upstreams",
            {
                "name": "a",
                "hash_on": "header",
                "hash_fallback": "header",
                "hash_on_header": "x",
                "hash_fallback_header": "x",
            },
            {"@entity": ["values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header'"]},
        ),
        (
            "certificates",
            {},
            {"cert": "required field missing", "key": "required field missing"},
        ),
    ],
)  # fmt: skip
def test_fields_that_depend_on_each_other(table: str, args: Any, fields: Any) -> None:
    """Conditions over several fields, with the texts that Kong has for them."""
    assert faults(table, **args) == fields


@pytest.mark.parametrize(
    ("args", "fields"),
    [
        ({}, {"handler": "required field missing", "source": "required field missing"}),
        ({"source": "crud", "handler": "webhook"}, {"config": {"url": "required field missing"}}),
        (
            {"source": "crud", "handler": "carrier-pigeon", "config": {"x": 1}},
            {"handler": "expected one of: webhook, webhook-custom, log, lambda"},
        ),
        ({"source": "crud", "handler": 5}, {"handler": "expected a string"}),
        (
            {"source": "crud", "handler": "webhook", "config": "x"},
            {"config": "expected a record"},
        ),
        ({"source": "crud", "handler": "log", "config": {"x": 1}}, {"config": {"x": "unknown field"}}),
        (
            {"source": "crud", "handler": "webhook-custom", "config": {"url": "x", "method": "get"}},
            {"config": {"url": "missing host in url", "method": "invalid value: get"}},
        ),
        (
            {"source": "crud", "handler": "webhook", "config": {"url": "http://a", "headers": {"a": 1}}},
            {"config": {"headers": "expected a string"}},
        ),
        ({"source": "crud", "handler": "lambda"}, {"config": {"functions": "required field missing"}}),
        (
            {"source": "crud", "handler": "lambda", "config": {"functions": []}},
            {"config": {"functions": "length must be at least 1"}},
        ),
        (
            {"source": "crud", "handler": "log", "snooze": -1},
            {"snooze": "value should be between 0 and 2147483647"},
        ),
        (
            {"source": "a/b", "handler": "log"},
            {"source": "invalid value: expected 1 to 128 printable characters without '/'"},
        ),
        ({"source": "crud", "handler": "log", "foo": 1}, {"foo": "unknown field"}),
    ],
)  # fmt: skip
def test_a_hooks_handler_decides_what_its_config_is(args: Any, fields: Any) -> None:
    """Each handler has a record of its own for `config`; an unknown one has none to compare with."""
    assert faults("event_hooks", **args) == fields


def test_a_form_is_typed_by_the_entity() -> None:
    """Text becomes what the field is; where it cannot, it stays and is refused later."""
    assert inferred(
        TABLES["event_hooks"].record,
        {
            "handler": "webhook-custom",
            "on_change": "true",
            "snooze": "60",
            "event": "",
            "config": {
                "ssl_verify": "false",
                "payload": {"text": "5", "empty": ""},
                "headers": {"a": "1", "b": ""},
                "body": "",
                "body_format": "maybe",
            },
            "foo": "1",
        },
    ) == {
        "handler": "webhook-custom",
        "on_change": True,
        "snooze": 60,
        "event": None,
        "config": {
            "ssl_verify": False,
            "payload": {"text": "5", "empty": ""},
            "headers": {"a": "1", "b": None},
            "body": None,
            "body_format": "maybe",
        },
        "foo": "1",
    }


def test_one_value_for_an_array_is_an_array_of_one() -> None:
    """`config.functions=...` and `paths=/a` need no brackets."""
    hook = {"handler": "lambda", "config": {"functions": "return f"}}

    assert inferred(TABLES["event_hooks"].record, hook)["config"] == {"functions": ["return f"]}
    assert inferred(TABLES["routes"].record, {"paths": "/a", "sources": {"port": "1"}}) == {
        "paths": ["/a"],
        "sources": [{"port": 1}],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-1", -1),
        ("1e3", 1000),
        ("28.0", 28),
        ("1.5", 1.5),
        ("0x10", "0x10"),
        ("1e999", "1e999"),
        ("٣", "٣"),
        ("ten", "ten"),
        ("9" * 5000, "9" * 5000),
        ("", None),
    ],
)
def test_numbers_in_forms(text: str, value: object) -> None:
    """What is a number is taken as one, and nothing else."""
    typed = inferred(TABLES["services"].record, {"retries": text})["retries"]

    assert (typed, type(typed)) == (value, type(value))


def test_patch_merges_records_and_replaces_the_rest() -> None:
    """Records key by key, maps and arrays whole, null clears."""
    record = TABLES["event_hooks"].record
    old = {
        "handler": "webhook-custom",
        "snooze": 5,
        "config": {"url": "u", "headers": {"a": "1"}, "payload": {"x": {"y": 1}}},
    }

    assert merged(
        record,
        old,
        {"snooze": None, "config": {"headers": {"b": "2"}, "payload": {"x": {"z": 2}}}, "new": 1},
    ) == {
        "handler": "webhook-custom",
        "snooze": None,
        "config": {"url": "u", "headers": {"b": "2"}, "payload": {"x": {"z": 2}}},
        "new": 1,
    }


def test_patching_the_handler_replaces_the_config() -> None:
    """The config of another handler has other fields."""
    old = {"handler": "webhook", "config": {"url": "u"}}
    new = {"handler": "lambda", "config": {"functions": ["f"]}}

    assert merged(TABLES["event_hooks"].record, old, new) == new


def test_patching_a_plugin_merges_its_config() -> None:
    """The config of a plugin counts as a record, with records in it."""
    old = {"config": {"minute": 5, "redis": {"host": "a", "port": 1}, "list": [1]}}
    new = {"config": {"redis": {"port": 2}, "list": [2]}}

    assert merged(TABLES["plugins"].record, old, new)["config"] == {
        "minute": 5,
        "redis": {"host": "a", "port": 2},
        "list": [2],
    }


_TEXT = st.text(max_size=5)
_KEYS = st.one_of(
    _TEXT,
    st.sampled_from(["id", "name", "config", "url", "handler", "protocols", "tags", "active"]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(TABLES)), st.data(), st.booleans())
def test_nothing_that_is_sent_gets_further_than_a_refusal(
    table: str, data: st.DataObject, form: bool
) -> None:
    """Any JSON value in any field of any table is either valid or named in a SchemaViolation."""
    record = TABLES[table].record
    names = st.one_of(st.sampled_from(sorted(record.fields)), _TEXT)
    chosen = _JSON | st.sampled_from(["webhook", "webhook-custom", "lambda", "log", ["tcp"]])
    args = data.draw(st.dictionaries(names, chosen, max_size=5))
    old = data.draw(st.dictionaries(st.sampled_from(sorted(record.fields)), chosen, max_size=5))

    args = inferred(record, args) if form else args
    if data.draw(st.booleans()):
        args = merged(record, {"handler": None} | old, args)
    args = TABLES[table].expand(args) if TABLES[table].expand else args  # type: ignore[misc]
    try:
        whole = validated(TABLES[table], STAMPS | args)
    except SchemaViolation as refused:
        whole = dict(refused.fields or {})

    assert whole
    assert msgspec.json.decode(msgspec.json.encode(whole)) == whole


_PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
_VALID: dict[str, Any] = {
    "handler": "webhook-custom",
    "source": "crud",
    "config": {"url": "http://x", "method": "POST"},
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "event": st.sampled_from([None, "consumers", "é:create"]),
            "on_change": st.none() | st.booleans(),
            "snooze": st.none() | st.integers(0, 2**31 - 1),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "payload": st.none() | st.dictionaries(_PLAIN, st.integers()),
            "body": st.none() | _PLAIN,
            "headers": st.none() | st.dictionaries(st.from_regex("[A-Za-z0-9_-]+", fullmatch=True), st.just("v")),
            "secret": st.none() | st.just("s"),
            "ssl_verify": st.booleans(),
            "signature_algorithm": st.sampled_from(["sha256", "sha1"]),
        },
    ),
)  # fmt: skip
def test_what_is_valid_survives_being_stored(args: dict[str, Any], config: dict[str, Any]) -> None:
    """Stored and restored, a valid entity is the same, and is valid again."""
    table = TABLES["event_hooks"]
    whole = validated(table, STAMPS | _VALID | args | {"config": _VALID["config"] | config})

    again = restore(table.record, *store(table.record, whole))

    assert validated(table, again) == whole

"""The service held against its own document, by schemathesis: thousands of requests, good and bad.

No answer is a failure of the service, and every answer is as the document says. With
`CONFORMANCE_EXAMPLES=50` there are so many examples for each operation, and the systematic cases of
every schema beside them, which takes up to an hour. Left out by design: a body that the schema does
not allow may be accepted where Kong is lenient (an empty value in a form is a null, an id in a body
gives way to the one of the path); 502 tells that a receiver was not reached, so hooks here log.
"""

import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from api.entities import item_path
from projections.tables import TABLES
from tests.api.rbac_api import MARK, SECRETS
from tests.service import Service, environment, serving

SEED: Final = 4
EXAMPLES: Final = os.environ.get("CONFORMANCE_EXAMPLES")
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
GENERATION: Final = """
[generation]
allow-extra-parameters = false
[phases.stateful]
inference.algorithms = []
"""
"""Parameters that nobody reads are not sent; only links that are written are followed."""
SUCCEEDED: Final = re.compile(
    r'^hooktape_http_requests_total\{method="(\w+)",path="([^"]+)",status="2', re.MULTILINE
)
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
HOSTILE: Final = (
    (_JSON, b"[" * 100_000),
    (_JSON, b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    (_JSON, b'{"name": "\xff\xfe", "source": "\xc3("}'),
    (_JSON, b'{"name": "\\ud800", "tags": ["\\u0000"], "config": {"\\u0000": 1}}'),
    (_JSON, b'{"port": 1e400, "id": -0, "name": 123456789012345678901234567890}'),
    (_JSON, b'{"id": [], "name": {}, "config": "x", "tags": {"a": []}, "service": 7}'),
    (_JSON, b"null"),
    (_JSON, b'{"name": "a", "name": "b"'),
    (_FORM, b"a=1&a.b=2&a[1]=3"),
    (_FORM, b"&".join(b"a%d=1" % number for number in range(2_000))),
    (_FORM, b"a" + b".b" * 500 + b"=1"),
    (_FORM, b"config=&name=%00&tags=%FF&%=%"),
    ("multipart/form-data", b"--x"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n'),
    ("application/json; charset=utf-16", b"\xff\xfe{\x00}\x00"),
    ("application/xml", b"<a/>"),
    ("x", b""),
)
"""Bodies that are wrong in ways of their own, by content type."""

ITEM: Final = ("DELETE", "GET", "PATCH")
REFERRING: Final[Mapping[str, Mapping[str, Any]]] = {
    "plugins": {
        field: {"name" if field != "consumer" else "username": MARK}
        for field in ("consumer", "consumer_group", "route", "service")
    },
    "upstreams": {"client_certificate": {"id": "certificates"}},
    "services": {"protocol": "https", "client_certificate": {"id": "certificates"}},
}
"""What entities refer to beside what they have to, so that every nested path leads somewhere."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that sends nothing to anybody."""
    async with serving(tmp_path / "data", event_hooks_enabled="off") as service:
        yield service


async def one_of_each(service: Service) -> dict[str, str]:
    """An entity of every table: their ids, by table."""
    ids: dict[str, str] = {}
    for name in sorted(SECRETS, key=lambda name: name != "certificates"):
        table, content = TABLES[name], {**SECRETS[name], **REFERRING.get(name, {})}
        for field in ("certificate", "client_certificate"):
            if field in content:
                content[field] = {"id": ids["certificates"]}
        made = await service.post(f"/{table.path}", content)
        ids[name] = (made[table.wrapped] if table.wrapped else made)["id"]
    await service.post(f"/consumer_groups/{MARK}/consumers", {"consumer": MARK})
    await service.emit("balancer", "health", {})
    return ids


def settings(ids: Mapping[str, str]) -> str:
    """Paths lead to what is there."""
    paths = "\n".join(f'"path.{name}" = "{identity}"' for name, identity in ids.items())
    return f"""{GENERATION}
[parameters]
{paths}
"path.id" = "{ids["event_hooks"]}"
[[operations]]
include-path-regex = "^/events/"
parameters = {{ "path.id" = "1" }}
"""


async def done(service: Service) -> set[str]:
    """The operations that succeeded at least once."""
    metrics = (await service.client.get("/metrics")).text
    return {f"{method} {path}" for method, path in SUCCEEDED.findall(metrics)}


async def complaints(service: Service, directory: Path, config: str, *options: str) -> str:
    """What schemathesis has to say; nothing if all is well."""
    path = directory / "schemathesis.toml"
    path.write_text(config)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(path)]
    command += ["run", f"{service.url}/openapi.json", "--checks", ",".join(CHECKS), *options]
    command += ["--seed", str(SEED), "--generation-database", "none", "--no-shrink", "--no-color"]
    known = environment(SCHEMATHESIS_HOOKS="tests.e2e.conformance", HOME=str(directory))
    ended = await anyio.run_process(command, check=False, cwd=directory, env=known)
    return "" if ended.returncode == 0 else ended.stdout.decode()


async def test_every_answer_is_as_the_document_says(service: Service, tmp_path: Path) -> None:
    """Good requests and bad ones to every operation, most of them about something that is there."""
    config = settings(await one_of_each(service))
    phases = ("--phases", "fuzzing") if EXAMPLES is None else ("--phases", "fuzzing,coverage")
    examples = ("--max-examples", EXAMPLES or "4", *phases)

    found = await complaints(service, tmp_path, config, "--exclude-method", "DELETE", *examples)
    found += await complaints(service, tmp_path, config, "--include-method", "DELETE", *examples)

    assert found == ""
    assert service.records("unexpected error") == []
    assert len(await done(service)) > 200


async def test_what_was_made_can_be_followed(service: Service, tmp_path: Path) -> None:
    """The links of the document lead from what was made to what shows, changes and deletes it."""
    tables = [TABLES[name] for name in ("consumers", "event_hooks")]
    paths = [path for table in tables for path in (f"/{table.path}", item_path(table))]
    only = [option for path in paths for option in ("--include-path", path)]
    options = ("--phases", "stateful", "--max-examples", EXAMPLES or "30", *only)

    found = await complaints(service, tmp_path, GENERATION, *options)

    assert found == ""
    assert {f"{method} {item_path(table)}" for table in tables for method in ITEM} <= await done(
        service
    )


async def test_no_body_is_too_hostile(service: Service) -> None:
    """What no generator makes: each is refused as the document says, or means nothing bad."""
    ids = await one_of_each(service)
    known = defaultdict(lambda: "1", ids, id=ids["event_hooks"])
    document = await service.get("/openapi.json")
    wrong: list[str] = []
    for path, item in document["paths"].items():
        filled = path.format_map(known)
        for method in item.keys() & {"post", "put", "patch"}:
            for kind, body in HOSTILE:
                answer = await service.client.request(
                    method, filled, content=body, headers={"Content-Type": kind}
                )
                expected = item[method]["responses"].keys() - {"500", "503", "507"}
                if str(answer.status_code) not in expected:
                    wrong.append(f"{method} {filled} {kind} {body[:20]!r}: {answer.status_code}")

    assert wrong == []
    assert service.records("unexpected error") == []

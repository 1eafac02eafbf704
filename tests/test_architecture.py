"""The arrows of the design, held by a test: dependencies point towards the log."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "eventstore": set[str](),
    "projections": {"eventstore"},
    "delivery": {"eventstore", "projections"},
    "api": {"eventstore", "projections"},
}
EXTRA = {name: {"delivery"} for name in ("api/main.py", "api/configuration.py", "api/offline.py")}

OWNERS = {
    "aiohttp": {"delivery/transport.py"},
    "aiosqlite": {"eventstore/database.py"},
    "click": {
        "api/audit.py",
        "api/backup.py",
        "api/doctor.py",
        "api/audit_filters.py",
        "api/cli.py",
        "api/compact.py",
        "api/rebuild.py",
        "api/erase.py",
    },
    "cryptography": {"eventstore/signing.py", "eventstore/subject_keys.py"},
    "httpx": {"delivery/egress.py", "delivery/transport.py"},
    "jinja2": {
        "delivery/jail/jinja_engine.py",
        "delivery/jail/jinja_filters.py",
        "delivery/jail/jinja_sandbox.py",
    },
    "lupa": {"delivery/jail/lua_engine.py"},
    "prometheus_client": {"api/metrics.py"},
    "python_multipart": {"api/forms.py"},
    "structlog": {"api/logs.py"},
    "uvicorn": {"api/main.py"},
    "yarl": {"delivery/transport.py"},
}
"""The modules that know a library. Replacing it touches one file."""

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages a module imports, also for type checking only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    """Dependencies between our packages point towards the log; main.py sees all."""
    name = name_of(path)
    package = name.partition("/")[0]
    allowed = {package} | PACKAGES[package] | EXTRA.get(name, set())

    assert set(imported(path)) & PACKAGES.keys() <= allowed


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_library_is_known_to_its_owner_alone(path: Path) -> None:
    """Third-party libraries stay behind one module each, and starlette stays in the API."""
    name = name_of(path)
    libraries = set(imported(path))

    assert {
        library for library in libraries & OWNERS.keys() if name not in OWNERS[library]
    } == set()
    assert "starlette" not in libraries or name.startswith("api/")


def test_folding_has_no_effects() -> None:
    """No projection can append to the log or reach the network."""
    forbidden = ("append(", "httpx", "socket", "subprocess")

    for path in sorted((ROOT / "projections").rglob("*.py")):
        source = path.read_text()
        assert [
            word for word in forbidden if f"log.{word}" in source or f"import {word}" in source
        ] == []


def test_the_top_level_holds_what_was_agreed() -> None:
    """Nothing is added at the top level but dot-folders and what tools make."""
    agreed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "requirements.lock",
        "uv.lock",
        *PACKAGES,
        "tests",
        "scripts",
    }
    made = {"data", "build", "dist"}
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert names - made <= agreed

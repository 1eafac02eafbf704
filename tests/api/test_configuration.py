"""What the settings mean for delivery."""

from pathlib import Path
from typing import Any

import pytest

from api.configuration import configuration, located
from api.settings import Settings


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({}, ("seccomp",)),
        ({"jail": "full"}, ("seccomp", "namespaces")),
        ({"jail": "process"}, ()),
        ({"jail": "process", "untrusted_lua": "lax"}, ()),
        ({"jail": "process", "untrusted_lua": "on"}, ("seccomp",)),
        ({"jail": "full", "untrusted_lua": "on"}, ("seccomp", "namespaces")),
    ],
)
def test_the_jail_that_is_demanded(given: dict[str, Any], required: tuple[str, ...]) -> None:
    """`jail` decides, and full Lua never runs without the filter."""
    assert configuration(Settings(**given), "1").jail.required == required


@pytest.mark.parametrize(
    ("setting", "level", "lua"),
    [
        ("off", "sandbox", False),
        ("sandbox", "sandbox", True),
        ("strict", "sandbox", True),
        ("lax", "lax", True),
        ("on", "on", True),
    ],
)
def test_how_much_lua_finds(setting: Any, level: str, lua: bool) -> None:
    """`strict` is another name for `sandbox`; with `off` there is no Lua at all."""
    made = configuration(Settings(untrusted_lua=setting), "1")

    assert (made.jail.profile.untrusted_lua, made.lua) == (level, lua)


def test_functions_may_know_the_service(tmp_path: Path) -> None:
    """Version, node, host and settings; and the operator's modules, by name."""
    (tmp_path / "a.b.lua").write_text("return 1")
    (tmp_path / "readme.txt").write_text("not Lua")
    made = configuration(Settings(lua_modules_dir=str(tmp_path)), "1.2")
    profile = located(made, address=("127.0.0.1", 1), node_id="n", hostname="h").jail.profile

    assert (profile.version, profile.node_id, profile.hostname) == ("1.2", "n", "h")
    assert profile.configuration["log_level"] == "info"
    assert profile.modules == {"a.b": "return 1"}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("9.lua", b"", "not the name of a module"),
        ("a.lua", b"-" * (256 * 1024 + 1), "more than 262144 bytes"),
        ("a.lua", b"\xff", "invalid start byte"),
    ],
)
def test_a_file_that_is_no_module(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    """The service says which setting is at fault and does not start."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="lua_modules_dir: ") as refused:
        configuration(Settings(lua_modules_dir=str(tmp_path)), "1")

    assert problem in str(refused.value)


def test_networks_are_checked() -> None:
    """With the setting's name."""
    with pytest.raises(ValueError, match="egress_allow: "):
        configuration(Settings(egress_allow=("10.0.0.0/99",)), "1")


def test_the_service_never_delivers_to_itself() -> None:
    """Its own address is refused whatever the policy allows."""
    made = located(
        configuration(Settings(), "1"), address=("127.0.0.1", 8001), node_id="", hostname=""
    )

    assert made.addresses.own == frozenset({("127.0.0.1", 8001)})


def test_functions_never_see_secrets() -> None:
    """What `kong.configuration` shows is what `GET /` shows."""
    made = configuration(Settings(admin_token="s3cret"), "1")

    assert "s3cret" not in str(made.jail.profile.configuration)
    assert "admin_token" not in made.jail.profile.configuration

"""What the operator lets users' Lua find: settings and a directory made into a `Profile`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from delivery.jail.frames import Profile, UntrustedLua

OPTIONAL_GLOBALS: Final = (
    "collectgarbage",
    "getmetatable",
    "load",
    "loadstring",
    "rawequal",
    "rawget",
    "rawset",
    "setmetatable",
)
"""What `untrusted_lua_sandbox_environment` may name: harmless, and not in Kong's sandbox."""

_MODULE = re.compile(r"[A-Za-z_][\w.-]*")
_BUNDLED: Final = Path(__file__).with_name("lua") / "modules"
_MAX_SOURCE: Final = 256 * 1024

Setting = Literal["off", "sandbox", "strict", "lax", "on"]


def bundled() -> set[str]:
    """The names of the modules that come with the service."""
    return {path.name.removesuffix(".lua") for path in _BUNDLED.glob("*.lua")}


def own_modules(directory: Path) -> dict[str, str]:
    """The operator's modules, by name. Raises OSError, and ValueError for what is no module."""
    modules = {}
    for path in sorted(path for path in directory.iterdir() if path.suffix == ".lua"):
        name = path.name.removesuffix(".lua")
        if not _MODULE.fullmatch(name):
            raise ValueError(f"{path}: not the name of a module")
        source = path.read_bytes()
        if len(source) > _MAX_SOURCE:
            raise ValueError(f"{path}: more than {_MAX_SOURCE} bytes")
        modules[name] = source.decode()
    return modules


def make_profile(
    setting: Setting,
    *,
    requires: Sequence[str],
    environment: Sequence[str],
    modules: dict[str, str],
    about: dict[str, Any],
) -> Profile:
    """The profile for a value of `untrusted_lua`; `about` are the fields that describe the service.

    `off` and `strict` are here what `sandbox` is: the first runs nothing, the second is its other
    name.
    """
    level: UntrustedLua = "sandbox" if setting == "off" or setting == "strict" else setting
    return Profile(
        untrusted_lua=level,
        requires=tuple(requires),
        environment=tuple(environment),
        modules=modules,
        **about,
    )


def unknown_names(profile: Profile) -> Iterator[str]:
    """One line for each name that allows nothing, because nothing is called so."""
    known = bundled() | profile.modules.keys()
    for name in profile.requires:
        if name not in known:
            yield f"untrusted_lua_sandbox_requires: there is no module {name!r}"
    for name in profile.environment:
        if name not in OPTIONAL_GLOBALS:
            yield f"untrusted_lua_sandbox_environment: there is no optional global {name!r}"

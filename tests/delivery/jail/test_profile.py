"""Names that an operator allows."""

from delivery.jail.frames import Profile
from delivery.jail.profile import bundled, unknown_names


def test_known_names_are_not_mentioned() -> None:
    """Bundled modules, the operator's own, and optional globals."""
    profile = Profile(
        requires=("pl.stringx", "mine"), modules={"mine": ""}, environment=("setmetatable",)
    )

    assert list(unknown_names(profile)) == []
    assert {"cjson", "cjson.safe", "bit", "resty.sha256"} <= bundled()


def test_each_unknown_name_is_a_line() -> None:
    """It allows nothing, which the operator should know."""
    profile = Profile(requires=("resty.http",), environment=("io", "setmetatable"))

    assert list(unknown_names(profile)) == [
        "untrusted_lua_sandbox_requires: there is no module 'resty.http'",
        "untrusted_lua_sandbox_environment: there is no optional global 'io'",
    ]

"""What `api/settings.py` promises."""

from pathlib import Path

import msgspec
import pytest

from api.settings import (
    FIELDS,
    SECRETS,
    Address,
    Settings,
    SettingsError,
    load,
    parse_address,
    public,
    read_files,
)


def problems(
    cli: dict[str, str | None] | None = None,
    environ: dict[str, str] | None = None,
    toml: str | None = None,
) -> list[str]:
    """What is said against these."""
    with pytest.raises(SettingsError) as raised:
        load(cli or {}, environ or {}, toml)
    return raised.value.problems


def test_without_anything_given_the_defaults_hold() -> None:
    """A service started with no settings at all listens on loopback and stores in ./data."""
    settings = load({}, {"PATH": "/bin", "HOME": "/"}, None)

    assert settings == Settings()
    assert settings.admin_address == Address("127.0.0.1", 8001)
    assert settings.data_dir == "./data"
    assert settings.retry_schedule == (5, 30, 120, 900, 3600, 7200, 18000, 36000)


def test_the_nearer_place_wins() -> None:
    """The command line wins over the environment, that over the file, that over the default."""
    toml = 'data_dir = "/file"\nlog_level = "error"\nbody_limit = 10'
    environ = {"HOOKTAPE_DATA_DIR": "/environment", "HOOKTAPE_LOG_LEVEL": "warn"}
    settings = load({"data_dir": "/option", "log_level": None}, environ, toml)

    assert settings.data_dir == "/option"
    assert settings.log_level == "warn"
    assert settings.body_limit == 10
    assert settings.response_cap == Settings().response_cap


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_may_stand_in_the_file_and_in_the_environment(name: str) -> None:
    """Each default, written down in either place, gives that default again."""
    default = getattr(Settings(), name)
    as_text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)

    assert load({}, {}, f"{name} = {msgspec.json.encode(default).decode()}") == Settings()
    assert load({}, {f"HOOKTAPE_{name.upper()}": as_text}, None) == Settings()


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_expects(name: str) -> None:
    """A value of a type that fits no setting is answered with the name and what was expected."""
    (problem,) = problems(toml=f"{name} = 2001-01-01")

    assert problem.startswith(f"{name} in the settings file: expected ")
    assert problem.endswith(", got '2001-01-01'") is (name not in SECRETS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8,@private", ("10.0.0.0/8", "@private")),
        (" 10.0.0.0/8 , @private, ", ("10.0.0.0/8", "@private")),
        ("", ()),
    ],
)
def test_a_list_in_the_environment_is_separated_by_commas(
    text: str, expected: tuple[str, ...]
) -> None:
    """Blanks around the parts do not matter, and nothing is an empty list."""
    assert load({}, {"HOOKTAPE_EGRESS_ALLOW": text}, None).egress_allow == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("on", True), ("OFF", False), ("true", True), ("False", False), ("1", True), ("0", False)],
)
def test_true_and_false_in_the_environment(text: str, expected: bool) -> None:
    """Kong's on and off are understood beside true and false."""
    assert load({}, {"HOOKTAPE_SSL_VERIFY_DEFAULT": text}, None).ssl_verify_default is expected


def test_kongs_own_variable_is_honoured_unless_ours_is_set() -> None:
    """KONG_EVENT_HOOKS_ENABLED works as in Kong, and yields to HOOKTAPE_EVENT_HOOKS_ENABLED."""
    kong = {"KONG_EVENT_HOOKS_ENABLED": "off"}

    assert not load({}, kong, None).event_hooks_enabled
    assert load({}, kong | {"HOOKTAPE_EVENT_HOOKS_ENABLED": "on"}, None).event_hooks_enabled


@pytest.mark.parametrize(
    ("cli", "environ", "toml", "problem"),
    [
        (
            {},
            {"HOOKTAPE_LOGLEVEL": "info"},
            None,
            "HOOKTAPE_LOGLEVEL: no such setting; did you mean HOOKTAPE_LOG_LEVEL?",
        ),
        (
            {},
            {},
            "hook_concurency = 3",
            "hook_concurency in the settings file: no such setting; did you mean hook_concurrency?",
        ),
        ({}, {}, "xyzzy = 3", "xyzzy in the settings file: no such setting"),
        (
            {},
            {"HOOKTAPE_LOG_LEVEL": "loud"},
            None,
            "HOOKTAPE_LOG_LEVEL: expected debug, info, notice, warn, error or crit, got 'loud'",
        ),
        (
            {"log_format": "xml"},
            {},
            None,
            "log_format on the command line: expected auto, text or json, got 'xml'",
        ),
        (
            {},
            {},
            'body_limit = "5"',
            "body_limit in the settings file: expected a number of bytes, at least 1, got '5'",
        ),
        (
            {},
            {"HOOKTAPE_RETRY_SCHEDULE": "5,soon"},
            None,
            "HOOKTAPE_RETRY_SCHEDULE: expected a list of seconds, each above 0, got '5,soon'",
        ),
    ],
)
def test_a_problem_is_one_line_that_names_the_setting(
    cli: dict[str, str | None], environ: dict[str, str], toml: str | None, problem: str
) -> None:
    """Each line says where, what was expected, and the nearest name for one that is unknown."""
    assert problems(cli, environ, toml) == [problem]


@pytest.mark.parametrize(
    "toml",
    [
        "drain_timeout = 0",
        "drain_timeout = -1",
        "drain_timeout = inf",
        "drain_timeout = nan",
        "drain_timeout = true",
        "retry_schedule = [5, 0]",
        "retry_schedule = 5",
        "hook_concurrency = 0",
        "hook_concurrency = 1.5",
        'data_dir = ""',
        'cors_origins = ["*"]',
        'cors_origins = ["https://console.example.com/path"]',
        'admin_hosts = ["http://hooks.example.com"]',
        'egress_allow = ["10.0.0.0/8 @private"]',
        "[log_level]\nlevel = 1",
    ],
)
def test_a_value_that_would_do_harm_is_refused(toml: str) -> None:
    """No endless or negative waiting, no workers that are none, no origin for everybody."""
    assert len(problems(toml=toml)) == 1


def test_a_file_that_is_not_toml_is_a_problem() -> None:
    """The line says where in the file it went wrong."""
    (problem,) = problems(toml="log_level = ")

    assert problem.startswith("the settings file is not TOML: Invalid value (at ")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """A person mends all of it in one go."""
    found = problems({"log_format": "x"}, {"HOOKTAPE_X": "1"}, "y = 1\nbody_limit = 0")

    assert len(found) == 4


@pytest.mark.parametrize(
    "name",
    ["HOOKTAPE_PORT", "HOOKTAPE_PORT_8001_TCP_ADDR", "HOOKTAPE_SERVICE_HOST", "HOOKTAPE_CONFIG"],
)
def test_variables_that_others_set_with_our_prefix_are_left_alone(name: str) -> None:
    """Kubernetes' links to a service named hooktape do not keep it from starting."""
    assert load({}, {name: "tcp://10.0.0.1:8001"}, None) == Settings()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8001", Address("127.0.0.1", 8001)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
    ],
)
def test_an_address_has_a_host_and_a_port(text: str, address: Address) -> None:
    """An IPv6 host stands in brackets, which are not part of it."""
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "8001", ":8001", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "[::1]", "a b:1"],
)
def test_an_address_that_leaves_something_open_is_refused(text: str) -> None:
    """Nobody listens on all interfaces because of a missing part."""
    with pytest.raises(ValueError, match="not an address and a port"):
        parse_address(text)


def test_a_setting_can_be_read_from_a_file(tmp_path: Path) -> None:
    """HOOKTAPE_<SETTING>_FILE gives what the file says, without the line break at its end."""
    (tmp_path / "name").write_text("tape-1\n")
    environ = {"HOOKTAPE_NODE_NAME_FILE": str(tmp_path / "name"), "NODE_NAME_FILE": "/nowhere"}
    resolved = read_files(environ)

    assert resolved == {"HOOKTAPE_NODE_NAME": "tape-1", "NODE_NAME_FILE": "/nowhere"}
    assert load({}, resolved, None).node_name == "tape-1"


def test_a_setting_given_twice_or_from_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    """Which of two values holds is never left to chance."""
    missing = str(tmp_path / "missing")
    with pytest.raises(SettingsError) as raised:
        read_files(
            {
                "HOOKTAPE_NODE_NAME": "a",
                "HOOKTAPE_NODE_NAME_FILE": missing,
                "HOOKTAPE_DATA_DIR_FILE": missing,
            }
        )

    assert raised.value.problems[0] == (
        "HOOKTAPE_NODE_NAME_FILE: HOOKTAPE_NODE_NAME is set as well; give one of them"
    )
    assert raised.value.problems[1].startswith("HOOKTAPE_DATA_DIR_FILE: cannot read ")


def test_an_unknown_file_variable_is_an_unknown_setting() -> None:
    """A misspelt HOOKTAPE_..._FILE is not passed over."""
    environ = read_files({"HOOKTAPE_NODE_NAM_FILE": "/nowhere"})

    assert problems(environ=environ)[0].startswith("HOOKTAPE_NODE_NAM_FILE: no such setting")


@pytest.mark.parametrize("token", [" kong", "kong ", "a\nb", "schlüssel"])
def test_a_secret_is_never_repeated(token: str) -> None:
    """Neither in what is shown of the settings, nor in what is wrong with it."""
    (problem,) = problems(environ={"HOOKTAPE_ADMIN_TOKEN": token})
    shown = public(load({}, {"HOOKTAPE_ADMIN_TOKEN": "s3cret"}, None))

    assert problem == ("HOOKTAPE_ADMIN_TOKEN: expected printable ASCII without blanks around it")
    assert shown.keys() == FIELDS.keys() - {"admin_token"}
    assert {"admin_token"} == SECRETS


def test_kongs_names_of_rbac_are_honoured() -> None:
    """A container made for Kong has them; our own win."""
    kongs = {"KONG_ENFORCE_RBAC": "on", "KONG_PASSWORD": "kong"}
    settings = load({}, kongs, None)
    ours = load({}, kongs | {"HOOKTAPE_ADMIN_TOKEN": "ours"}, None)

    assert (settings.enforce_rbac, settings.admin_token) == ("on", "kong")
    assert ours.admin_token == "ours"


@pytest.mark.parametrize("mode", ["entity", "both"])
def test_permissions_on_single_entities_are_refused(mode: str) -> None:
    """Kong has them and this service has not: better no start than less than was asked for."""
    (problem,) = problems(environ={"KONG_ENFORCE_RBAC": mode})

    assert problem == (
        "KONG_ENFORCE_RBAC: expected off or on (there are no permissions on single entities:"
        f" no entity, no both), got '{mode}'"
    )

"""Every setting of the service, read once at the start from four places.

The command line wins over the environment, the environment over `hooktape.toml`, the file over the
default. Names are flat and the same everywhere: `log_level` in the file is `HOOKTAPE_LOG_LEVEL` in
the environment; `HOOKTAPE_LOG_LEVEL_FILE` names a file that holds the value. Outside of the file a
list is separated by commas, and true and false may also be written on and off, as in Kong.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args, get_origin

import msgspec
from msgspec import Meta

PREFIX = "HOOKTAPE_"

NOT_SETTINGS = {"HOOKTAPE_CONFIG", "HOOKTAPE_TOKEN", "HOOKTAPE_URL"}
"""Variables with the prefix that belong to options of the command line."""

OTHER_NAMES = {
    "KONG_EVENT_HOOKS_ENABLED": "event_hooks_enabled",
    "KONG_ENFORCE_RBAC": "enforce_rbac",
    "KONG_PASSWORD": "admin_token",
    "KONG_UNTRUSTED_LUA": "untrusted_lua",
    "KONG_UNTRUSTED_LUA_SANDBOX_REQUIRES": "untrusted_lua_sandbox_requires",
    "KONG_UNTRUSTED_LUA_SANDBOX_ENVIRONMENT": "untrusted_lua_sandbox_environment",
}
"""Kong's own variables that are honoured when ours is not set."""

# Kubernetes sets HOOKTAPE_PORT and the like in every pod beside a service named hooktape.
_SERVICE_LINK = re.compile(r"HOOKTAPE_(SERVICE_|PORT(_\d+_(TCP|UDP)(_\w+)?)?$)")

_YEAR = 31_536_000

Text = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Name = Annotated[str, Meta(description="a text")]
Flag = Annotated[bool, Meta(description="true or false")]
Count = Annotated[int, Meta(ge=1, le=100_000, description="a whole number from 1 to 100000")]
Bytes = Annotated[int, Meta(ge=1, le=2**40, description="a number of bytes, at least 1")]
Seconds = Annotated[
    float, Meta(gt=0, le=_YEAR, description="a number of seconds above 0, at most a year")
]
Delays = Annotated[tuple[Seconds, ...], Meta(description="a list of seconds, each above 0")]
Hosts = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^[^\s/@]+$")], ...],
    Meta(description='a list of host names, like "hooks.example.com"'),
]
Origins = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^https?://[^\s/*]+$")], ...],
    Meta(description='a list of origins, like "https://console.example.com"'),
]
Networks = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^\S+$")], ...],
    Meta(description='a list of networks, hosts or groups, like "10.0.0.0/8" or "@private"'),
]
Listen = Annotated[
    str, Meta(description='an address and a port, like "127.0.0.1:8001" or "[::1]:0"')
]
IngestedEvents = Annotated[
    tuple[
        Literal["http-log/log", "rate-limiting-advanced/rate-limit-exceeded", "balancer/health"],
        ...,
    ],
    Meta(
        description=(
            "a list of http-log/log, rate-limiting-advanced/rate-limit-exceeded and balancer/health"
        )
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "notice", "warn", "error", "crit"],
    Meta(description="debug, info, notice, warn, error or crit"),
]
Names = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.-]*$")], ...],
    Meta(description='a list of names, like "pl.stringx"'),
]
UntrustedLua = Annotated[
    Literal["off", "sandbox", "strict", "lax", "on"],
    Meta(description="off, sandbox, strict, lax or on"),
]
Jail = Annotated[
    Literal["process", "seccomp", "full"], Meta(description="process, seccomp or full")
]
Engine = Annotated[Literal["resty", "jinja2"], Meta(description="resty or jinja2")]
LambdaSuccess = Annotated[Literal["true", "no_error"], Meta(description="true or no_error")]
EnforceRbac = Annotated[
    Literal["off", "on"],
    Meta(description="off or on (there are no permissions on single entities: no entity, no both)"),
]
Token = Annotated[
    str,
    Meta(
        pattern=r"^([!-~]([ -~]*[!-~])?)?$",
        description="printable ASCII without blanks around it",
        extra={"secret": True},
    ),
]
LogFormat = Annotated[Literal["auto", "text", "json"], Meta(description="auto, text or json")]


class SettingsError(ValueError):
    """`problems` has one line for each setting that cannot be used; nothing was started."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Address(NamedTuple):
    """Where to listen. Port 0 stands for any free one."""

    host: str
    port: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings with their defaults. Durations are seconds, sizes are bytes."""

    data_dir: Text = "./data"  #: where the log and all other state lives; made when missing
    admin_listen: Listen = "127.0.0.1:8001"  #: the Admin API; port 0 takes a free one
    admin_hosts: Hosts = ()  #: further `Host` names under which the Admin API may be addressed
    cors_origins: Origins = ()  #: web pages from these origins may call the Admin API
    node_name: Name = ""  #: shown by `GET /`; empty stands for the machine's name

    enforce_rbac: EnforceRbac = "off"  #: on: every request needs a token with the permission
    admin_token: Token = ""  #: of the first super-admin; empty: one is made up and printed once

    log_level: LogLevel = "info"  #: this and everything graver is logged
    log_format: LogFormat = "auto"  #: auto: text on a terminal, JSON lines otherwise

    egress_allow: Networks = ()  #: exceptions from the rule that private addresses are refused
    ssl_verify_default: Flag = True  #: `config.ssl_verify` of a hook that does not say

    allow_unpublished: Flag = False  #: true: events that nobody published may be emitted
    #: what is stored of the requests that gateways report to `/ingest/kong-http-log`
    ingest_events: IngestedEvents = (
        "rate-limiting-advanced/rate-limit-exceeded",
        "balancer/health",
    )
    accept_repeats: Flag = False  #: go on after a restore, though deliveries may be repeated
    event_hooks_enabled: Flag = True  #: false: events are stored and no hook is performed
    body_limit: Bytes = 1_048_576  #: of a request to the Admin API
    response_cap: Bytes = 65_536  #: of a receiver's answer; what is longer is cut

    delivery_timeout: Seconds = 15.0  #: for a whole attempt, from name lookup to the last byte
    #: waiting times between attempts; after the last one the delivery is parked
    retry_schedule: Delays = (5.0, 30.0, 120.0, 900.0, 3_600.0, 7_200.0, 18_000.0, 36_000.0)
    retry_after_cap: Seconds = 3_600.0  #: a receiver's `Retry-After` counts up to this
    hook_concurrency: Count = 32  #: attempts under way for one hook
    host_concurrency: Count = 64  #: attempts under way to one host
    total_concurrency: Count = 256  #: attempts under way altogether
    drain_timeout: Seconds = 8.0  #: on SIGTERM, for attempts under way to come to an end

    untrusted_lua: UntrustedLua = "sandbox"  #: how much functions and templates find
    untrusted_lua_sandbox_requires: Names = ()  #: modules they may `require` beyond the usual ones
    untrusted_lua_sandbox_environment: Names = ()  #: globals they find beyond the usual ones
    lua_modules_dir: Name = ""  #: a directory of modules of your own, `<name>.lua`
    jail: Jail = "seccomp"  #: what the system must offer, or functions and templates do not run
    template_engine_default: Engine = "resty"  #: of a hook that does not say

    lambda_workers: Count = 2  #: processes that run Lua
    lambda_timeout: Seconds = 2.0  #: by the clock; then the worker is killed
    lambda_cpu: Seconds = 0.5  #: of processor time; then the function is stopped
    lambda_memory: Bytes = 33_554_432  #: for one function; above it the function is stopped
    lambda_success: LambdaSuccess = "true"  #: no_error: also what returns nothing succeeded

    @property
    def admin_address(self) -> Address:
        """`admin_listen` in its parts."""
        return parse_address(self.admin_listen)


def listens_on_loopback(settings: Settings) -> bool:
    """Whether the Admin API can be reached from this machine only."""
    host = settings.admin_address.host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_address(text: str) -> Address:
    """Split `host:port`; an IPv6 host stands in brackets. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([\w:.%]+)\]|([^\s\[\]:/@]+)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError(f"not an address and a port: {text!r}")
    return Address(match[1] or match[2], int(match[3]))


FIELDS: Mapping[str, msgspec.structs.FieldInfo] = {
    field.name: field for field in msgspec.structs.fields(Settings)
}


def _meta(name: str) -> Meta:
    """What the setting's type says about itself: the last annotation, which has the description."""
    return cast(Meta, get_args(FIELDS[name].type)[-1])


SECRETS = frozenset(name for name in FIELDS if (_meta(name).extra or {}).get("secret"))
"""Settings whose values are never shown: not by `GET /`, in no message, in no log."""


def public(settings: Settings) -> dict[str, Any]:
    """All settings but the secrets, ready to be shown."""
    shown = msgspec.to_builtins(settings)
    return {name: value for name, value in shown.items() if name not in SECRETS}


VARIABLES: Mapping[str, str] = {PREFIX + name.upper(): name for name in FIELDS}


def read_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Replace each `HOOKTAPE_<SETTING>_FILE` by the setting, read from that file.

    A line break at the end is not part of the value. Raises SettingsError for a file that cannot be
    read, and for a setting that is given in both ways.
    """
    resolved = dict(environ)
    problems: list[str] = []
    for name, path in environ.items():
        plain = name.removesuffix("_FILE")
        if plain == name or plain not in VARIABLES:
            continue
        if plain in environ:
            problems.append(f"{name}: {plain} is set as well; give one of them")
            continue
        try:
            resolved[plain] = Path(path).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            problems.append(f"{name}: cannot read {path!r}: {error}")
        del resolved[name]
    if problems:
        raise SettingsError(problems)
    return resolved


def load(
    cli: Mapping[str, str | None], environ: Mapping[str, str], toml_text: str | None
) -> Settings:
    """Put the settings together. `cli` has a setting per option; None means it was not given.

    `environ` is the whole environment; variables of other programs are left alone. Raises
    SettingsError with everything that is wrong: unknown names, and values of the wrong kind.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    given = [
        *_in_file(toml_text, problems),
        *_in_environ(environ, problems),
        *(_Given(name, f"{name} on the command line", text) for name, text in cli.items()),
    ]
    for each in given:  # the later ones win
        if each.value is None:
            continue
        try:
            values[each.name] = _converted(each)
        except (ValueError, msgspec.ValidationError):
            expected = _meta(each.name).description
            got = "" if each.name in SECRETS else f", got {str(each.value)!r}"
            problems.append(f"{each.origin}: expected {expected}{got}")
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


class _Given(NamedTuple):
    """A value before it was looked at. `typed` ones keep their type: `"5"` is no number then."""

    name: str
    origin: str  #: how messages call it
    value: object
    typed: bool = False


def _in_file(toml_text: str | None, problems: list[str]) -> Iterator[_Given]:
    try:
        table = tomllib.loads(toml_text or "")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"the settings file is not TOML: {error}")
        return
    for name, value in table.items():
        if name in FIELDS:
            yield _Given(name, f"{name} in the settings file", value, typed=True)
        else:
            problems.append(f"{name} in the settings file: {_unknown(name, FIELDS)}")


def _in_environ(environ: Mapping[str, str], problems: list[str]) -> Iterator[_Given]:
    for variable, name in OTHER_NAMES.items():
        if variable in environ:
            yield _Given(name, variable, environ[variable])
    for variable, text in environ.items():
        if variable in VARIABLES:
            yield _Given(VARIABLES[variable], variable, text)
        elif (
            variable.startswith(PREFIX)
            and variable not in NOT_SETTINGS
            and not _SERVICE_LINK.match(variable)
        ):
            problems.append(f"{variable}: {_unknown(variable, VARIABLES)}")


def _unknown(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return "no such setting" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _converted(given: _Given) -> object:
    """The value as the setting's type. Raises ValueError or msgspec.ValidationError."""
    kind = FIELDS[given.name].type
    value = given.value if given.typed else _parts(get_args(kind)[0], str(given.value))
    converted = msgspec.convert(value, kind, strict=given.typed)
    if kind is Listen:
        parse_address(converted)
    return converted


def _parts(kind: object, text: str) -> object:
    if kind is bool:
        return {"on": True, "off": False}.get(text.lower(), text)
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text

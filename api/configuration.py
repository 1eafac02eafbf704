"""What the settings mean for delivery, and what a running service adds to them."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from api.settings import Settings, public
from delivery.address import AddressPolicy
from delivery.admission import Limits
from delivery.assembly import Configuration
from delivery.jail.frames import Limits as JailLimits
from delivery.jail.pool import JailOptions
from delivery.jail.profile import make_profile, own_modules
from delivery.retry import RetryPolicy
from delivery.service import DeliveryOptions

_BARRIERS: Final[dict[str, tuple[str, ...]]] = {
    "process": (),
    "seccomp": ("seccomp",),
    "full": ("seccomp", "namespaces"),
}
"""What each value of `jail` demands of the system."""


def configuration(settings: Settings, version: str) -> Configuration:
    """The settings as delivery takes them. Reads the operator's Lua modules.

    Raises ValueError with one line that begins with the setting at fault.
    """
    return Configuration(
        addresses=_addresses(settings),
        timeout=settings.delivery_timeout,
        response_cap=settings.response_cap,
        user_agent=f"hooktape/{version}",
        options=DeliveryOptions(
            enabled=settings.event_hooks_enabled,
            limits=Limits(
                hook=settings.hook_concurrency,
                host=settings.host_concurrency,
                total=settings.total_concurrency,
            ),
            policy=RetryPolicy(
                schedule=settings.retry_schedule, retry_after_cap=settings.retry_after_cap
            ),
            drain_timeout=settings.drain_timeout,
        ),
        jail=_jail(settings, version),
        lua=settings.untrusted_lua != "off",
        lambda_success=settings.lambda_success,
    )


def located(
    configuration: Configuration, *, address: tuple[str, int], node_id: str, hostname: str
) -> Configuration:
    """The configuration of the service that listens at `address`, and so never delivers there."""
    jail, addresses = configuration.jail, configuration.addresses
    profile = msgspec.structs.replace(jail.profile, node_id=node_id, hostname=hostname)
    return msgspec.structs.replace(
        configuration,
        addresses=msgspec.structs.replace(addresses, own=frozenset({address})),
        jail=msgspec.structs.replace(jail, profile=profile),
    )


def _jail(settings: Settings, version: str) -> JailOptions:
    return JailOptions(
        workers=settings.lambda_workers,
        wall_seconds=settings.lambda_timeout,
        required=_required(settings),
        limits=JailLimits(cpu_seconds=settings.lambda_cpu, lua_memory=settings.lambda_memory),
        profile=make_profile(
            settings.untrusted_lua,
            requires=settings.untrusted_lua_sandbox_requires,
            environment=settings.untrusted_lua_sandbox_environment,
            modules=_modules(settings.lua_modules_dir),
            about={"version": version, "configuration": public(settings)},
        ),
    )


def _required(settings: Settings) -> tuple[str, ...]:
    barriers = _BARRIERS[settings.jail]
    # With libraries for files and processes, the filter is what holds.
    return barriers or ("seccomp",) if settings.untrusted_lua == "on" else barriers


def _modules(directory: str) -> dict[str, str]:
    try:
        return own_modules(Path(directory)) if directory else {}
    except (OSError, ValueError) as error:
        raise ValueError(f"lua_modules_dir: {error}") from error


def _addresses(settings: Settings) -> AddressPolicy:
    """Loopback receivers are allowed while the Admin API itself is reachable from there only."""
    host = settings.admin_address.host
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    try:
        return AddressPolicy.parse(settings.egress_allow, allow_loopback=loopback)
    except ValueError as error:
        raise ValueError(f"egress_allow: {error}") from error

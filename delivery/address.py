"""Which addresses a delivery may be sent to. Pure: it sees one address at a time, never a resolver.

The rules apply to the address that is dialed, so no spelling of a host name and no answer of a name
server gets round them. Groups follow IANA's special-purpose registries (RFC 6890); they are spelled
out because `ipaddress.is_global` of Python 3.11 calls multicast and tunnelled loopback global.
"""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

GROUPS: dict[str, tuple[Network, ...]] = {
    group: tuple(map(ip_network, networks.split()))
    for group, networks in {
        "@loopback": "127.0.0.0/8 ::1/128",
        "@linklocal": "169.254.0.0/16 fe80::/10",
        "@private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7 fec0::/10",
        "@reserved": (
            "0.0.0.0/8 100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15"
            " 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
            # Outside 2000::/3 nothing is global unicast; the rest are its reserved corners.
            " ::/3 4000::/2 8000::/1 2001::/23 2001:db8::/32 2002::/16 3fff::/20"
        ),
    }.items()
}
"""Denied unless named. An address belongs to the first group that contains it."""

_HOST = re.compile(r"(?!.*\.\d+$)(?=.*[a-z])[a-z0-9_-]+(\.[a-z0-9_-]+)*")

_MAPPED = ip_network("::ffff:0:0/96")
_NAT64 = ip_network("64:ff9b::/96")
_6TO4 = ip_network("2002::/16")
_TEREDO = ip_network("2001::/32")


class AddressPolicy(msgspec.Struct, frozen=True):
    """What `egress_allow` permits beyond the public internet, and what it can never permit.

    `own` are the (address, port) pairs this service listens on, the wildcard addresses included.
    """

    groups: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    own: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def parse(
        cls,
        allow: Iterable[str],
        *,
        allow_loopback: bool = False,
        own: Collection[tuple[str, int]] = (),
    ) -> Self:
        """Reads entries of `egress_allow`: a CIDR or address, a host name, or a group's name.

        Raises ValueError with one clear line for anything else.
        """
        entries = {entry.strip().lower() for entry in allow}
        groups = {entry for entry in entries if entry.startswith("@")}
        if unknown := sorted(groups - GROUPS.keys()):
            raise ValueError(f"{unknown[0]} is none of {', '.join(GROUPS)}")
        hosts = {entry for entry in entries if _HOST.fullmatch(entry)}
        return cls(
            groups=frozenset(groups | ({"@loopback"} if allow_loopback else set())),
            networks=tuple(_network(entry) for entry in sorted(entries - groups - hosts)),
            hosts=frozenset(hosts),
            own=frozenset((str(ip_address(address)), port) for address, port in own),
        )

    def refusal(self, host: str, address: str, *, local: bool = False, port: int = 0) -> str | None:
        """Why `address`, to which `host` resolved, may not be dialed; None when it may.

        `local` says that the address belongs to this machine, whatever its group.
        """
        meant = unwrap(ip_address(address.partition("%")[0]))
        if any(self._is_own(each, port, local=local) for each in meant):
            return f"{address}:{port} is this service itself"
        if host.lower().rstrip(".") in self.hosts:
            return None
        for each in meant:
            group = group_of(each)
            if group is None or group in self.groups or any(each in n for n in self.networks):
                continue
            via = "" if str(each) == address else f" (inside {address})"
            return f"{each}{via} is in {group}, which egress_allow does not name"
        return None

    def _is_own(self, address: Address, port: int, *, local: bool) -> bool:
        local = local or group_of(address) == "@loopback"
        return any(
            port == own_port
            and (ip_address(own) == address or (local and ip_address(own).is_unspecified))
            for own, own_port in self.own
        )


def group_of(address: Address) -> str | None:
    """The group that holds `address`; None for the public internet."""
    for group, networks in GROUPS.items():
        if any(address in network for network in networks):
            return group
    return None


def unwrap(address: Address) -> tuple[Address, ...]:
    """The addresses that dialing `address` reaches: those inside a tunnel, or itself.

    A Teredo address names two, its server and its client. Dialing the unspecified address reaches
    this very machine.
    """
    if address.is_unspecified:
        return (ip_address("127.0.0.1" if address.version == 4 else "::1"),)
    if isinstance(address, IPv4Address):
        return (address,)
    if address in _MAPPED or address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address in _6TO4:
        return (IPv4Address(int(address) >> 80 & 0xFFFFFFFF),)
    if address in _TEREDO:
        return (
            IPv4Address(int(address) >> 64 & 0xFFFFFFFF),
            IPv4Address(~int(address) & 0xFFFFFFFF),
        )
    return (address,)


def _network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{entry!r} is no address, CIDR or host name: {error}") from error

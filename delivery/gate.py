"""Asks the address policy about every address on its way to a socket."""

import socket
from typing import Any

from .address import AddressPolicy


class Refused(OSError):
    """Raised where aiohttp expects an OSError, so that it gives the connection up."""


class Gate:
    """Lets pass what the policy allows and raises `Refused` for the rest."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._own_ports = {port for _, port in policy.own}

    def check(self, host: str, address: str, port: int) -> None:
        local = port in self._own_ports and _is_local(address)
        if reason := self._policy.refusal(host, address, port=port, local=local):
            raise Refused(reason)

    def open(self, host: str, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an entry of `getaddrinfo`: the last gate before the network.

        It is the only one for an address written in a URL.
        """
        family, kind, protocol, _, address = info
        self.check(host, address[0], address[1])
        return socket.socket(family, kind, protocol)


def _is_local(address: str) -> bool:
    """Whether the address is one of this machine's: only those can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True

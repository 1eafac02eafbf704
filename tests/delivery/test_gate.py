"""The gate in front of every socket."""

import socket

import pytest

from delivery.address import AddressPolicy
from delivery.gate import Gate, Refused

ANY = "0.0.0.0"  # noqa: S104 -- an address under test; nothing listens there


def test_a_wildcard_listener_is_met_at_this_machine_s_addresses_only() -> None:
    """Another machine's service on the same port is none of ours."""
    gate = Gate(AddressPolicy.parse(["@loopback", "@reserved"], own=[(ANY, 8001)]))

    gate.check("elsewhere.test", "192.0.2.1", 8001)
    gate.check("localhost", "127.0.0.1", 8002)
    with pytest.raises(Refused, match="this service itself"):
        gate.check("localhost", "127.0.0.1", 8001)


def test_a_socket_is_opened_for_what_may_be_dialed() -> None:
    """The last gate sees the address itself, whatever name led there."""
    gate = Gate(AddressPolicy.parse(["inside.test"]))
    stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")

    gate.open("inside.test", (*stream, ("10.0.0.1", 80))).close()
    with pytest.raises(Refused, match="@private"):
        gate.open("10.0.0.1", (*stream, ("10.0.0.1", 80)))

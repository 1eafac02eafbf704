"""The address policy as a table: how forbidden addresses are written, what settings permit."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis.strategies import ip_addresses

from delivery.address import AddressPolicy, group_of, unwrap

DEFAULT = AddressPolicy.parse([])
ANY = "0.0.0.0"  # noqa: S104 -- an address under test; nothing listens there


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("127.0.0.1", "@loopback"),
        ("127.255.255.254", "@loopback"),
        (ANY, "@loopback"),
        ("::1", "@loopback"),
        ("::", "@loopback"),
        ("::ffff:127.0.0.1", "@loopback"),
        ("64:ff9b::7f00:1", "@loopback"),
        ("2002:7f00:1::", "@loopback"),
        ("10.0.0.1", "@private"),
        ("172.16.0.1", "@private"),
        ("172.31.255.255", "@private"),
        ("192.168.1.1", "@private"),
        ("::ffff:10.0.0.1", "@private"),
        ("fd00::1", "@private"),
        ("fec0::1", "@private"),
        ("169.254.169.254", "@linklocal"),
        ("fe80::1", "@linklocal"),
        ("fe80::1%eth0", "@linklocal"),
        ("0.1.2.3", "@reserved"),
        ("100.64.0.1", "@reserved"),
        ("192.0.0.8", "@reserved"),
        ("192.0.2.1", "@reserved"),
        ("198.18.0.1", "@reserved"),
        ("198.51.100.1", "@reserved"),
        ("203.0.113.1", "@reserved"),
        ("224.0.0.1", "@reserved"),
        ("239.1.1.1", "@reserved"),
        ("255.255.255.255", "@reserved"),
        ("ff02::1", "@reserved"),
        ("2001:db8::1", "@reserved"),
        ("3fff::1", "@reserved"),
        ("64:ff9b:1::1", "@reserved"),
        ("::127.0.0.1", "@reserved"),
        ("100::1", "@reserved"),
        # Teredo names a server and an inverted client address; here one of each is private.
        ("2001:0:a00:1::f7f7:f7f7", "@private"),
        ("2001:0:808:808::f5ff:fffe", "@private"),
    ],
)
def test_what_is_not_the_public_internet_is_refused(address: str, group: str) -> None:
    """Every special range is denied under its group's name, also inside a tunnelled address."""
    refusal = DEFAULT.refusal("example.com", address)

    assert refusal is not None
    assert group in refusal


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "223.255.255.255",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ],
)
def test_the_public_internet_is_allowed(address: str) -> None:
    """Global unicast addresses pass, and so do tunnels that lead to them."""
    assert DEFAULT.refusal("example.com", address) is None


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        (["@private"], "example.com", "10.1.2.3"),
        (["@private"], "example.com", "::ffff:10.1.2.3"),
        (["@loopback"], "localhost", "::1"),
        (["@linklocal"], "example.com", "169.254.169.254"),
        (["@reserved"], "example.com", "100.64.0.1"),
        (["10.1.0.0/16"], "example.com", "10.1.255.1"),
        (["10.1.2.3"], "example.com", "10.1.2.3"),
        (["fd00:1::/32"], "example.com", "fd00:1::5"),
        (["Internal.Example"], "internal.example.", "10.1.2.3"),
        ([" receiver "], "receiver", "192.168.0.9"),
    ],
)
def test_settings_permit_what_they_name(allow: list[str], host: str, address: str) -> None:
    """A group, a network, an address or a host name in `egress_allow` opens just that."""
    assert AddressPolicy.parse(allow).refusal(host, address) is None
    assert DEFAULT.refusal(host, address) is not None


@pytest.mark.parametrize(
    ("allow", "host", "address"),
    [
        (["10.1.0.0/16"], "example.com", "10.2.0.1"),
        (["internal.example"], "evil.internal.example", "10.1.2.3"),
        (["@private"], "example.com", "127.0.0.1"),
        # A Teredo server at 127.0.0.1 in front of a client at 10.0.0.1.
        (["10.0.0.0/8"], "example.com", "2001:0:7f00:1::f5ff:fffe"),
    ],
)
def test_settings_permit_nothing_else(allow: list[str], host: str, address: str) -> None:
    """Neighbours of what is named stay closed, and a tunnel needs all of its ends allowed."""
    assert AddressPolicy.parse(allow).refusal(host, address) is not None


@pytest.mark.parametrize("entry", ["@public", "10.0.0.0/33", "10.0.0.1/8", "a host", "127.1", ""])
def test_an_entry_that_means_nothing_is_an_error(entry: str) -> None:
    """A typing error in the settings is reported instead of being ignored."""
    with pytest.raises(ValueError, match=r"is none of|is no address"):
        AddressPolicy.parse([entry])


def test_loopback_is_allowed_on_request() -> None:
    """The service may reach loopback while it is itself reachable from there only."""
    policy = AddressPolicy.parse([], allow_loopback=True)

    assert policy.refusal("localhost", "127.0.0.1") is None
    assert policy.refusal("localhost", "10.0.0.1") is not None


@pytest.mark.parametrize(
    ("listens", "address", "port", "local", "refused"),
    [
        ("127.0.0.1", "127.0.0.1", 8001, False, True),
        ("127.0.0.1", "::ffff:127.0.0.1", 8001, False, True),
        ("127.0.0.1", ANY, 8001, False, True),
        ("127.0.0.1", "127.0.0.1", 8002, False, False),
        ("127.0.0.1", "127.0.0.2", 8001, False, False),
        (ANY, "127.0.0.5", 8001, False, True),
        (ANY, "192.168.7.7", 8001, True, True),
        (ANY, "192.168.7.8", 8001, False, False),
        ("::", "127.0.0.1", 8001, False, True),
        ("::", "192.168.7.7", 8001, True, True),
    ],
)
def test_the_service_never_calls_itself(
    listens: str, address: str, port: int, local: bool, refused: bool
) -> None:
    """Its own listeners are out of reach whatever is allowed, wildcard addresses included."""
    allow = ["@loopback", "@private", "anything.example"]
    policy = AddressPolicy.parse(allow, own=[(listens, 8001)])

    refusal = policy.refusal("anything.example", address, local=local, port=port)

    assert (refusal is not None) == refused


@given(ip_addresses(v=4))
def test_no_wrapping_hides_an_address(inner: IPv4Address) -> None:
    """Whatever is refused bare is refused mapped, through NAT64, 6to4 and Teredo as well."""
    number = int(inner)
    wrapped = [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(0x20010000 << 96 | number << 64 | 0xF7F7F7F7),
        IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | (number ^ 0xFFFFFFFF)),
    ]

    assert {inner} <= {*unwrap(wrapped[0])}
    assert all(inner in unwrap(address) for address in wrapped)
    if DEFAULT.refusal("h", str(inner)):
        assert all(DEFAULT.refusal("h", str(address)) for address in wrapped)


@given(ip_addresses())
def test_the_policy_is_total(address: IPv4Address | IPv6Address) -> None:
    """Every address has an answer, and what Python itself calls not global is never allowed."""
    refusal = DEFAULT.refusal("example.com", str(address))

    assert refusal is not None or group_of(ip_address(unwrap(address)[0])) is None
    if refusal is None and address.version == 4:
        assert address.is_global
        assert not address.is_multicast

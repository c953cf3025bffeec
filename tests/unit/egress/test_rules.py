"""Where the gateway may be sent by a URL: public addresses by https, all else only where it is
allowed, and some places never.
"""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mailrelay_gateway.contract.files import ConfigError, GatewayConfig
from mailrelay_gateway.egress.rules import NotAllowed, Rules, choose, parse_target, rules_of
from tests.models import made

PUBLIC = "93.184.216.34"
CLUSTER = Rules(allowed=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
EVERYTHING = Rules(allowed=(ip_network("0.0.0.0/0"), ip_network("::/0")))
ONE_S_OWN = Rules(allowed=(ip_network("127.0.0.0/8"),), loopback=True)


def may(url: str, address: str, rules: Rules) -> bool:
    try:
        return choose(parse_target(url), [address], rules) == (address,)
    except NotAllowed:
        return False


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1"])
def test_public_addresses_are_for_https(address: str) -> None:
    assert may("https://example.com/token", address, Rules())
    assert not may("http://example.com/token", address, Rules())


@pytest.mark.parametrize(
    "address",
    ["10.96.0.1", "192.168.1.1", "172.16.0.9", "100.64.0.1", "fd12::1", "198.18.0.1", "240.0.0.1"],
)
def test_others_only_inside_the_allowed_networks(address: str) -> None:
    assert not may("https://idp.example.com/", address, Rules())
    allowed = Rules(allowed=(ip_network(address),))
    assert may("https://idp.example.com/", address, allowed)
    assert may("http://idp.example.com/", address, allowed)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
    ],
)
def test_some_places_never_whatever_is_allowed(address: str) -> None:
    assert not may("https://example.com/", address, EVERYTHING)
    assert not may("http://example.com/", address, EVERYTHING)


def test_loopback_only_where_the_gateway_is_one_person_s() -> None:
    assert may("https://127.0.0.1:8443/token", "127.0.0.1", ONE_S_OWN)
    assert not may("https://[::1]:8443/token", "::1", ONE_S_OWN)  # not in the network
    assert not may("https://169.254.169.254/", "169.254.169.254", ONE_S_OWN)


def test_of_several_addresses_the_allowed_ones_are_taken() -> None:
    target = parse_target("https://example.com/")
    assert choose(target, ["127.0.0.1", PUBLIC, "10.0.0.1"], Rules()) == (PUBLIC,)


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(
        NotAllowed, match=r"idp.corp is 10.1.2.3, not a public address.*allowedEgressCIDRs"
    ):
        choose(parse_target("https://idp.corp/"), ["10.1.2.3"], Rules())
    with pytest.raises(NotAllowed, match=r"^10.1.2.3 is not a public address"):
        choose(parse_target("https://10.1.2.3/"), ["10.1.2.3"], Rules())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "//example.com/",
        "https://user:pass@example.com/",
        "https://user@example.com/",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://exämple.com/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://example.com\\@evil/",
        "https://[::1/",
        "https://" + "a" * 3000,
    ],
)
def test_what_is_no_url_of_ours(url: str) -> None:
    with pytest.raises(NotAllowed):
        parse_target(url)


def test_the_rules_of_a_configuration() -> None:
    def config(**egress: object) -> GatewayConfig:
        given = {"allowed_cidrs": ("10.0.0.0/8",), "loopback": False, "proxy": ""} | egress
        document = made.relay_document(
            relay=made.relay_reference(namespace="n", name="r"), hostname="h", egress=given
        )
        return GatewayConfig(relay=document, senders=(), digest="")

    assert rules_of(config()).allowed == (ip_network("10.0.0.0/8"),)
    assert rules_of(config(proxy="http://proxy.corp:3128")).proxy == "http://proxy.corp:3128"
    for wrong in (
        {"allowed_cidrs": ("10.0.0.1/8",)},
        {"allowed_cidrs": ("x",)},
        {"proxy": "https://proxy.corp:3128"},
        {"proxy": "http://user:secret@proxy.corp:3128"},
    ):
        with pytest.raises(ConfigError, match="relay: field egress: "):
            rules_of(config(**wrong))

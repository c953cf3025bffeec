"""The hosts file is read as libc reads it, and nonsense in it is passed over."""

from __future__ import annotations

from mailrelay_gateway.couriers.resolver import parse_hosts


def test_names_and_aliases_with_ipv4_first() -> None:
    text = """
    # comment
    127.0.0.1   localhost
    fd00::1     smtp.example.com relay   # both
    10.0.0.1    SMTP.example.com.
    10.0.0.1    smtp.example.com
    not-an-address  broken.example.com
    10.0.0.9
    """
    assert parse_hosts(text) == {
        "localhost": ["127.0.0.1"],
        "smtp.example.com": ["10.0.0.1", "fd00::1"],
        "relay": ["fd00::1"],
    }

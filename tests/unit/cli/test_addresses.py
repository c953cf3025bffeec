"""What `--bind` and `--admin` take, and what each slip of the hand is told."""

import pytest

from mailrelay_operator.cli.admin import parse_host, parse_host_port, resolve_here


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("localhost", "localhost"),
        ("fe80::1:25", "fe80::1:25"),
    ],
)
def test_an_address_is_taken_with_or_without_brackets(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("127.0.0.1:2525", "has a port; listeners have theirs in `spec.listeners`"),
        ("[::1]:2525", "has a port"),
        ("localhost:25", "has a port"),
        (":25", "has a port"),
        ("2525", "is not an address, such as 127.0.0.1"),
        ("", "is not an address"),
    ],
)
def test_a_port_is_not_an_address(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_host(text)


@pytest.mark.parametrize(
    ("text", "parsed"), [("127.0.0.1:8025", ("127.0.0.1", 8025)), ("[::1]:80", ("::1", 80))]
)
def test_an_admin_address_has_a_port(text: str, parsed: tuple[str, int]) -> None:
    assert parse_host_port(text) == parsed


def test_an_address_without_its_brackets_is_told_to_have_them() -> None:
    with pytest.raises(ValueError, match=r"needs brackets: \[::1\]:8025"):
        parse_host_port("::1:8025")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_an_address_of_this_machine_is_resolved(host: str) -> None:
    assert resolve_here(host) in ("127.0.0.1", "0.0.0.0", "::1")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_what_is_no_address_of_this_machine_is_said(host: str) -> None:
    with pytest.raises(ValueError, match=f"{host} is not an address of this machine"):
        resolve_here(host)

"""Addresses: what is taken is one address, and is found again as it was written."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.headers import read_mailboxes
from mailrelay_gateway.smtp.address import is_address, split_path

LOCAL = st.text(
    string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~.-", min_size=1, max_size=30
)
LABEL = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ADDRESS = st.builds("{}@{}".format, LOCAL, DOMAIN)
PHRASE = st.text(string.ascii_letters + " -'", max_size=20)
QUOTED = st.text(string.printable[:95], max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
COMMENT = st.text(string.ascii_letters + "@<>,. ", max_size=10).map("({})".format)


@given(ADDRESS)
def test_a_path_gives_its_address_back(address: str) -> None:
    """Invariant: an address in brackets, with or without parameters and route, is read as it is."""
    assert is_address(address)
    octets = address.encode()
    assert split_path(b"<" + octets + b">") == (address, "")
    assert split_path(b" <" + octets + b"> SIZE=1 BODY=7BIT") == (address, "SIZE=1 BODY=7BIT")
    assert split_path(b"<@hop.example:" + octets + b">") == (address, "")
    assert split_path(octets + b" SIZE=1") == (address, "SIZE=1")


@given(st.binary(max_size=40))
def test_whatever_is_taken_is_an_address_without_control_characters(argument: bytes) -> None:
    """Invariant: nothing that could break a line or a bracket comes out of the grammar."""
    path = split_path(argument)
    if path is not None:
        address, parameters = path
        assert address == "" or is_address(address)
        assert all(" " <= each <= "~" for each in address)
        assert "\r" not in parameters and "\n" not in parameters


@given(st.lists(st.tuples(PHRASE | QUOTED, ADDRESS, COMMENT | st.just("")), min_size=1, max_size=4))
def test_every_mailbox_of_a_from_is_seen(mailboxes: list[tuple[str, str, str]]) -> None:
    """Invariant: a list of well-formed mailboxes gives all its addresses, in order, and
    no other.
    """
    value = ", ".join(f"{phrase} {comment}<{address}>" for phrase, address, comment in mailboxes)
    assert read_mailboxes(value.encode()) == tuple(address for _, address, _ in mailboxes)


@given(st.lists(st.sampled_from([*'<>,:;@()"\\ .ab', "a@b", "<a@b>"]), max_size=14).map("".join))
def test_no_address_hides_in_a_from_that_is_read(value: str) -> None:
    """Invariant: outside quotes and comments, each "@" of a From that can be read is one of its
    addresses.
    """
    found = read_mailboxes(value.encode())
    if found is not None and '"' not in value and "(" not in value and "\\" not in value:
        assert value.count("@") == len(found)
        for address in found:
            assert is_address(address)
            assert address in value


@given(st.binary(max_size=60))
def test_reading_a_from_never_fails(value: bytes) -> None:
    """Invariant: any octets give addresses or None."""
    found = read_mailboxes(value)
    assert found is None or all(is_address(address) for address in found)

"""Names become addresses: literals, hosts file, DNS over real packets, and search domains only
where they are safe.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from mailrelay_gateway.couriers.resolver import MAX_ADDRESSES, SystemResolver, Unresolved
from mailrelay_gateway.descriptors import is_shortage
from tests.peers.descriptors import none_left


class NameServer(asyncio.DatagramProtocol):
    """Answers from a table of (name, type) to addresses; a name that is missing does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.broken: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = question.rdtype.name
        self.asked.append((name, kind))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.records:
            addresses = self.records[name, kind]
            response.answer.append(dns.rrset.from_text(question.name, 300, "IN", kind, *addresses))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(response.to_wire(), addr)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    yield protocol
    transport.close()


@pytest.fixture
def hosts_file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n10.1.1.1 smtp.example.com\n")
    return path


@pytest.fixture
def resolver(server: NameServer, hosts_file: Path) -> SystemResolver:
    return SystemResolver(nameservers=["127.0.0.1"], port=server.port, hosts_file=hosts_file)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("192.0.2.1", ["192.0.2.1"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("[2001:db8::1]", ["2001:db8::1"]),
        ("smtp.example.com", ["10.1.1.1"]),
        ("SMTP.Example.COM.", ["10.1.1.1"]),
        ("localhost", ["127.0.0.1"]),
        ("sink.localhost", ["127.0.0.1", "::1"]),
    ],
)
async def test_what_needs_no_dns_asks_none(
    resolver: SystemResolver, server: NameServer, host: str, addresses: list[str]
) -> None:
    assert list(await resolver.addresses(host)) == addresses
    assert server.asked == []


async def test_ipv4_comes_first_and_answers_are_kept(
    resolver: SystemResolver, server: NameServer
) -> None:
    server.records["mx.example.org", "AAAA"] = ["2001:db8::1"]
    server.records["mx.example.org", "A"] = ["192.0.2.1"]
    for _ in range(3):
        found = await resolver.addresses("mx.example.org")
        assert list(found) == ["192.0.2.1", "2001:db8::1"]
    assert len(server.asked) == 2


async def test_one_family_is_enough(resolver: SystemResolver, server: NameServer) -> None:
    server.records["six.example.org", "AAAA"] = ["2001:db8::6"]
    assert list(await resolver.addresses("six.example.org")) == ["2001:db8::6"]


async def test_many_addresses_are_cut(resolver: SystemResolver, server: NameServer) -> None:
    server.records["many.example.org", "A"] = [f"192.0.2.{n}" for n in range(30)]
    assert len(await resolver.addresses("many.example.org")) == MAX_ADDRESSES


async def test_a_changed_hosts_file_is_read_again(
    resolver: SystemResolver, hosts_file: Path
) -> None:
    assert list(await resolver.addresses("smtp.example.com")) == ["10.1.1.1"]
    hosts_file.write_text("10.2.2.2 smtp.example.com\n")
    os.utime(hosts_file, ns=(1, 1))
    assert list(await resolver.addresses("smtp.example.com")) == ["10.2.2.2"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("missing.example.org", "missing.example.org. does not exist in DNS"),
        ("empty.example.org", "empty.example.org. has no address in DNS"),
        ("broken.example.org", "broken.example.org."),
        ("a..b", "a..b is not a host name"),
        ("x" * 64 + ".example.org", "is not a host name"),
    ],
)
async def test_a_name_without_an_address_says_why(
    resolver: SystemResolver, server: NameServer, host: str, words: str
) -> None:
    server.records["empty.example.org", "TXT"] = []
    server.broken.add("broken.example.org")
    with pytest.raises(Unresolved) as caught:
        await resolver.addresses(host)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("sink", ["sink.mail.svc.cluster.local", "sink.cluster.local", "sink"]),
        ("sink.mail.svc", ["sink.mail.svc.mail.svc.cluster.local", "sink.mail.svc.cluster.local"]),
        ("smtp.example.org", ["smtp.example.org"]),
        ("sink.", ["sink"]),
    ],
)
async def test_search_domains_are_for_names_that_no_public_zone_has(
    server: NameServer, tmp_path: Path, host: str, names: list[str]
) -> None:
    resolver = SystemResolver(
        nameservers=["127.0.0.1"],
        port=server.port,
        hosts_file=tmp_path / "none",
        search=["mail.svc.cluster.local", "cluster.local"],
    )
    server.records[names[-1], "A"] = ["192.0.2.7"]
    assert list(await resolver.addresses(host)) == ["192.0.2.7"]
    assert [name for name, kind in server.asked if kind == "A"] == names


async def test_without_a_descriptor_nothing_is_said_of_the_name(
    server: NameServer, resolver: SystemResolver
) -> None:
    server.records["relay.example.com", "A"] = ["192.0.2.7"]
    with none_left(os.getpid()), pytest.raises(OSError, match="open files") as raised:
        await resolver.addresses("relay.example.com")
    assert is_shortage(raised.value)
    assert await resolver.addresses("relay.example.com") == ["192.0.2.7"]

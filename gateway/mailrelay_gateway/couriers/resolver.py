"""Resolves host names: IP literals, localhost, /etc/hosts, then DNS. The only resolver used for
delivery.

libc's resolver is not used: it would append the pod's search domains to every name (ndots:5), so
that a wildcard in one of them could divert a smarthost's mail. Here a name with a dot is absolute.
Only names that cannot be public are tried with the search domains first, as Services are addressed
that way in a cluster: those without a dot (`sink`) and those that end in `.svc` (`sink.mail.svc`).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from mailrelay_gateway.descriptors import is_shortage
from mailrelay_gateway.egress.names import Resolver, Unresolved

__all__ = ["MAX_ADDRESSES", "Resolver", "SystemResolver", "Unresolved", "parse_hosts"]

#: Addresses tried of one host; DNS answers with more are in random order anyway.
MAX_ADDRESSES = 8
#: Names cached for their TTL. A relay has a handful of smarthosts.
CACHE_SIZE = 1000
HOSTS_FILE = Path("/etc/hosts")
#: The kubelet writes a few lines; a hosts file beyond this is not read further.
MAX_HOSTS_OCTETS = 1024 * 1024


class SystemResolver:
    """IP literals, localhost, the hosts file, and DNS with a cache. Shared by all
    upstreams.
    """

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        port: int = 53,
        search: Sequence[str] = (),
        hosts_file: Path = HOSTS_FILE,
    ) -> None:
        """Use the system's name servers, or those given, with their `search` domains."""
        self._hosts_file = hosts_file
        self._hosts: dict[str, list[str]] = {}
        self._hosts_read: tuple[int, int] | None = None  # mtime in ns and size, when last read
        try:
            self._dns = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration:
            # No resolv.conf: literals and the hosts file still work, other names are Unresolved.
            self._dns = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            self._dns.nameservers = list(nameservers)
            self._dns.port = port
            self._dns.search = [dns.name.from_text(domain) for domain in search]
        self._dns.cache = dns.resolver.LRUCache(CACHE_SIZE)
        # One name server gets 2 s, so that a second one is tried within the 5 s of a lookup.
        self._dns.timeout, self._dns.lifetime = 2.0, 5.0

    async def addresses(self, host: str) -> Sequence[str]:
        """See Resolver."""
        name = host.rstrip(".").lower()
        try:
            return (str(ipaddress.ip_address(name.strip("[]"))),)
        except ValueError:
            pass
        if found := self._from_hosts_file().get(name):
            return found[:MAX_ADDRESSES]
        if name == "localhost" or name.endswith(".localhost"):
            return ("127.0.0.1", "::1")  # RFC 6761 section 6.3: never queried
        return await self._from_dns(host, name)

    async def _from_dns(self, host: str, name: str) -> Sequence[str]:
        try:
            candidates = self._candidates(host, name)
        except dns.exception.DNSException as error:
            raise Unresolved(f"{host} is not a host name: {error}") from None
        problems: list[str] = []
        for candidate in candidates:
            answers = await asyncio.gather(self._ask(candidate, "A"), self._ask(candidate, "AAAA"))
            found = [
                address for answer in answers if isinstance(answer, list) for address in answer
            ]
            if found:
                return found[:MAX_ADDRESSES]
            problems += dict.fromkeys(answer for answer in answers if isinstance(answer, str))
        raise Unresolved("; ".join(problems))

    def _candidates(self, host: str, name: str) -> list[dns.name.Name]:
        """The absolute names to query, in order."""
        absolute = dns.name.from_text(name)
        if host.endswith(".") or ("." in name and not name.endswith(".svc")):
            return [absolute]
        relative = dns.name.from_text(name, None)
        searched = []
        for domain in self._dns.search:
            try:
                searched.append(relative.concatenate(domain))
            except dns.name.NameTooLong:
                continue
        return [*searched, absolute]

    async def _ask(self, name: dns.name.Name, kind: str) -> list[str] | str:
        """The addresses, or a sentence about why there are none."""
        try:
            answer = await self._dns.resolve(name, kind, search=False)
        except dns.resolver.NXDOMAIN:
            return f"{name} does not exist in DNS"
        except dns.resolver.NoAnswer:
            return f"{name} has no address in DNS"
        except dns.exception.Timeout:
            return f"no answer from DNS for {name}"
        except dns.exception.DNSException as error:
            for cause in _causes(error):
                if is_shortage(cause):
                    raise cause from None
            return f"DNS failed for {name}: {error}"
        except OSError as error:
            if is_shortage(error):
                raise
            return f"DNS cannot be asked for {name}: {error}"
        return [record.address for record in answer]

    def _from_hosts_file(self) -> dict[str, list[str]]:
        """The hosts file by name; read again when it changes."""
        try:
            stat = self._hosts_file.stat()
            if self._hosts_read != (stat.st_mtime_ns, stat.st_size):
                with self._hosts_file.open("rb") as file:
                    self._hosts = parse_hosts(
                        file.read(MAX_HOSTS_OCTETS).decode("ascii", "replace")
                    )
                self._hosts_read = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            self._hosts, self._hosts_read = {}, None
        return self._hosts


def _causes(error: dns.exception.DNSException) -> list[Exception]:
    """Why each queried name server failed, as far as the error says."""
    return [each[3] for each in error.kwargs.get("errors", ()) if isinstance(each[3], Exception)]


def parse_hosts(text: str) -> dict[str, list[str]]:
    """A hosts file as lower-case names and their addresses, IPv4 first; invalid lines are
    skipped.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) < 2:
            continue
        try:
            address = str(ipaddress.ip_address(words[0]))
        except ValueError:
            continue
        for name in words[1:]:
            addresses = found.setdefault(name.lower().rstrip("."), [])
            if address not in addresses:
                addresses.append(address)
    for addresses in found.values():
        addresses.sort(key=lambda address: ":" in address)
    return found

"""Which URLs in resources, and which addresses, the gateway may connect to. Pure.

The author of a resource may not have access to everything that the gateway's pod can reach: the
cloud's metadata service, the kubelet, another tenant's Service. Therefore:

- https only; plain http only for addresses inside the allowed networks.
- Never loopback, link-local, metadata, unspecified and multicast addresses, whatever is allowed;
loopback only if the gateway has a single user (`mailrelay up`).
- Non-public addresses only inside the allowed networks.

The address counts, not the name, and the caller connects to the checked address, since a name may
resolve differently a moment later. An IPv6 address with an embedded IPv4 one is judged by the
latter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final
from urllib.parse import urlsplit

from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

#: Metadata services outside the link-local networks: AWS on IPv6, Alibaba, Oracle.
_METADATA: Final = frozenset(
    map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "fd20:ce::254"))
)
#: RFC 6052: the prefixes through which IPv6-only networks reach IPv4 addresses.
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: With a numeric or hexadecimal last label, libraries parse the name as an IPv4 address in a legacy
#: notation ("127.1", "0x7f.1").
_NUMERIC_END: Final = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$")
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
#: Characters of a URL: webhooks have long ones, and Microsoft's token endpoints some 90.
MAX_URL: Final = 2048


class NotAllowed(Exception):
    """The gateway may not connect there; the message names the target, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`allowed`: networks with non-public addresses that may be connected to, also with plain http.
    `loopback`: whether they may include loopback addresses. `proxy`: the HTTP proxy
    (http://HOST:PORT) for public addresses; empty: none.
    """

    allowed: tuple[Network, ...] = ()
    loopback: bool = False
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target of a URL. `host` is without brackets."""

    url: str
    host: str
    port: int
    tls: bool

    @property
    def shown(self) -> str:
        """The URL for messages: without path and query, which may contain a secret."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def rules_of(config: GatewayConfig) -> Rules:
    """The rules of a configuration; raises ConfigError if they are invalid."""
    egress = config.relay.egress
    try:
        allowed = tuple(ip_network(text) for text in egress.allowed_cidrs)
        if egress.proxy and parse_target(egress.proxy).tls:
            raise NotAllowed("the proxy itself must be reached with http: write http://HOST:PORT")
    except (ValueError, NotAllowed) as error:
        raise ConfigError(RELAY_FILE, f"field egress: {error}") from None
    return Rules(allowed=allowed, loopback=egress.loopback, proxy=egress.proxy)


def parse_target(url: str) -> Target:
    """The target of a URL; raises NotAllowed if it is malformed."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise NotAllowed(f"the URL must be at most {MAX_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotAllowed("the URL is malformed: write https://HOST/PATH") from None
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise NotAllowed("the URL is not of the form https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise NotAllowed("the URL contains a login: remove everything before the @")
    if literal(host) is None and (_HOST.fullmatch(host) is None or _NUMERIC_END.search(host)):
        raise NotAllowed(f"{host!r} is neither a host name nor an IP address")
    tls = parts.scheme == "https"
    return Target(url=url, host=host, port=port or (443 if tls else 80), tls=tls)


def literal(host: str) -> Address | None:
    """The address, if the host is one rather than a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def choose(target: Target, addresses: Iterable[str], rules: Rules) -> tuple[str, ...]:
    """The allowed ones of the addresses; if there is none, raises NotAllowed with the problem of
    the first.
    """
    problems: list[str] = []
    chosen: list[str] = []
    for text in addresses:
        problem = _problem(target, ip_address(text), rules)
        if problem:
            name = f"{text} is" if text == target.host else f"{target.host} is {text},"
            problems.append(f"{name} {problem}")
        else:
            chosen.append(text)
    if not chosen:
        raise NotAllowed(problems[0] if problems else f"{target.host} has no address")
    return tuple(chosen)


def is_allowed(address: str, rules: Rules) -> bool:
    """Whether the address is inside the allowed networks."""
    return _inside(_carried(ip_address(address)), rules)


def _problem(target: Target, address: Address, rules: Rules) -> str:
    """Why an address is not allowed, as the end of a sentence; "" if it is."""
    found = _carried(address)
    if found.is_loopback and not rules.loopback:
        return "a loopback address, which is never allowed"
    if found.is_link_local or found in _METADATA:
        return "a link-local or metadata address, which is never allowed"
    if found.is_unspecified or found.is_multicast:
        return "not the address of a host"
    if _inside(found, rules):
        return ""
    if not found.is_global:
        return (
            "not a public address: to allow it, add its network to the chart's allowedEgressCIDRs"
            " (--allow-egress of mailrelay up)"
        )
    if not target.tls:
        return (
            "a public address, which requires https: plain http is only for networks in"
            " allowedEgressCIDRs"
        )
    return ""


def _inside(address: Address, rules: Rules) -> bool:
    return any(
        address.version == network.version and address in network for network in rules.allowed
    )


def _carried(address: Address) -> Address:
    """The IPv4 address embedded in an IPv6 one, which determines its route; otherwise the address
    itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address

"""Sends requests to URLs in resources: checked, pinned to the checked address, bounded, and without
redirects.

`rules` decides what is allowed. Each request has its own connection, since there are few.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mailrelay_gateway import __version__
from mailrelay_gateway.egress.names import Resolver, Unresolved
from mailrelay_gateway.egress.rules import (
    NotAllowed,
    Rules,
    Target,
    choose,
    is_allowed,
    literal,
    parse_target,
)

#: Octets of an answer's body. Token endpoints answer with 2 to 8 KiB.
MAX_ANSWER = 64 * 1024
#: What each request says of itself. The answer is bounded as received; a compressed one would not
#: be.
OWN_HEADERS: Mapping[str, str] = {
    "Accept-Encoding": "identity",
    "User-Agent": f"mailrelay/{__version__}",
}
#: Seconds for a request from DNS to the last octet of its answer.
DEADLINE = 15.0


class Unreachable(Exception):
    """No usable answer; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer. Names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Egress:
    """Requests to URLs in resources."""

    def __init__(self, resolver: Resolver, rules: Rules | None = None) -> None:
        """Open no connection yet."""
        self._resolver = resolver
        self.rules = rules or Rules()

    def follow(self, rules: Rules) -> None:
        """Use these rules from the next request on."""
        self.rules = rules

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
        deadline: float = DEADLINE,
    ) -> Answer:
        """The answer to a POST, whatever its status. `tls` replaces the system's CAs. Raises
        NotAllowed and Unreachable.
        """
        target = checked_target(url)
        try:
            async with asyncio.timeout(deadline):
                pinned, proxy = await self.route(target)
                return await _request(target, body, headers, tls, pinned, proxy)
        except TimeoutError:
            raise Unreachable(f"{target.shown} did not answer within {deadline:g} s") from None

    async def route(self, target: Target) -> tuple[Sequence[str], str]:
        """The addresses to connect to, and the proxy to use, if any. Raises NotAllowed and
        Unreachable; the caller sets the deadline.
        """
        rules = self.rules
        if not rules.proxy:
            return choose(target, await self._addresses(target.host), rules), ""
        try:
            addresses = await self._addresses(target.host)
        except Unreachable:
            # Behind a proxy few names resolve locally. The proxy resolves the name and decides.
            addresses = ()
        if addresses:
            chosen = choose(target, addresses, rules)
            direct = [address for address in chosen if is_allowed(address, rules)]
            if direct:
                return direct, ""
        elif not target.tls:
            raise NotAllowed(f"{target.host} does not resolve locally, so it requires https")
        proxy = parse_target(rules.proxy)
        return await self._addresses(proxy.host), rules.proxy

    async def _addresses(self, host: str) -> Sequence[str]:
        if literal(host) is not None:
            return (host,)
        try:
            return await self._resolver.addresses(host)
        except Unresolved as error:
            raise Unreachable(f"{host} has no address: {error}") from None
        except OSError as error:  # no file descriptor left
            raise Unreachable(f"DNS lookup of {host} failed: {error.strerror}") from None


def checked_target(url: str) -> Target:
    """The target of a URL; raises NotAllowed if it is malformed."""
    target = parse_target(url)
    if URL(url).host != target.host:  # both URL parsers must agree
        raise NotAllowed("the URL is not of the form https://HOST/PATH")
    return target


class Pinned(AbstractResolver):
    """Returns the checked addresses, whatever DNS answers by now."""

    def __init__(self, addresses: Sequence[str] = ()) -> None:
        """Return these until `addresses` is set to others."""
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The same addresses for every name."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def _request(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None,
    pinned: Sequence[str],
    proxy: str,
) -> Answer:
    connector = aiohttp.TCPConnector(
        resolver=Pinned(pinned), use_dns_cache=False, force_close=True, limit=1
    )
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.post(
                target.url,
                data=body,
                headers={**OWN_HEADERS, **headers},
                allow_redirects=False,
                ssl=tls if tls is not None else True,
                proxy=proxy or None,
                timeout=aiohttp.ClientTimeout(total=None),  # the caller's deadline holds
            ) as response,
        ):
            return await read_answer(response, target)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unreachable(cause_of(error, target, proxy)) from None


def cause_of(error: Exception, target: Target, proxy: str) -> str:
    """Why a request failed, as a sentence without its full stop."""
    via = f" through the proxy {parse_target(proxy).shown}" if proxy else ""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            f"{target.shown} has a certificate that is not trusted"
            f" ({_words(error.certificate_error)})"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{target.shown} cannot be reached{via}: it answered {error.status}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return f"{target.shown} cannot be reached{via}: {_words(cause)}"


async def read_answer(response: aiohttp.ClientResponse, target: Target) -> Answer:
    """The answer with its body, at most MAX_ANSWER octets of it."""
    return Answer(
        status=response.status,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=await _bounded(response, target),
    )


async def _bounded(response: aiohttp.ClientResponse, target: Target) -> bytes:
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > MAX_ANSWER:
            raise Unreachable(f"{target.shown} answered with more than {MAX_ANSWER} octets")
    return bytes(found)


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__

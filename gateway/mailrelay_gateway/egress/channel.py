"""Requests to one host over kept connections, with bodies that are sent in pieces: for API
upstreams.

Checked and pinned as in `client`. Whoever posts a message must know whether it may have arrived, so
a failure before its last octet is told apart from an answer that was lost.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Protocol

import aiohttp

from mailrelay_gateway.descriptors import is_shortage
from mailrelay_gateway.egress.client import (
    OWN_HEADERS,
    Answer,
    Egress,
    Pinned,
    Unreachable,
    cause_of,
    checked_target,
    read_answer,
)
from mailrelay_gateway.egress.rules import Rules

#: Seconds until an idle connection is closed: before most servers do it (5 s and more), since a
#: request into a connection that is just being closed is lost with its answer.
KEPT = 4.0
#: Seconds for which a name's checked addresses are used.
PINNED = 30.0
#: Seconds for TCP and TLS, for each address.
CONNECT = 10.0


class AnswerLost(Exception):
    """The whole request was sent, and no usable answer came; the message says why."""


class UnreadableUpload(Exception):
    """The body to send could not be read: our own fault."""


class Upload(Protocol):
    """The body of a request."""

    @property
    def octets(self) -> int:
        """Its size."""
        ...

    @property
    def blocking(self) -> bool:
        """Whether reading a piece blocks, so that a thread has to do it."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces, at least one. Raises OSError if it cannot be read."""
        ...


class Channel:
    """Requests to one host. Lives in one event loop; `close` ends it."""

    def __init__(
        self, egress: Egress, url: str, *, tls: ssl.SSLContext | None, connections: int
    ) -> None:
        """Open nothing yet. `url` is the base of all requests' URLs, `tls` replaces the system's
        CAs; `connections` is how many there may be at once. Raises NotAllowed if the URL is
        malformed.
        """
        self._egress = egress
        self._url = url.rstrip("/")
        self._target = checked_target(url)
        self._tls = tls
        self._connections = connections
        self._pinned = Pinned()
        self._proxy = ""
        self._pinned_until = 0.0
        self._rules: Rules | None = None
        self._session: aiohttp.ClientSession | None = None
        self._users: dict[aiohttp.ClientSession, int] = {}  # requests in progress
        self._closed = False

    async def post(
        self, path: str, sending: Sending, *, headers: Mapping[str, str], deadline: float
    ) -> Answer:
        """The answer to a POST, whatever its status. Raises NotAllowed, Unreachable (the request
        cannot have arrived as a whole), AnswerLost (it may have), UnreadableUpload, and OSError
        without a file descriptor.
        """
        try:
            async with asyncio.timeout(deadline):
                return await self._request("POST", path, headers, sending)
        except TimeoutError:
            words = f"{self._target.shown} did not answer within {deadline:g} s"
            raise (AnswerLost if sending.complete else Unreachable)(words) from None
        except Unreachable as error:
            if sending.defect is not None:
                raise UnreadableUpload(str(sending.defect)) from None
            if sending.complete:
                raise AnswerLost(str(error)) from None
            raise

    async def probe(self, deadline: float) -> None:
        """Find out whether the host answers HTTP requests at all. Raises NotAllowed and
        Unreachable.
        """
        try:
            async with asyncio.timeout(deadline):
                await self._request("HEAD", "/", {}, None)
        except TimeoutError:
            raise Unreachable(
                f"{self._target.shown} did not answer within {deadline:g} s"
            ) from None

    async def close(self) -> None:
        """Close the connections, each as soon as its request ends. A request that begins later has
        a connection of its own.
        """
        self._closed = True
        await self._part()

    async def _part(self) -> None:
        """Let go of the session, and close it once nobody uses it."""
        session, self._session = self._session, None
        if session is not None and session not in self._users:
            await session.close()

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], sending: Sending | None
    ) -> Answer:
        session = await self._checked_session()
        self._users[session] = self._users.get(session, 0) + 1
        try:
            return await self._ask(session, method, path, headers, sending)
        finally:
            self._users[session] -= 1
            if not self._users[session]:
                del self._users[session]
                if session is not self._session:
                    await session.close()

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        headers: Mapping[str, str],
        sending: Sending | None,
    ) -> Answer:
        length = {} if sending is None else {"Content-Length": str(sending.octets)}
        try:
            async with session.request(
                method,
                self._url + path,
                data=None if sending is None else sending.pieces(),
                headers={**OWN_HEADERS, **headers, **length},
                allow_redirects=False,
                ssl=self._tls if self._tls is not None else True,
                proxy=self._proxy or None,
            ) as response:
                return await read_answer(response, self._target)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
            if is_shortage(cause):
                raise cause from None
            raise Unreachable(cause_of(error, self._target, self._proxy)) from None

    async def _checked_session(self) -> aiohttp.ClientSession:
        """The session, with addresses that the rules in force allow."""
        rules, now = self._egress.rules, asyncio.get_running_loop().time()
        if rules is not self._rules:  # what is kept may no longer be allowed
            await self._part()
            self._rules, self._pinned_until = rules, 0.0
        if now >= self._pinned_until:
            self._pinned.addresses, self._proxy = await self._egress.route(self._target)
            self._pinned_until = now + PINNED
        if self._session is not None:
            return self._session
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._pinned,
                use_dns_cache=False,
                keepalive_timeout=KEPT,
                limit=self._connections,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # Without `total`: the caller's deadline holds.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT),
        )
        if not self._closed:
            self._session = session
        return session


class Sending:
    """One upload: how far it got, and what went wrong in it."""

    def __init__(self, upload: Upload) -> None:
        """Nothing is sent yet."""
        self._upload = upload
        self.octets = upload.octets
        #: Whether a connection was there, and whether all of it was handed to that.
        self.started = False
        self.complete = False
        self.refused = False  # its answer has come: nothing was taken
        self.moved_at = asyncio.get_running_loop().time()  # when it last got on
        self.defect: OSError | None = None

    @property
    def may_have_arrived(self) -> bool:
        """Whether it may have been taken, as far as is known without an answer."""
        return self.complete and not self.refused

    async def pieces(self) -> AsyncIterator[bytes]:
        """Hand out the pieces. `complete` is set before the last one goes out."""
        pieces = self._upload.pieces()
        left = self.octets
        self.started = True
        try:
            while left > 0:
                piece = await self._next(pieces)
                left -= len(piece)
                if not piece or left < 0:
                    raise OSError("the body is not as long as expected")
                self.complete = left == 0
                self.moved_at = asyncio.get_running_loop().time()
                yield piece
        except OSError as error:
            self.defect = error
            raise

    async def _next(self, pieces: Iterator[bytes]) -> bytes:
        if not self._upload.blocking:
            return next(pieces, b"")
        return await asyncio.to_thread(next, pieces, b"")

"""A client of the admin port of the gateway's pods: HTTPS to their IP addresses, verified with the
relay's CA."""

from __future__ import annotations

import ipaddress
import ssl
from functools import lru_cache

import aiohttp
import orjson

from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_operator.cluster.port import Forbidden, Unavailable

#: Seconds for a whole request: a healthy pod answers in milliseconds, and a revocation must not
#: wait for dead nodes.
DEADLINE = 2.0
#: Concurrent connections: ten workers' relays of 100 pods each. Waiting for a connection counts
#: towards the deadline, so that with fewer the pods of one relay would be unreachable because those
#: of others are.
CONNECTIONS = 1024
#: Octets of an answer: 64 upstreams with a reply each are under 64 KiB.
MAX_ANSWER = 256 * 1024
#: CAs whose TLS contexts are cached: one per relay, some 20 KiB each.
MAX_TRUSTED = 512


class GatewayPods:
    """The port's Gateways over aiohttp; one session per process, `close` at the end."""

    def __init__(self, *, port: int = ADMIN_PORT, deadline: float = DEADLINE) -> None:
        """Connect to this port, with a deadline in seconds."""
        self._port = port
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def status(self, address: str, token: str, *, authority: str, name: str) -> GatewayStatus:
        """GET /status. Raises Unavailable within the deadline, and Forbidden if the pod does not
        accept the token (yet). The token is sent only to a server with a certificate for `name`
        issued by this CA."""
        doing = f"asking the gateway at {address} for its status"
        if self._session is None:
            # trust_env is off: never use a proxy for pods.
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._deadline),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            )
        try:
            async with self._session.get(
                f"https://{_in_url(address)}:{self._port}/status",
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
                ssl=_trust(authority),
                server_hostname=name,
            ) as response:
                if response.status in (401, 403):
                    raise Forbidden(doing, "it does not accept the token yet")
                octets = await response.content.read(MAX_ANSWER)
                while len(octets) < MAX_ANSWER and (
                    more := await response.content.read(MAX_ANSWER)
                ):
                    octets += more
                if response.status != 200:
                    raise Unavailable(doing, f"HTTP {response.status}")
        except TimeoutError:
            raise Unavailable(doing, f"no answer within {self._deadline:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(doing, str(error) or type(error).__name__) from error
        try:
            return GatewayStatus.read(orjson.loads(octets))
        except ValueError:  # including invalid JSON
            raise Unavailable(doing, "the answer is not a gateway's status") from None


@lru_cache(maxsize=MAX_TRUSTED)
def _trust(authority: str) -> ssl.SSLContext:
    """A context that trusts only this CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=authority)
    return context


def _in_url(address: str) -> str:
    return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address

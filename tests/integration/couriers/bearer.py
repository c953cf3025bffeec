"""A provider: a token endpoint, and an SMTP server that takes mail of those only to whom it gave a
token.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.couriers.scripted_server import Peer, Script, ScriptedServer, take_all
from tests.peers.certificates import Authority, make_authority
from tests.peers.token_endpoint import TokenEndpoint

USER = "robot@example.com"


def asks_for(endpoint: TokenEndpoint, *mechanisms: str) -> Script:
    """A server that takes mail of those only whom the endpoint gave a token."""

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH LOGIN PLAIN " + " ".join(mechanisms))
        await peer.hear("AUTH")
        words = peer.heard[-1].split()
        assert words[1] in mechanisms, f"not {words[1]}"
        if len(words) == 2:
            await peer.say("334 ")
            response = peer.note(await peer.reader.readuntil(b"\r\n"))
        else:
            response = words[2]
        fields = base64.b64decode(response).decode().split("\x01")
        [bearer] = [one for one in fields if one.startswith("auth=Bearer ")]
        assert fields[0] in (f"user={USER}", f"n,a={USER},")
        if not endpoint.good(bearer.removeprefix("auth=Bearer ")):
            await peer.say("334 " + base64.b64encode(b'{"status":"401"}').decode())
            assert (await peer.reader.readuntil(b"\r\n")).strip() in (b"", b"AQ==")
            await peer.say("535 5.7.3 Authentication unsuccessful")
            await peer.until_quit()
            return
        await peer.say("235 2.7.0 Accepted")
        await take_all(peer)

    return script


@dataclass
class Provider:
    """A token endpoint, a server that takes its tokens, and the CA of the endpoint."""

    endpoint: TokenEndpoint
    server: ScriptedServer
    authority: Authority

    @property
    def bodies(self) -> list[bytes]:
        """What was sent to the server."""
        return [body for peer in self.server.peers for body in peer.bodies]


@asynccontextmanager
async def a_provider(folder: Path, *, tls: bool = False) -> AsyncIterator[Provider]:
    """A provider that asks for XOAUTH2, on loopback; `tls`: from the first octet."""
    authority = make_authority(folder)
    async with TokenEndpoint(authority.server_context("127.0.0.1")) as endpoint:
        context = authority.server_context("127.0.0.1") if tls else None
        server = ScriptedServer([asks_for(endpoint, "XOAUTH2")], tls=context)
        await server.start()
        yield Provider(endpoint, server, authority)
        await server.stop()

"""An SMTP server that takes mail of those only to whom a token endpoint gave a token."""

from __future__ import annotations

import base64

from tests.integration.couriers.scripted_server import Peer, Script, take_all
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

"""Requests to URLs that others named: to the address that was checked and to no other, through the
proxy where there is one, and never further than the first answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from mailrelay_gateway.egress.client import Egress, Unreachable
from mailrelay_gateway.egress.names import Unresolved
from mailrelay_gateway.egress.rules import NotAllowed, Rules
from tests.peers.certificates import Authority, make_authority
from tests.peers.listening import ListeningPeer, SilentServer

LOOPBACK = (ip_network("127.0.0.0/8"),)
ANYWHERE = Rules(allowed=LOOPBACK, loopback=True)
NAME = "idp.example.com"


class Names:
    """Answers each question with the next of its answers, and with the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def addresses(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host != NAME or not self.answers:
            raise Unresolved(f"{host} does not exist in DNS")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@dataclass(eq=False)
class Proxy(ListeningPeer):
    """An HTTP proxy that knows CONNECT, and leads everywhere to one port of this machine."""

    target: int = 0
    asked: list[str] = field(default_factory=list)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.splitlines()[0])
        if not self.target:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
        finally:
            back.close()
            with contextlib.suppress(OSError):
                await back.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()
    writer.write_eof()


Serve = Callable[..., Awaitable[int]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
async def serve(authority: Authority) -> AsyncIterator[Serve]:
    """Starts HTTPS servers, with a certificate for NAME, that answer as they are told."""
    runners: list[web.AppRunner] = []

    async def start(answer: Callable[[web.Request], web.Response], *, tls: bool = True) -> int:
        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        runners.append(runner)
        await runner.setup()
        context = authority.server_context(NAME, "127.0.0.1") if tls else None
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        assert isinstance(port, int)
        return port

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem)


def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello at {request.path}")


async def test_the_connection_goes_to_the_address_that_was_checked(
    serve: Serve, trust: ssl.SSLContext
) -> None:
    port = await serve(hello)
    # A moment later the name leads elsewhere; nobody asks again.
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    egress = Egress(names, ANYWHERE)
    answer = await egress.post(f"https://{NAME}:{port}/token", b"x", headers={}, tls=trust)
    assert (answer.status, answer.body) == (200, b"hello at /token")
    assert names.asked == [NAME]
    with pytest.raises(NotAllowed, match=r"169.254.169.254, a link-local or metadata address"):
        await egress.post(f"https://{NAME}:{port}/token", b"x", headers={}, tls=trust)


async def test_only_what_is_allowed_is_connected_to(serve: Serve, trust: ssl.SSLContext) -> None:
    port = await serve(hello)
    egress = Egress(Names(["127.0.0.1"]), Rules(allowed=LOOPBACK))
    for host in (NAME, "127.0.0.1", "localhost"):
        with pytest.raises((NotAllowed, Unreachable)):
            await egress.post(f"https://{host}:{port}/", b"", headers={}, tls=trust)
    egress.follow(ANYWHERE)
    assert (await egress.post(f"https://{NAME}:{port}/", b"", headers={}, tls=trust)).status == 200


async def test_a_redirect_is_an_answer(serve: Serve, trust: ssl.SSLContext) -> None:
    seen = []

    def away(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    port = await serve(away)
    egress = Egress(Names(["127.0.0.1"]), ANYWHERE)
    answer = await egress.post(f"https://{NAME}:{port}/first", b"", headers={}, tls=trust)
    assert answer.status == 307
    assert seen == ["/first"]


async def test_an_answer_is_bounded_and_nothing_unfolds(
    serve: Serve, trust: ssl.SSLContext
) -> None:
    port = await serve(lambda _: web.Response(body=b"x" * 65_537))
    egress = Egress(Names(["127.0.0.1"]), ANYWHERE)
    with pytest.raises(Unreachable, match="more than 65536 octets"):
        await egress.post(f"https://{NAME}:{port}/", b"", headers={}, tls=trust)
    headers = {"Content-Encoding": "gzip"}
    port = await serve(lambda _: web.Response(body=b"\x1f\x8b not", headers=headers))
    answer = await egress.post(f"https://{NAME}:{port}/", b"", headers={}, tls=trust)
    assert answer.body == b"\x1f\x8b not"


async def test_silence_has_an_end() -> None:
    async with SilentServer() as silent:
        egress = Egress(Names(["127.0.0.1"]), ANYWHERE)
        with pytest.raises(Unreachable, match=r"did not answer within 0.2 s"):
            await egress.post(f"https://{NAME}:{silent.port}/", b"", headers={}, deadline=0.2)


async def test_a_certificate_of_another_name_is_not_trusted(
    serve: Serve, trust: ssl.SSLContext
) -> None:
    port = await serve(hello)

    class Elsewhere(Names):
        async def addresses(self, host: str) -> Sequence[str]:
            return ["127.0.0.1"]

    egress = Egress(Elsewhere(), ANYWHERE)
    with pytest.raises(Unreachable, match=" has a certificate that"):
        await egress.post(f"https://other.example.com:{port}/", b"", headers={}, tls=trust)


async def test_plain_http_only_inside_the_allowed_networks(serve: Serve) -> None:
    port = await serve(hello, tls=False)
    egress = Egress(Names(["127.0.0.1"]), ANYWHERE)
    assert (await egress.post(f"http://{NAME}:{port}/", b"", headers={})).status == 200
    egress = Egress(Names(["93.184.216.34"]), ANYWHERE)
    with pytest.raises(NotAllowed, match="a public address, which requires"):
        await egress.post(f"http://{NAME}:{port}/", b"", headers={})


async def test_what_is_public_goes_through_the_proxy(serve: Serve, trust: ssl.SSLContext) -> None:
    port = await serve(hello)
    async with Proxy() as proxy:
        proxy.target = port
        rules = Rules(proxy=f"http://127.0.0.1:{proxy.port}")
        for names in (Names(["93.184.216.34"]), Names()):  # one resolves here, one does not
            answer = await Egress(names, rules).post(
                f"https://{NAME}/token", b"", headers={}, tls=trust
            )
            assert answer.body == b"hello at /token"
        assert proxy.asked == [f"CONNECT {NAME}:443 HTTP/1.1"] * 2


async def test_what_is_forbidden_is_forbidden_through_the_proxy_too(trust: ssl.SSLContext) -> None:
    async with Proxy() as proxy:
        rules = Rules(proxy=f"http://127.0.0.1:{proxy.port}")
        for names, url in (
            (Names(["169.254.169.254"]), f"https://{NAME}/"),
            (Names(["10.0.0.1"]), f"https://{NAME}/"),
            (Names(), "https://169.254.169.254/"),
            (Names(), "https://127.0.0.1/"),
            (Names(), f"http://{NAME}/"),
        ):
            with pytest.raises(NotAllowed):
                await Egress(names, rules).post(url, b"", headers={}, tls=trust)
        assert not proxy.asked


async def test_what_is_allowed_inside_is_reached_directly(
    serve: Serve, trust: ssl.SSLContext
) -> None:
    port = await serve(hello)
    async with Proxy() as proxy:
        rules = Rules(allowed=LOOPBACK, loopback=True, proxy=f"http://127.0.0.1:{proxy.port}")
        egress = Egress(Names(["127.0.0.1"]), rules)
        answer = await egress.post(f"https://{NAME}:{port}/", b"", headers={}, tls=trust)
        assert answer.status == 200
        assert not proxy.asked


async def test_a_proxy_that_refuses_is_named(trust: ssl.SSLContext) -> None:
    async with Proxy() as proxy:
        rules = Rules(proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unreachable, match=r"through the proxy 127.0.0.1:\d+: it answered 403"):
            await Egress(Names(), rules).post(f"https://{NAME}/", b"", headers={}, tls=trust)

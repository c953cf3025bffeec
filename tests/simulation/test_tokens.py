"""Access tokens over hours and days, in virtual time: renewed before their end, one request at a
time, and an endpoint that is away is neither forgotten nor stormed.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.oauth2.fetcher import TokenSurroundings
from mailrelay_gateway.couriers.oauth2.source import TokenSource
from mailrelay_gateway.egress.client import Answer, Unreachable
from mailrelay_gateway.metrics import Metrics
from tests.simulation.virtual import VirtualLoop

HOUR = 3600.0
SETTINGS = OAuth2(
    username="robot@example.com",
    mechanism=SaslMechanism.XOAUTH2,
    token_url="https://login.example.com/token",
    ca=None,
    scopes=(),
    grant=oauth2.ClientCredentials(client_id="id", client_secret="secret"),
)


@dataclass
class Endpoint:
    """Implements `source.Post`: gives numbered tokens of an hour, or is away."""

    away: bool = False
    asked: list[float] = field(default_factory=list)  # when
    wait: str = ""

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.2)
        if self.wait:
            return Answer(status=503, headers={"retry-after": self.wait}, body=b"busy")
        if self.away:
            raise Unreachable("login.example.com:443 cannot be asked: Connection refused")
        token = {"access_token": f"token-{len(self.asked)}", "expires_in": HOUR}
        return Answer(status=200, headers={}, body=json.dumps(token).encode())


@dataclass
class World:
    """One source, its endpoint, and what it said when there was no token."""

    endpoint: Endpoint
    source: TokenSource
    failures: list[NoToken]
    returns: list[None]


def live(story: Callable[[World], Coroutine[Any, Any, None]], number: int = 0) -> None:
    """Let a story happen on the virtual clock."""

    async def run() -> None:
        endpoint = Endpoint()
        failures: list[NoToken] = []
        returns: list[None] = []
        around = TokenSurroundings(
            egress=endpoint, metrics=Metrics(), rng=random.Random(number), clock=lambda: 0.0
        )
        source = TokenSource(
            "up",
            SETTINGS,
            around,
            context=None,
            on_failure=failures.append,
            on_token=lambda: returns.append(None),
        )
        try:
            await story(World(endpoint, source, failures, returns))
        finally:
            source.stop()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


@pytest.mark.parametrize("number", range(5))
def test_for_a_day_there_is_always_a_token(number: int) -> None:
    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        await world.source.token()
        for _ in range(24 * 60):
            await asyncio.sleep(60)
            asked, now = len(world.endpoint.asked), loop.time()
            # The newest, or the one before while the newest is on its way.
            assert await world.source.token() in (f"token-{asked}", f"token-{asked - 1}")
            assert loop.time() == now  # nobody waits for it
        assert 24 <= len(world.endpoint.asked) <= 30
        assert not world.failures
        assert not world.returns

    live(story, number)


def test_an_hour_away_costs_nothing_until_the_token_ends_and_little_after() -> None:
    async def story(world: World) -> None:
        loop = asyncio.get_running_loop()
        first = await world.source.token()
        assert isinstance(first, str)
        await asyncio.sleep(600)
        world.endpoint.away = True
        gone_at, before = loop.time(), len(world.endpoint.asked)
        while loop.time() < gone_at + HOUR:
            await asyncio.sleep(30)
            found = await world.source.token() if loop.time() < gone_at + 2900 else ""
            assert found in (first, "")  # the token of before, to its last half minute
        assert world.failures  # it was said, though nobody asked
        found = await world.source.token()
        assert isinstance(found, NoToken)
        assert "Connection refused" in found.detail
        # From some minutes before the end on: 5 s, 10 s, ... 5 min; and our own question.
        assert 5 <= len(world.endpoint.asked) - before <= 20
        world.endpoint.away = False
        back = len(world.endpoint.asked)
        await asyncio.sleep(361)  # the longest pause, with its jitter
        assert len(world.endpoint.asked) > back
        assert len(world.returns) == 1
        assert isinstance(await world.source.token(), str)

    live(story)


def test_the_endpoint_s_own_time_is_kept_by_all_who_ask() -> None:
    async def story(world: World) -> None:
        world.endpoint.wait = "120"
        assert isinstance(await world.source.token(), NoToken)
        for _ in range(11):
            await asyncio.sleep(10)
            assert isinstance(await world.source.token(), NoToken)
        assert len(world.endpoint.asked) == 1
        world.endpoint.wait = ""
        await asyncio.sleep(11)
        assert isinstance(await world.source.token(), str)

    live(story)


def test_many_who_ask_at_once_ask_once() -> None:
    async def story(world: World) -> None:
        found = await asyncio.gather(*(world.source.token() for _ in range(50)))
        assert found == ["token-1"] * 50
        world.source.rejected("token-1")
        world.source.rejected("token-1")
        found = await asyncio.gather(*(world.source.token() for _ in range(50)))
        assert found == ["token-2"] * 50
        world.source.rejected("token-1")  # by a session that was late
        assert await world.source.token() == "token-2"

    live(story)


def test_who_gives_up_waiting_takes_nothing_from_the_others() -> None:
    async def story(world: World) -> None:
        first = asyncio.ensure_future(world.source.token())
        second = asyncio.ensure_future(world.source.token())
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == "token-1"

    live(story)


def test_after_its_end_nothing_is_fetched() -> None:
    async def story(world: World) -> None:
        await world.source.token()
        world.source.stop()
        await asyncio.sleep(5 * HOUR)
        assert len(world.endpoint.asked) == 1
        assert isinstance(await world.source.token(), NoToken)
        assert "token-1" not in repr(world.source)

    live(story)

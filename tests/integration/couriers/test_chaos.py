"""A server that misbehaves at random, from fixed seeds: what we believe of a message is what the
server did with it.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import UPSTREAM, attempt
from tests.integration.couriers.scripted_server import PIPELINING, Peer

MESSAGES = 150


class Chaos:
    """Plays one connection after the other. Remembers what it told about each recipient."""

    def __init__(self, seed: int, silence: float = 0.0) -> None:
        self._rng = random.Random(seed)
        self._silence = silence  # how often an answer never comes
        self.took: Counter[str] = Counter()  # answered 250 to the final dot
        self.refused: Counter[str] = Counter()  # answered 5xx to something

    async def play(self, peer: Peer) -> None:
        await self._hesitate(peer)
        await peer.say("220 chaos")
        await peer.ehlo(*(PIPELINING if self._rng.random() < 0.8 else ["SIZE 0"]))
        while await self._transaction(peer):
            pass

    async def _transaction(self, peer: Peer) -> bool:
        """One transaction, command by command; False: hang up."""
        recipients: list[str] = []
        while True:
            line = await peer.reader.readline()
            verb = line[:4].upper().strip()
            if verb in (b"QUIT", b""):
                return False
            if verb == b".":
                await peer.say("554 nobody")
                return True
            await self._hesitate(peer)
            answer = self._answer(verb)
            if answer is None:
                return False
            if verb == b"RCPT":
                recipient = line.decode().split("<")[1].split(">")[0]
                if answer.startswith("250"):
                    recipients.append(recipient)
                elif answer.startswith("5"):
                    self.refused[recipient] += 1
            await peer.say(answer)
            if answer.startswith("421"):
                return False
            if verb == b"RSET":
                recipients.clear()
            if verb == b"MAIL":
                assert not recipients, "a second MAIL without RSET"
                if not answer.startswith("250"):
                    return False  # RCPT and DATA that were sent along find nobody
            if verb == b"DATA" and answer.startswith("354"):
                return await self._body(peer, recipients)

    async def _hesitate(self, peer: Peer) -> None:
        if self._rng.random() < self._silence:
            await peer.silence()

    def _answer(self, verb: bytes) -> str | None:
        chance = self._rng.random()
        if chance < 0.03:
            return None
        if chance < 0.05:
            return "421 4.3.2 chaos"
        if chance < 0.08 and verb in (b"MAIL", b"RCPT", b"DATA"):
            return "451 4.3.0 later"
        if chance < 0.11 and verb == b"RCPT":
            return "550 5.1.1 nobody"
        return "354 go" if verb == b"DATA" else "250 ok"

    async def _body(self, peer: Peer, recipients: list[str]) -> bool:
        if not recipients:
            await peer.hear(".")
            await peer.say("554 nobody")
            return True
        if self._rng.random() < 0.03:
            return False
        await peer.hear_body()
        await self._hesitate(peer)
        chance = self._rng.random()
        if chance < 0.05:
            return False  # it never says what it did
        if chance < 0.07:
            await peer.send(b"\xff\xfe\r\n")
            return False
        if chance < 0.10:
            await peer.say("452 4.3.1 full")
            return True
        if chance < 0.13:
            self.refused.update(recipients)
            await peer.say("554 5.7.1 spam")
            return True
        self.took.update(recipients)
        await peer.say("250 2.0.0 stored")
        return chance < 0.95


QUICK = Probing(first=0.01, longest=0.02, spread=0.0, cap=0.01, shun=0.0)
IMPATIENT = Deadlines(
    tls=0.2,
    greeting=0.2,
    session=0.2,
    command=0.2,
    data=0.2,
    final=0.2,
    quit=0.1,
    stagger=0.02,
    stall=0.08,
)


@pytest.mark.parametrize("seed", range(4))
async def test_what_we_believe_is_what_the_server_did(rig: Rig, seed: int) -> None:
    chaos = Chaos(seed)
    believed = await play(rig, chaos, Deadlines(quit=0.5))
    assert believed >= {Result.DELIVERED, Result.FAILED, Result.DEFERRED, Result.UNCERTAIN}


@pytest.mark.parametrize("seed", range(4))
async def test_so_it_is_when_the_server_falls_silent_now_and_then(rig: Rig, seed: int) -> None:
    chaos = Chaos(seed, silence=0.03)
    believed = await play(rig, chaos, IMPATIENT)
    assert believed >= {Result.DELIVERED, Result.FAILED, Result.DEFERRED, Result.UNCERTAIN}


async def play(rig: Rig, chaos: Chaos, deadlines: Deadlines) -> set[Result]:
    """Deliver all messages, and compare what we believe with what the server did."""
    server = await rig.serve(chaos.play)
    config = rig.config(server.port, connections=4, messages=20)
    rig.run(config, deadlines=deadlines, probing=QUICK)
    rig.work.add(
        *(
            attempt(n, recipients=[f"a{n}@example.net", f"b{n}@example.net"])
            for n in range(MESSAGES)
        )
    )
    await rig.work.until_finished(MESSAGES)
    assert not rig.work.running
    believed = set()
    for one, outcomes in rig.work.finished:
        for recipient, outcome in zip(one.recipients, outcomes, strict=True):
            took = chaos.took[recipient.address]
            believed.add(outcome.result)
            match outcome.result:
                case Result.DELIVERED:
                    assert took == 1
                case Result.FAILED:
                    assert took == 0
                    assert chaos.refused[recipient.address] >= 1
                case Result.DEFERRED | Result.HELD:
                    assert took == 0
                case Result.UNCERTAIN:
                    assert took <= 1
    assert rig.metric("upstream_up", upstream=UPSTREAM) in (0, 1)
    return believed

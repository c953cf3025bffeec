"""A server that misbehaves at random, from fixed seeds: what we believe of a message is what the
server did with it.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mailrelay_gateway.delivery.deadlines import Deadlines
from mailrelay_gateway.delivery.health import Probing
from mailrelay_gateway.message.envelope import Result
from tests.integration.delivery.conftest import Rig
from tests.integration.delivery.memory_work import UPSTREAM, attempt
from tests.integration.delivery.scripted_server import PIPELINING, Peer

MESSAGES = 150


class Chaos:
    """Plays one connection after the other. Remembers what it told about each recipient."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.took: Counter[str] = Counter()  # answered 250 to the final dot
        self.refused: Counter[str] = Counter()  # answered 5xx to something

    async def play(self, peer: Peer) -> None:
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


@pytest.mark.parametrize("seed", range(4))
async def test_what_we_believe_is_what_the_server_did(rig: Rig, seed: int) -> None:
    chaos = Chaos(seed)
    server = await rig.serve(chaos.play)
    rig.run(
        rig.config(server.port, connections=4, messages=20),
        deadlines=Deadlines(quit=0.5),
        probing=Probing(first=0.01, longest=0.02, spread=0.0, cap=0.01, shun=0.0),
    )
    rig.work.add(
        *(
            attempt(n, recipients=[f"a{n}@example.net", f"b{n}@example.net"])
            for n in range(MESSAGES)
        )
    )
    await rig.work.until_finished(MESSAGES)
    assert not rig.work.running
    believed: dict[Result, int] = Counter()
    for one, outcomes in rig.work.finished:
        for recipient, outcome in zip(one.recipients, outcomes, strict=True):
            took = chaos.took[recipient.address]
            believed[outcome.result] += 1
            match outcome.result:
                case Result.DELIVERED:
                    assert took == 1
                case Result.FAILED:
                    assert took == 0
                    assert chaos.refused[recipient.address] >= 1
                case Result.DEFERRED:
                    assert took == 0
                case Result.UNCERTAIN:
                    assert took <= 1
                case Result.HELD:
                    raise AssertionError("nothing here speaks of logins")
    assert set(believed) == {
        Result.DELIVERED,
        Result.FAILED,
        Result.DEFERRED,
        Result.UNCERTAIN,
    }
    assert rig.metric("upstream_up", upstream=UPSTREAM) in (0, 1)

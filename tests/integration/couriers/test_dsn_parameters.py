"""DSN parameters reach an upstream that offers DSN, each with its own recipient."""

from __future__ import annotations

from dataclasses import replace

from mailrelay_gateway.message.envelope import Attempt
from mailrelay_gateway.smtp.dsn import DsnParameters, RecipientDsn
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, take_all

DSN = DsnParameters(
    "FULL",
    "id",
    (RecipientDsn("NEVER"), RecipientDsn(), RecipientDsn("SUCCESS", "rfc822;three@example.net")),
)


def offering(*extensions: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.greet(*extensions)
        await take_all(peer)

    return script


def mail(number: int, *recipients: str) -> Attempt:
    made = attempt(number, recipients=recipients)
    return replace(made, message=replace(made.message, dsn=DSN))


async def test_they_are_passed_on(rig: Rig) -> None:
    server = await rig.serve(offering("PIPELINING", "DSN"))
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, "one@example.net", "j\u00f6@example.net", "three@example.net"), attempt(1))
    await rig.work.until_finished(2)
    assert server.peers[0].heard[1:4] == [
        "MAIL FROM:<app@example.com> RET=FULL ENVID=id",
        "RCPT TO:<one@example.net> NOTIFY=NEVER",
        "RCPT TO:<three@example.net> NOTIFY=SUCCESS ORCPT=rfc822;three@example.net",
    ]
    passed = [outcome.dsn_passed for outcome in rig.work.outcomes]
    assert passed == [True, False, True, False], "not the one that could not be named"


async def test_where_dsn_is_not_offered_we_are_to_tell(rig: Rig) -> None:
    server = await rig.serve(offering("PIPELINING"))
    rig.run(rig.config(server.port))
    rig.work.add(mail(0, "one@example.net", "two@example.net", "three@example.net"))
    await rig.work.until_finished(1)
    assert server.peers[0].heard[1:3] == [
        "MAIL FROM:<app@example.com>",
        "RCPT TO:<one@example.net>",
    ]
    assert not any(outcome.dsn_passed for outcome in rig.work.outcomes)

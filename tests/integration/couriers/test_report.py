"""What is logged about an attempt: one line per group of recipients, with the upstream's own
words.
"""

from __future__ import annotations

from structlog.testing import capture_logs

from mailrelay_gateway.contract.documents import TlsMode
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import BODY, attempt
from tests.integration.couriers.scripted_server import Peer, polite


async def test_one_line_for_recipients_that_share_an_outcome(rig: Rig) -> None:
    async def picky(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "RCPT", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", "550 5.1.1 nobody", "250 ok", "354 go")
        await peer.hear_body()
        await peer.say("250 2.0.0 queued as 42")
        await peer.until_quit()

    server = await rig.serve(picky)
    rig.run(rig.config(server.port))
    with capture_logs() as lines:
        rig.work.add(attempt(7, recipients=["a@example.net", "b@example.net", "c@example.net"]))
        await rig.work.until_finished(1)
    deliveries = [line for line in lines if line["event"] == "delivery"]
    seconds = [
        line.pop(f"{which}_seconds")
        for line in deliveries
        for which in ("queued", "connect", "transaction")
    ]
    common = {
        "event": "delivery",
        "log_level": "info",
        "queue_id": f"{7:026d}",
        "envelope_sender": "app@example.com",
        "upstream": "smarthost",
        "host": f"127.0.0.1:{server.port}",
        "tls": "",
        "size": len(BODY),
    }
    assert deliveries == [
        {
            **common,
            "recipients": ["a@example.net", "c@example.net"],
            "recipient_count": 2,
            "result": "delivered",
            "reason": "Delivered",
            "reply": "250 2.0.0 queued as 42",
        },
        {
            **common,
            "recipients": ["b@example.net"],
            "recipient_count": 1,
            "result": "failed",
            "reason": "UpstreamRejected",
            "reply": "550 5.1.1 nobody",
        },
    ]
    assert len(seconds) == 6
    assert min(seconds) >= 0.0


async def test_the_tls_version_is_told(rig: Rig) -> None:
    server = await rig.serve(polite, tls=("127.0.0.1",))
    rig.run(rig.config(server.port, mode=TlsMode.IMPLICIT))
    with capture_logs() as lines:
        rig.work.add(attempt(1))
        await rig.work.until_finished(1)
    [line] = [line for line in lines if line["event"] == "delivery"]
    assert line["tls"] == "TLSv1.3"

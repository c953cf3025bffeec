"""8-bit mail through a real gateway to a real Postfix that does not offer 8BITMIME."""

from __future__ import annotations

import email
import email.policy
import os
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import Upstream
from tests.integration.everyday.scale import scale
from tests.peers.client import send_plain
from tests.peers.gateway import GatewayProcess, plain_listener, relay, sandbox, smarthost
from tests.peers.postfix import Postfix
from tests.ports import free_port
from tests.waiting import until

pytestmark = [
    pytest.mark.timeout(scale(300, 600)),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run Postfix's master"),
]

SEVEN_BIT = {"smtpd_discard_ehlo_keywords": "8bitmime", "strict_7bit_headers": "yes"}
TEXT = "Grüße aus Köln: äöüß.\n.\nEine Zeile mit Leerzeichen am Ende \n" * 3


def mail(subject: str, *, attachment: bytes = b"") -> bytes:
    """A message with 8-bit text, and perhaps an attachment in `binary`."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "app@example.net"
    message["Subject"] = subject
    message.set_content(TEXT, cte="8bit")
    if attachment:
        message.add_attachment(
            attachment, "application", "x-data", filename="Übersicht.txt", cte="8bit"
        )
    return message.as_bytes(policy=email.policy.SMTP)


def leaves(octets: bytes) -> list[bytes]:
    found = email.message_from_bytes(octets)
    contents = [part.get_payload(decode=True) for part in found.walk() if not part.is_multipart()]
    return [content.replace(b"\r\n", b"\n") for content in contents if isinstance(content, bytes)]


async def start(gateway: GatewayProcess, port: int, *upstreams: Upstream) -> None:
    gateway.write(relay([plain_listener(port)], upstreams))
    await gateway.start()


async def test_it_arrives_with_the_same_content(gateway: GatewayProcess, open_folder: Path) -> None:
    postfix = Postfix(open_folder, SEVEN_BIT)
    await postfix.start()
    try:
        port = free_port()
        await start(gateway, port, smarthost("postfix", postfix.port))
        line = "Zeile mit äöü\r\n".encode()
        sent = [
            mail("Grüße"),
            mail("Anhang", attachment=line * 50),
            mail("groß", attachment=line * 40_000),
        ]
        for message in sent:
            assert not message.isascii()
            await send_plain(
                port, message, sender="app@example.net", recipients=["one@example.net"]
            )
        await until(lambda: postfix.arrived() == len(sent), seconds=120)
        received = postfix.contents()
        assert all(octets.isascii() for octets in received)
        assert sorted(map(leaves, received)) == sorted(map(leaves, sent))
        headers = [email.message_from_bytes(one, policy=email.policy.default) for one in received]
        assert sorted(str(one["Subject"]) for one in headers) == ["Anhang", "Grüße", "groß"]
        assert {
            name for one in headers for part in one.walk() if (name := part.get_filename())
        } == {"Übersicht.txt"}
    finally:
        await postfix.stop()


async def test_long_lines_arrive_re_encoded_wherever_they_go(
    gateway: GatewayProcess, open_folder: Path
) -> None:
    postfix = Postfix(open_folder)  # it offers 8BITMIME, and cuts lines when it sends them on
    await postfix.start()
    try:
        port = free_port()
        await start(gateway, port, smarthost("postfix", postfix.port))
        header = b"From: app@example.net\r\nContent-Type: text/html\r\n\r\n"
        sent = [header + b"<p>" * 2000 + b"\r\n", header + b"<div>words " * 100_000 + b"\r\n"]
        for message in sent:
            await send_plain(
                port, message, sender="app@example.net", recipients=["one@example.net"]
            )
        await until(lambda: postfix.arrived() == len(sent), seconds=120)
        received = postfix.contents()
        assert all(len(line) <= 998 for one in received for line in one.split(b"\r\n"))
        assert sorted(map(leaves, received)) == sorted(map(leaves, sent))
    finally:
        await postfix.stop()


async def test_a_signed_one_takes_another_upstream_or_fails_with_its_reason(
    gateway: GatewayProcess, open_folder: Path
) -> None:
    postfix = Postfix(open_folder, SEVEN_BIT)
    await postfix.start()
    signed = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; b=YWJj\r\n" + mail("signed")
    try:
        port = free_port()
        await start(gateway, port, smarthost("postfix", postfix.port), sandbox())
        await send_plain(port, signed, sender="app@example.net", recipients=["one@example.net"])

        async def delivered_elsewhere() -> bool:
            return (
                await gateway.metric(
                    "mailrelay_delivery_attempts_total", upstream="capture", result="delivered"
                )
                == 1
            )

        await until(delivered_elsewhere)
        assert postfix.arrived() == 0

        gateway.write(relay([plain_listener(port)], [smarthost("postfix", postfix.port)]))
        await until(lambda: len(gateway.log_lines("config_loaded")) == 2)
        await send_plain(port, signed, sender="app@example.net", recipients=["two@example.net"])
        await until(lambda: postfix.arrived() == 1)
        [notice] = map(email.message_from_bytes, postfix.contents())
        report = notice.as_string()
        assert "Your message to two@example.net could not be delivered." in report
        assert "re-encoding would break a signature" in report.replace("\n", " ")
        assert "Status: 5.6.3" in report
        assert "Remote-MTA" not in report
    finally:
        await postfix.stop()

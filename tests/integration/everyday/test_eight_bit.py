"""8-bit mail through a real gateway to a real Postfix that does not offer 8BITMIME."""

from __future__ import annotations

import asyncio
import email
import email.policy
import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import Upstream
from tests.integration.everyday.scale import scale
from tests.peers.client import send_plain
from tests.peers.gateway import GatewayProcess, plain_listener, relay, sandbox, smarthost
from tests.peers.postfix import Postfix
from tests.ports import free_port
from tests.waiting import PATIENCE, until

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


async def test_utf_8_addresses_arrive_where_they_can(
    gateway: GatewayProcess, open_folder: Path
) -> None:
    """The domain of any; a local part beyond ASCII only with SMTPUTF8, else it fails in words."""
    postfix = Postfix(
        open_folder,
        {
            "smtpd_discard_ehlo_keywords": "smtputf8",
            "virtual_mailbox_domains": "example.net xn--bcher-kva.example",
        },
    )
    await postfix.start()
    message = (
        "From: Jörg <app@example.net>\r\nTo: Anna <anna@bücher.example>\r\n"
        "Subject: Grüße\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
    ).encode()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.ehlo("client.example")
            client.command_encoding = "utf-8"
            assert client.mail("app@example.net", ["SMTPUTF8", "BODY=8BITMIME"])[0] == 250
            assert client.rcpt("anna@bücher.example")[0] == 250
            assert client.rcpt("jörg@example.net")[0] == 250
            assert client.data(message)[0] == 250

    try:
        port = free_port()
        await start(gateway, port, smarthost("postfix", postfix.port))
        await asyncio.to_thread(send, port)
        await until(lambda: postfix.arrived() == 2)  # one, and the notice about the other
        read = [
            email.message_from_bytes(one, policy=email.policy.default) for one in postfix.contents()
        ]
        [mail_] = [one for one in read if one["Delivered-To"] == "anna@xn--bcher-kva.example"]
        [notice] = [one for one in read if one["Delivered-To"] == "app@example.net"]
        assert mail_["To"].addresses[0].addr_spec == "anna@xn--bcher-kva.example"
        assert (mail_["From"].addresses[0].display_name, mail_["Subject"]) == ("Jörg", "Grüße")
        assert "with UTF8SMTP id" in str(mail_["Received"]) + str(mail_.get_all("Received"))
        assert mail_.get_content().strip() == "Grüße"
        [text, report, *_] = notice.iter_parts()
        assert "jörg@example.net could not be delivered" in text.get_content()
        assert "utf-8; j\\x{F6}rg@example.net" in report.as_string()
        assert "Status: 5.6.7" in report.as_string()
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

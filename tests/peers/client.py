"""Clients for tests: the standard library's, in a thread."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Sequence

from tests.peers.gateway import PASSWORD, trusting
from tests.waiting import PATIENCE

MESSAGE = b"From: app@example.com\r\nTo: someone@example.net\r\nSubject: hello\r\n\r\nHello.\r\n"


async def send_plain(
    port: int,
    message: bytes = MESSAGE,
    *,
    sender: str = "app@example.com",
    recipients: Sequence[str] = ("someone@example.net",),
) -> str:
    """Send over a listener without TLS; the final reply's text. Raises smtplib's errors."""

    def send() -> str:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.ehlo("client.example")
            return _transact(client, message, sender, recipients)

    return await asyncio.to_thread(send)


async def send_logged_in(
    port: int,
    message: bytes = MESSAGE,
    *,
    username: str = "team-a.app",
    password: str = PASSWORD,
    sender: str = "app@example.com",
    recipients: Sequence[str] = ("someone@example.net",),
) -> str:
    """Send over STARTTLS with a login; the final reply's text. Raises smtplib's errors."""

    def send() -> str:
        with smtplib.SMTP("localhost", port, timeout=PATIENCE) as client:
            client.starttls(context=trusting())
            client.login(username, password)
            return _transact(client, message, sender, recipients)

    return await asyncio.to_thread(send)


def _transact(client: smtplib.SMTP, message: bytes, sender: str, recipients: Sequence[str]) -> str:
    client.ehlo_or_helo_if_needed()
    code, text = client.mail(sender)
    if code != 250:
        raise smtplib.SMTPSenderRefused(code, text, sender)
    for recipient in recipients:
        code, text = client.rcpt(recipient)
        if code != 250:
            raise smtplib.SMTPRecipientsRefused({recipient: (code, text)})
    code, text = client.data(message)
    if code != 250:
        raise smtplib.SMTPDataError(code, text)
    return text.decode()

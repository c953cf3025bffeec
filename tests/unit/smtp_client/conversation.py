"""A scripted conversation with the sans-IO client: what it sends, what it says, as plain lists to
compare.
"""

from __future__ import annotations

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.smtp.client.client import ClientSettings, SmtpClient
from mailrelay_gateway.smtp.client.events import Event, SessionReady, StartTls
from mailrelay_gateway.smtp.client.login import Bearer
from mailrelay_gateway.smtp.dsn import DsnParameters

EHLO_PIPELINING = b"250-sink\r\n250-PIPELINING\r\n250-SIZE 10000\r\n250 8BITMIME\r\n"
EHLO_PLAIN = b"250 sink\r\n"


class Conversation:
    """The client, and the server's side of the script. `feed` gives octets whole or one by one."""

    def __init__(
        self,
        *,
        tls: TlsMode = TlsMode.NONE,
        username: str = "",
        password: str = "",
        bearer: Bearer | None = None,
        clear_login: bool = False,
        bytewise: bool = False,
    ) -> None:
        self.client = SmtpClient(
            ClientSettings(
                hostname="mail.example.com",
                tls=tls,
                username=username,
                password=password,
                bearer=bearer,
                clear_login=clear_login,
            )
        )
        self.bytewise = bytewise
        self.events: list[Event] = []

    def feed(self, octets: bytes) -> list[Event]:
        """What the client makes of these octets."""
        if self.bytewise:
            events = []
            for octet in octets:
                events += self.client.receive(bytes((octet,)))
        else:
            events = self.client.receive(octets)
        self.events += events
        return events

    def sent(self) -> bytes:
        """What the client has to send since the last time."""
        return self.client.take_output()

    def begin(
        self,
        *recipients: str,
        sender: str = "a@example.com",
        eight_bit: bool = False,
        smtputf8: bool = False,
        dsn: DsnParameters | None = None,
    ) -> bytes:
        """Begin a transaction of 100 octets; what is sent for it."""
        self.client.begin(
            sender,
            recipients or ("b@example.net",),
            size=100,
            eight_bit=eight_bit,
            smtputf8=smtputf8,
            dsn=dsn,
        )
        return self.sent()


def ready(ehlo: bytes = EHLO_PIPELINING, *, bytewise: bool = False) -> Conversation:
    """A session that is up, without TLS and login."""
    conversation = Conversation(bytewise=bytewise)
    conversation.feed(b"220 sink ESMTP\r\n")
    assert conversation.sent() == b"EHLO mail.example.com\r\n"
    assert conversation.feed(ehlo) == [SessionReady()]
    assert conversation.sent() == b""
    return conversation


def under_tls(ehlo: bytes, **login: str | Bearer) -> Conversation:
    """A session that has just got `ehlo` after STARTTLS."""
    conversation = Conversation(tls=TlsMode.START_TLS, **login)  # type: ignore[arg-type]
    conversation.feed(b"220 sink ESMTP\r\n")
    conversation.feed(b"250-sink\r\n250-AUTH GSSAPI\r\n250 STARTTLS\r\n")
    assert conversation.sent() == b"EHLO mail.example.com\r\nSTARTTLS\r\n"
    assert conversation.feed(b"220 go\r\n") == [StartTls()]
    conversation.client.tls_established()
    assert conversation.sent() == b"EHLO mail.example.com\r\n"
    conversation.feed(ehlo)
    return conversation

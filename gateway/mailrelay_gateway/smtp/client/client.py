"""The SMTP client as a state machine without I/O: octets in, events and octets out (in the manner
of h11). Pure.

This module defines the dialog; the legal moves are in `client_states`, the form of lines in
`client_commands`. No socket, clock or task may come in here. The owner carries octets both ways and
follows one rule: `receive` works through all octets before it returns, so an event is history, and
`state` says what may be done now.

With PIPELINING (RFC 2920) MAIL, every RCPT and DATA leave in one write, the body and its dot in one
more; without it, line by line. The session never goes on after anything unexpected: a connection
that lost its step could give one message's reply to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.smtp.client.body import encode_body
from mailrelay_gateway.smtp.client.commands import (
    Capabilities,
    check_address,
    envelope_commands,
    mail_command,
    parse_capabilities,
    rcpt_command,
)
from mailrelay_gateway.smtp.client.events import (
    Event,
    Goodbye,
    SendBody,
    SessionEnded,
    SessionReady,
    StartTls,
    TransactionEnded,
    Transcript,
    Trouble,
)
from mailrelay_gateway.smtp.client.login import Bearer, Login, LoginRefused, Say
from mailrelay_gateway.smtp.client.replies import ReplyError, ReplyReader
from mailrelay_gateway.smtp.client.states import MOVES, REPLIES, STAGES, IllegalMove, State
from mailrelay_gateway.smtp.dsn import DsnParameters, rcpt_arguments
from mailrelay_gateway.smtp.reply import Reply

_SESSION_READY = SessionReady()
_START_TLS = StartTls()
_SEND_BODY = SendBody()
_GOODBYE = Goodbye()

# Names of their own for the states that each message passes: a look-up in an enum is slow
# (Python 3.11).
_READY, _MAIL, _RCPT, _DATA = State.READY, State.MAIL, State.RCPT, State.DATA
_BODY, _FINAL, _TLS, _CLOSED = State.BODY, State.FINAL, State.TLS, State.CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How to open a session: the name for EHLO, TLS, and the login, if any: a password, or
    `bearer`.

    `clear_login` allows the login without TLS; set it for loopback addresses only.
    """

    hostname: str
    tls: TlsMode
    username: str = ""
    password: str = field(default="", repr=False)
    bearer: Bearer | None = None
    clear_login: bool = False


class SmtpClient:
    """One connection to one server. `receive` takes octets, `take_output` returns those to send."""

    __slots__ = (
        "_accepted",
        "_answered",
        "_arguments",
        "_data",
        "_dirty",
        "_dot_sent",
        "_final",
        "_index",
        "_login",
        "_mail",
        "_mail_line",
        "_output",
        "_rcpts",
        "_reader",
        "_recipients",
        "_settings",
        "_tls",
        "capabilities",
        "replies",
        "state",
    )

    def __init__(self, settings: ClientSettings) -> None:
        """Begin where the server speaks first, or where the owner first has to shake hands
        (implicit TLS).
        """
        self._settings = settings
        self._reader = ReplyReader()
        self._output: list[bytes] = []
        self._tls = False
        self.state = State.TLS if settings.tls is TlsMode.IMPLICIT else State.GREETING
        self.capabilities = Capabilities()
        self.replies = 0  # whole replies received, which show the owner progress
        self._login: Login | None = None
        self._dirty = False  # the server may hold an unfinished transaction: RSET first
        self._recipients: Sequence[str]
        self._arguments: Sequence[str] | None = None  # of RCPT
        self._mail: Reply | None
        self._rcpts: list[Reply | None]
        self._data: Reply | None
        self._final: Reply | None
        self._index: int
        self._start_transcript("", ())

    def __repr__(self) -> str:
        """State and size of the envelope, for logs and tests."""
        return f"<SmtpClient {self.state.name} recipients={len(self._recipients)}>"

    # --- octets

    def receive(self, data: bytes) -> list[Event]:
        """Process octets from the server; return what they mean, in order. Nothing after
        SessionEnded or Goodbye.
        """
        events: list[Event] = []
        error: ReplyError | None = None
        try:
            replies = self._reader.receive(data)
        except ReplyError as found:
            error = found
            replies = found.before
        behind = not self._reader.empty
        for reply in replies:
            if self.state is _CLOSED:
                return events
            if self.state is _TLS:
                behind = True
                break
            self._reply(reply, events)
        if self.state is _CLOSED:
            return events
        if self.state is _TLS and (behind or error is not None):
            # What stands in cleartext behind the 220 would be taken for the server's first words
            # under TLS.
            events.append(self._end(Trouble.PROTOCOL, detail="octets in cleartext after STARTTLS"))
        elif error is not None:
            events.append(self._end(Trouble.PROTOCOL, detail=str(error)))
        return events

    def take_output(self) -> bytes:
        """The octets to send now, once."""
        if len(self._output) == 1:
            return self._output.pop()
        output = b"".join(self._output)
        self._output.clear()
        return output

    # --- what the owner does

    def tls_established(self) -> None:
        """The handshake is done: continue under TLS, forgetting what was said before (RFC 3207
        section 4.2).
        """
        if self.state is not State.TLS:
            raise IllegalMove(f"tls_established in {self.state.name}")
        self._tls = True
        self._reader = ReplyReader()
        self.capabilities = Capabilities()
        if self._settings.tls is TlsMode.IMPLICIT:
            self._move(State.GREETING)
        else:
            self._send_ehlo()

    def begin(
        self,
        sender: str,
        recipients: Sequence[str],
        *,
        size: int,
        eight_bit: bool,
        smtputf8: bool,
        dsn: DsnParameters | None = None,
    ) -> None:
        """Begin a transaction; `size` is the message's octets, `dsn` contains the DSN parameters of
        these recipients, passed on if DSN is offered. UnsendableAddress: nothing was begun.
        """
        if self.state is not _READY or not recipients:
            raise IllegalMove(f"begin in {self.state.name} with {len(recipients)} recipients")
        offered = self.capabilities
        utf8 = smtputf8 and offered.smtputf8
        check_address(sender, utf8=utf8)
        for recipient in recipients:
            check_address(recipient, utf8=utf8)
        line = mail_command(
            sender, offered, size=size, eight_bit=eight_bit, smtputf8=smtputf8, dsn=dsn
        )
        self._arguments = None
        if dsn is not None and offered.dsn:
            self._arguments = [rcpt_arguments(each) for each in dsn.recipients]
        self._start_transcript(line, recipients)
        if self._dirty:
            self._dirty = False
            self._output.append(b"RSET\r\n")
            self._move(State.RSET)
            if not offered.pipelining:
                return
        else:
            self._move(_MAIL)
        if offered.pipelining:
            self._output.append(envelope_commands(line, recipients, self._arguments))
        else:
            self._output.append(line.encode())

    def send_body(self, body: bytes, prelude: bytes = b"") -> None:
        """Send a whole body and its dot, preceded by `prelude`, whole header lines."""
        self._output.append(encode_body(body, prelude))
        self.body_sent()

    def body_sent(self) -> None:
        """The owner has sent the body through a BodyEncoder, the final dot included."""
        self._move(_FINAL)
        self._dot_sent = True

    def quit(self) -> None:
        """Send QUIT; only between transactions."""
        self._move(State.QUIT)
        self._output.append(b"QUIT\r\n")

    @property
    def transcript(self) -> Transcript:
        """The replies so far of the current transaction, or of the last one."""
        return Transcript(
            self._mail, tuple(self._rcpts), self._data, self._final, self._answered, self._dot_sent
        )

    # --- moving

    def _move(self, to: State) -> None:
        if to not in MOVES[self.state]:
            raise IllegalMove(f"from {self.state.name} to {to.name}")
        self.state = to

    def _end(
        self, trouble: Trouble, *, reply: Reply | None = None, detail: str = ""
    ) -> SessionEnded:
        stage = STAGES[self.state]
        self.state = State.CLOSED
        self._output.clear()
        return SessionEnded(stage, trouble, reply, detail)

    def _reply(self, reply: Reply, events: list[Event]) -> None:
        state = self.state
        self._answered += 1
        self.replies += 1
        if reply.code == 421 and state is not State.QUIT:
            self._record(state, reply)
            events.append(self._end(Trouble.CLOSING, reply=reply))
        elif reply.code // 100 not in REPLIES[state]:
            detail = f"an unexpected reply ({state.name}): {reply}"
            events.append(self._end(Trouble.PROTOCOL, reply=reply, detail=detail))
        else:
            _STEPS[state](self, reply, events)

    def _record(self, state: State, reply: Reply) -> None:
        """Remember a reply that ends the session; each step has its own."""
        if state is State.MAIL or state is State.RSET:
            self._mail = reply
        elif state is State.RCPT:
            self._rcpts[self._index] = reply
        elif state is State.DATA:
            self._data = reply
        elif state is State.FINAL or state is State.BODY:
            self._final = reply

    # --- the session

    def _on_greeting(self, reply: Reply, events: list[Event]) -> None:
        if reply.code >= 400:
            events.append(self._end(Trouble.REFUSED, reply=reply))
        else:
            self._send_ehlo()

    def _send_ehlo(self) -> None:
        self._move(State.EHLO)
        self._output.append(f"EHLO {self._settings.hostname}\r\n".encode())

    def _on_ehlo(self, reply: Reply, events: list[Event]) -> None:
        if reply.permanent and not self._wants_extensions:
            # RFC 5321 section 3.2: a server that does not know EHLO is an old one.
            self._move(State.HELO)
            self._output.append(f"HELO {self._settings.hostname}\r\n".encode())
        elif reply.code >= 400:
            events.append(self._end(Trouble.REFUSED, reply=reply))
        else:
            self.capabilities = parse_capabilities(reply)
            self._after_ehlo(events)

    def _on_helo(self, reply: Reply, events: list[Event]) -> None:
        if reply.code >= 400:
            events.append(self._end(Trouble.REFUSED, reply=reply))
        else:
            self.capabilities = Capabilities()
            self._after_ehlo(events)

    @property
    def _wants_extensions(self) -> bool:
        """Whether HELO would be useless: STARTTLS and AUTH do not exist after it."""
        return self._settings.username != "" or self._lacks_tls

    @property
    def _lacks_tls(self) -> bool:
        return self._settings.tls is TlsMode.START_TLS and not self._tls

    def _after_ehlo(self, events: list[Event]) -> None:
        """Decide what the session still needs: TLS, then the login, then nothing."""
        settings = self._settings
        offered = self.capabilities
        if self._lacks_tls:
            if not offered.starttls:
                events.append(
                    self._end(Trouble.NO_STARTTLS, detail="STARTTLS is not in its EHLO reply")
                )
                return
            self._move(State.STARTTLS)
            self._output.append(b"STARTTLS\r\n")
        elif not settings.username:
            self._move(State.READY)
            events.append(_SESSION_READY)
        elif not self._tls and not settings.clear_login:
            detail = (
                "a login is configured, tls.mode is None, and the host is not a loopback address"
            )
            events.append(self._end(Trouble.CLEAR_LOGIN, detail=detail))
        else:
            self._login = Login(settings.username, settings.password, settings.bearer, offered.auth)
            first = self._login.begin()
            if isinstance(first, str):
                events.append(self._end(Trouble.NO_AUTH, detail=first))
                return
            self._move(first.state)
            self._output.append(first.octets)

    def _on_starttls(self, reply: Reply, events: list[Event]) -> None:
        if reply.code >= 400:
            events.append(self._end(Trouble.REFUSED, reply=reply))
        else:
            self._move(State.TLS)
            events.append(_START_TLS)

    def _on_auth(self, reply: Reply, events: list[Event]) -> None:
        """The result of a step of the login: the next line, or the end of the login."""
        assert self._login is not None
        step = self._login.answered(self.state, reply)
        if isinstance(step, Say):
            self._move(step.state)
            self._output.append(step.octets)
        elif isinstance(step, LoginRefused):
            events.append(self._end(Trouble.REFUSED, reply=step.reply, detail=step.detail))
        else:
            self._move(State.READY)
            events.append(_SESSION_READY)

    # --- transactions

    def _start_transcript(self, line: str, recipients: Sequence[str]) -> None:
        self._mail_line = line
        self._recipients = recipients
        self._mail = None
        self._rcpts = [None] * len(recipients)
        self._data = None
        self._final = None
        self._index = 0
        self._answered = 0
        self._accepted = False  # MAIL and at least one RCPT
        self._dot_sent = False

    def _on_rset(self, _reply: Reply, _events: list[Event]) -> None:
        self._mail = None
        self._answered = 0
        self._move(State.MAIL)
        if not self.capabilities.pipelining:
            self._output.append(self._mail_line.encode())

    def _on_mail(self, reply: Reply, events: list[Event]) -> None:
        self._mail = reply
        if self.capabilities.pipelining:
            self._move(_RCPT)
        elif reply.code < 400:
            self._move(_RCPT)
            self._output.append(self._next_rcpt())
        else:
            self._finish(events)

    def _next_rcpt(self) -> bytes:
        argument = "" if self._arguments is None else self._arguments[self._index]
        return rcpt_command(self._recipients[self._index], argument)

    def _on_rcpt(self, reply: Reply, events: list[Event]) -> None:
        self._rcpts[self._index] = reply
        mail = self._mail
        if reply.code < 400 and mail is not None and mail.code < 400:
            self._accepted = True
        self._index += 1
        if self._index < len(self._recipients):
            if not self.capabilities.pipelining:
                self._output.append(self._next_rcpt())
        elif self.capabilities.pipelining:
            self._move(_DATA)
        elif self._accepted:
            self._move(_DATA)
            self._output.append(b"DATA\r\n")
        else:
            self._dirty = True
            self._finish(events)

    def _on_data(self, reply: Reply, events: list[Event]) -> None:
        self._data, mail = reply, self._mail
        if reply.code >= 400:
            self._dirty = mail is not None and mail.code < 400
            self._finish(events)
        elif self._accepted:
            self._move(_BODY)
            events.append(_SEND_BODY)
        else:
            # DATA was sent before we knew that no recipient was accepted: end it with a lone dot
            # (RFC 2920 section 3.1).
            self._move(State.NOBODY)
            self._output.append(b".\r\n")

    def _on_early_refusal(self, reply: Reply, events: list[Event]) -> None:
        """A refusal during the body counts like one after it, but the session cannot continue."""
        self._final = reply
        events.append(self._end(Trouble.REFUSED, reply=reply))

    def _on_final(self, reply: Reply, events: list[Event]) -> None:
        self._final = reply
        self._finish(events)

    def _on_lone_dot(self, _reply: Reply, events: list[Event]) -> None:
        self._finish(events)

    def _finish(self, events: list[Event]) -> None:
        self._move(_READY)
        events.append(TransactionEnded(self.transcript))

    def _on_quit(self, _reply: Reply, events: list[Event]) -> None:
        self.state = State.CLOSED
        events.append(_GOODBYE)


#: The action in each state for a reply that REPLIES permits.
_STEPS = {
    State.GREETING: SmtpClient._on_greeting,
    State.EHLO: SmtpClient._on_ehlo,
    State.HELO: SmtpClient._on_helo,
    State.STARTTLS: SmtpClient._on_starttls,
    State.AUTH_PLAIN: SmtpClient._on_auth,
    State.AUTH_PLAIN_ASKED: SmtpClient._on_auth,
    State.AUTH_LOGIN: SmtpClient._on_auth,
    State.AUTH_USERNAME: SmtpClient._on_auth,
    State.AUTH_PASSWORD: SmtpClient._on_auth,
    State.AUTH_BEARER: SmtpClient._on_auth,
    State.AUTH_BEARER_SHOWN: SmtpClient._on_auth,
    State.AUTH_BEARER_DISMISSED: SmtpClient._on_auth,
    State.RSET: SmtpClient._on_rset,
    State.MAIL: SmtpClient._on_mail,
    State.RCPT: SmtpClient._on_rcpt,
    State.DATA: SmtpClient._on_data,
    State.BODY: SmtpClient._on_early_refusal,
    State.FINAL: SmtpClient._on_final,
    State.NOBODY: SmtpClient._on_lone_dot,
    State.QUIT: SmtpClient._on_quit,
}

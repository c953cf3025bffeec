"""The dialog of one connection: what each verb does, given the settings of its listener and the
policy's decisions.

Only the dialog lives here: octets, clocks and TLS are connection.py's, logins login_dialog.py's,
grammar and legal order smtp/'s, who may send what is policy's, storing is the queue's. Nothing here
awaits: what takes time (a login by scrypt, a large message's file, the commit) is asked for with a
callback, and the connection keeps its input meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailrelay_gateway.ingress.connection import LINES, MAX_JUNK, WAITING
from mailrelay_gateway.ingress.login_dialog import LoginDialog
from mailrelay_gateway.ingress.transaction import Transaction
from mailrelay_gateway.message.trace import transmission
from mailrelay_gateway.policy.chain import (
    MAIL_CHAIN,
    RCPT_CHAIN,
    MailFacts,
    RcptFacts,
    check_recipients,
    decide,
    tls_required,
    too_big,
)
from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.policy.refusals import refuse
from mailrelay_gateway.policy.senders import SenderEntry
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp import sasl
from mailrelay_gateway.smtp.commands import (
    MOVES,
    Move,
    State,
    is_endless,
    is_foreign,
    line_too_long,
    read_bdat,
    read_helo,
    read_mail,
    read_rcpt,
    sequence_problem,
    split_line,
)
from mailrelay_gateway.smtp.data_reader import ChunkReader, DataReader
from mailrelay_gateway.smtp.parameters import (
    NO_PARAMETERS,
    check_rcpt_parameters,
    read_mail_parameters,
)
from mailrelay_gateway.smtp.reply import Reply

# Names of their own: looking a member up in its class costs ten times as much (Python 3.11), and
# these are hot.
_MAIL, _RCPT, _DATA, _END = Move.MAIL, Move.RCPT, Move.DATA, Move.END

#: Recipients beyond the limit of a message that do not count as errors (Postfix,
#: smtpd_recipient_overshoot_limit): a client may have sent them all before it reads a reply.
OVERSHOOT = 1000

_OK = Reply(250, "2.0.0", "OK").encode()
_SENDER_OK = Reply(250, "2.1.0", "Sender OK").encode()
_RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK").encode()
_GO_AHEAD = Reply(354, "", "End with CRLF . CRLF").encode()
_READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS").encode()
_BYE = Reply(221, "2.0.0", "Bye").encode()
_CANNOT_VERIFY = Reply(252, "2.5.0", "Not verified; send it and see").encode()
_RESET = Reply(250, "2.0.0", "Reset").encode()


class Session(LoginDialog):
    """One client's dialog."""

    # What a session begins with: see Connection.
    helo = ""
    transaction: Transaction | None = None

    # --- lines

    def on_line(self, line: bytes) -> None:
        """One command, or the answer to a challenge of AUTH."""
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            if is_endless(line):
                self.refuse("auth", line_too_long())
                self.hang_up()
            else:
                self.login_step(sasl.advance(exchange, line.rstrip(b"\r\n")))
            return
        read = split_line(line)
        if isinstance(read, Problem):
            if is_foreign(line):
                self._not_smtp()
            else:
                self.refuse("session", read)
                if is_endless(line):
                    self.hang_up()
            return
        verb, argument = read
        handler = _VERBS.get(verb)
        if handler is None:
            self._unknown(line)
            return
        self.commons.verbs[verb] += 1
        handler(self, argument)

    def _unknown(self, line: bytes) -> None:
        self.commons.verbs[b"unknown"] += 1
        if is_foreign(line):
            self._not_smtp()
            return
        self.refuse("session", refuse(Reason.COMMAND_UNKNOWN, 500, "5.5.1", "Unknown command"))

    def _not_smtp(self) -> None:
        """Another protocol, perhaps a browser made to speak to us: no word more (chasquid, Postfix
        do the same).
        """
        self.refuse("session", refuse(Reason.NOT_SMTP, 521, "5.5.1", "This is SMTP"), counts=False)
        self.hang_up()

    # --- verbs without a transaction

    def _ehlo(self, argument: bytes) -> None:
        if not self._greet(argument, extended=True):
            return
        self._junk(self.settings.ehlo_reply_tls if self.tls else self.settings.ehlo_reply_plain)

    def _helo(self, argument: bytes) -> None:
        if not self._greet(argument, extended=False):
            return
        self._junk(self.settings.helo_reply)

    def _greet(self, argument: bytes, *, extended: bool) -> bool:
        name = read_helo(argument)
        if isinstance(name, Problem):
            self.refuse("session", name)
            return False
        self.settings = self.listener.settings
        self.helo = name
        self.protocol = transmission(
            extended=extended, tls=bool(self.tls), authenticated=self.login is not None
        )
        self._end_transaction()
        self.move(Move.HELLO)
        return True

    def _starttls(self, argument: bytes) -> None:
        if self.settings.tls_mode != "StartTLS" or self.tls:
            self.refuse(
                "starttls", refuse(Reason.BAD_SEQUENCE, 503, "5.5.1", "STARTTLS is not offered now")
            )
        elif argument:
            self.refuse("starttls", refuse(Reason.SYNTAX, 501, "5.5.4", "STARTTLS has no argument"))
        elif self.may(Move.STARTTLS, "starttls"):
            self.move(Move.STARTTLS)
            self.settings = self.listener.settings  # the newest certificate
            self.helo = ""
            self.reply(_READY_FOR_TLS)
            self.flush()
            self.begin_tls()

    def _rset(self, argument: bytes) -> None:
        if argument:
            self._takes_none("RSET")
            return
        self._end_transaction()
        self.move(Move.RESET)
        self._junk(_RESET)

    def _noop(self, _argument: bytes) -> None:
        self._junk(_OK)

    def _vrfy(self, argument: bytes) -> None:
        if not argument:
            self.refuse(
                "session", refuse(Reason.SYNTAX, 501, "5.5.4", "VRFY needs a name or an address")
            )
            return
        # RFC 5321 section 3.5.3: neither yes nor no.
        self._junk(_CANNOT_VERIFY)

    def _help(self, _argument: bytes) -> None:
        self._junk(self.settings.help_reply_tls if self.tls else self.settings.help_reply_plain)

    def _takes_none(self, verb: str) -> None:
        self.refuse("session", refuse(Reason.SYNTAX, 501, "5.5.4", f"{verb} has no argument"))

    def _junk(self, reply: bytes) -> None:
        """Answer a command that does nothing, though not for ever."""
        self.junk += 1
        if self.junk > MAX_JUNK:
            self.refuse(
                "session",
                refuse(Reason.TOO_MANY_ERRORS, 421, "4.7.0", "Too many commands and no message"),
            )
        else:
            self.reply(reply)

    def _not_implemented(self, _argument: bytes) -> None:
        self.refuse("session", refuse(Reason.COMMAND_UNKNOWN, 502, "5.5.1", "Not implemented here"))

    def _quit(self, argument: bytes) -> None:
        if argument:
            self._takes_none("QUIT")
            return
        self.reply(_BYE)
        self.hang_up(at_once=True)

    # --- the envelope

    def _mail(self, argument: bytes) -> None:
        settings = self.settings = self.listener.settings
        # Before the order of commands: "send STARTTLS first" is what helps the client.
        if settings.tls is not None and not self.tls:
            self.refuse("mail", tls_required())
            return
        state = MOVES[self.state].get(_MAIL)
        if state is None:
            self.out_of_order("mail", _MAIL)
            return
        path = read_mail(argument)
        if isinstance(path, Problem):
            self.refuse("mail", path)
            return
        parameters = read_mail_parameters(path[1]) if path[1] else NO_PARAMETERS
        if isinstance(parameters, Problem):
            self.refuse("mail", parameters)
            return
        entry = self.sender_entry() if self.login is not None else None
        problem = self._judge_mail(entry, path[0], parameters.size) or self.commons.problem()
        if problem is not None:
            self.refuse("mail", problem)
            return
        self.transaction = Transaction(path[0], settings, entry, self.commons)
        self.state = state
        self._out.append(_SENDER_OK)

    def _judge_mail(
        self, entry: SenderEntry | None, reverse_path: str, size: int
    ) -> Problem | None:
        settings = self.settings
        return decide(
            MAIL_CHAIN,
            MailFacts(
                bool(self.tls),
                settings.tls is not None,
                settings.auth_required,
                self.listener.admits(self.client),
                self.login is not None,
                entry,
                reverse_path,
                size,
                settings.max_size,
            ),
        )

    def _rcpt(self, argument: bytes) -> None:
        state = MOVES[self.state].get(_RCPT)
        if state is None:
            self.out_of_order("rcpt", _RCPT)
            return
        transaction = self.transaction
        assert transaction is not None  # the state says so
        path = read_rcpt(argument, self.settings.hostname)
        problem = path if isinstance(path, Problem) else None
        if not isinstance(path, Problem) and path[1]:
            problem = check_rcpt_parameters(path[1])
        if isinstance(path, Problem) or problem is not None:
            assert problem is not None  # one of the two is
            self.refuse("rcpt", problem)
            return
        recipient, settings = path[0], transaction.settings
        if not transaction.has(recipient):
            problem = decide(
                RCPT_CHAIN,
                RcptFacts(
                    len(transaction.recipients), settings.max_recipients, settings.defers_surplus
                ),
            )
            if problem is not None:
                self._refuse_surplus(transaction, problem)
                return
            transaction.add(recipient)
        self.state = state
        self._out.append(_RECIPIENT_OK)

    def _refuse_surplus(self, transaction: Transaction, problem: Problem) -> None:
        """A recipient too many: answered each time, told once at the end of the transaction."""
        transaction.surplus += 1
        if transaction.surplus > OVERSHOOT:
            self.refuse("rcpt", problem)
            return
        self.commons.metrics.rejected(self.listener.name, "rcpt", problem.reason).inc()
        self._out.append(problem.reply.encode())

    def _tell_surplus(self, transaction: Transaction) -> None:
        settings = transaction.settings
        problem = check_recipients(
            RcptFacts(settings.max_recipients, settings.max_recipients, settings.defers_surplus)
        )
        assert problem is not None  # there were as many
        self.log_refused("rcpt", problem, count=transaction.surplus)

    # --- the content

    def _data(self, argument: bytes) -> None:
        if argument:
            self.refuse("data", refuse(Reason.SYNTAX, 501, "5.5.4", "DATA has no argument"))
            return
        if not self.may(_DATA, "data"):
            return
        transaction = self.transaction
        assert transaction is not None  # the state says so
        problem = transaction.begin(self, DataReader())
        if problem is not None:
            self._refuse_message(problem)
            return
        self.reply(_GO_AHEAD)
        self.begin_content()

    def _bdat(self, argument: bytes) -> None:
        chunk = read_bdat(argument)
        if isinstance(chunk, Problem):
            # How much would have to be skipped cannot be known: what follows is not to be read as
            # commands.
            self.refuse("data", chunk)
            self.hang_up()
            return
        size, last = chunk
        transaction = self.transaction
        problem = sequence_problem(self.state, Move.CHUNK)
        if problem is None:
            assert transaction is not None  # the state says so
            if self.state is State.RECIPIENTS:
                problem = transaction.begin(self, ChunkReader())
        if problem is not None:
            # The chunk comes whatever we say: it has to be taken (RFC 3030 section 2), and is
            # dropped.
            self.move(Move.REFUSED_CHUNK)
            self._end_transaction()
            self.transaction = Transaction.refused(
                problem, settings=self.settings, commons=self.commons
            )
        else:
            self.move(Move.CHUNK)
        transaction = self.transaction
        assert transaction is not None
        if transaction.is_too_far(size):
            # Not worth waiting for: what comes is not to be read as commands, and is dropped.
            problem = transaction.problem or too_big(transaction.settings.max_size)
            self._refuse_message(problem)
            self.hang_up(slowly=True)
            return
        transaction.start_chunk(size, last=last)
        self.begin_content()
        if size == 0:
            self._chunk_ended()

    def on_content(self, octets: bytes, position: int) -> int:
        """Content of DATA or of a chunk."""
        transaction = self.transaction
        assert transaction is not None  # the mode says so
        after = transaction.feed(octets, position)
        if after < 0:
            if transaction.overrun:
                problem = transaction.problem
                assert problem is not None  # nothing overruns that was not refused
                self._refuse_message(problem)
                self.hang_up(slowly=True)
            return len(octets)
        if transaction.chunked:
            self._chunk_ended()
        else:
            self._content_ended()
        return after

    def _chunk_ended(self) -> None:
        transaction = self.transaction
        assert transaction is not None  # the mode says so
        self.mode = LINES
        if self.state is not State.CHUNKS:
            problem = transaction.problem
            assert problem is not None  # that is why the chunk was refused
            self.transaction = None
            self.refuse("data", problem, counts=self.state is not State.REFUSED_CHUNKS)
        elif transaction.last_chunk:
            self._content_ended()
        elif transaction.problem is not None:
            problem = transaction.problem
            self._end_transaction()
            self.move(Move.REFUSED_CHUNK)
            self.refuse("data", problem)
        else:
            octets = f"{transaction.chunk_size} octets received"
            reply = Reply(250, "2.0.0", octets).encode()
            if transaction.chunk_size == 0:
                self._junk(reply)
            else:
                self.reply(reply)

    def _content_ended(self) -> None:
        """The message is complete: store it, unless something is wrong with it. Input waits for the
        outcome.
        """
        transaction = self.transaction
        assert transaction is not None  # the mode says so
        self.wait()
        transaction.finish(self._stored)

    def _stored(self, queue_id: str, problem: Problem | None) -> None:
        """The outcome, from the queue: the connection may be gone by now. Raises
        nothing into it.
        """
        if self.mode is WAITING:
            self.guard(lambda: self._answer_stored(queue_id, problem))

    def _answer_stored(self, queue_id: str, problem: Problem | None) -> None:
        self.move(_END)
        assert self.transaction is not None  # it is what was stored
        if self.transaction.surplus:
            self._tell_surplus(self.transaction)
        if problem is None:
            self.errors = self.junk = 0
            self.reply(f"250 2.0.0 {queue_id} stored\r\n".encode("ascii"))
        else:
            self.refuse("data", problem)
        self.transaction = None
        self.carry_on()

    def _refuse_message(self, problem: Problem) -> None:
        """End the transaction with a refusal at DATA."""
        self._end_transaction()
        if _END in MOVES[self.state]:
            self.state = MOVES[self.state][_END]
        self.refuse("data", problem)

    def _end_transaction(self) -> None:
        """Whatever ends a transaction, nothing of it stays for the next one."""
        if self.transaction is not None:
            self.transaction.drop()
            if self.transaction.surplus:
                self._tell_surplus(self.transaction)
            self.transaction = None

    # --- for connection.py

    def on_crowded(self) -> bool:
        """Whether the disk is slower than the client."""
        return self.transaction is not None and self.transaction.crowded

    def on_lost(self) -> None:
        """Drop a message that is not complete."""
        self._end_transaction()

    def content_octets(self) -> int:
        """How much of the present message has come."""
        return self.transaction.octets if self.transaction is not None else 0

    def log_fields(self) -> dict[str, Any]:
        """The sender of the transaction and who is logged in."""
        fields: dict[str, Any] = {}
        if self.login is not None:
            fields["identity"] = self.login.entry.identity.username
        if self.transaction is not None:
            fields["sender"] = self.transaction.sender
            fields["recipients"] = self.transaction.recipients
        return fields


_VERBS: dict[bytes, Callable[[Session, bytes], None]] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo,
    b"STARTTLS": Session._starttls,
    b"AUTH": Session.on_auth,
    b"MAIL": Session._mail,
    b"RCPT": Session._rcpt,
    b"DATA": Session._data,
    b"BDAT": Session._bdat,
    b"RSET": Session._rset,
    b"NOOP": Session._noop,
    b"VRFY": Session._vrfy,
    b"HELP": Session._help,
    b"QUIT": Session._quit,
    b"EXPN": Session._not_implemented,
    b"ETRN": Session._not_implemented,
    b"TURN": Session._not_implemented,
}

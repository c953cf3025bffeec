"""The dialog of one connection: what each verb does, given the settings of its listener and the
policy's decisions.

Only the dialog lives here: octets, clocks and TLS are connection.py's, logins login_dialog.py's,
MAIL and RCPT envelope_dialog.py's, grammar and legal order smtp/'s, who may send what is policy's,
storing is the queue's. Nothing here awaits: what takes time (a login by scrypt, a large message's
file, the commit) is asked for with a callback, and the connection keeps its input meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.incoming import Reader
from mailrelay_gateway.intake.judges import UNKNOWN
from mailrelay_gateway.intake.smtp.envelope_dialog import EnvelopeDialog
from mailrelay_gateway.intake.smtp.mode import LINES, WAITING
from mailrelay_gateway.intake.smtp.transaction import Transaction
from mailrelay_gateway.policy.chain import too_big
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_gateway.smtp.server import sasl
from mailrelay_gateway.smtp.server.commands import (
    MOVES,
    Move,
    State,
    is_endless,
    is_foreign,
    line_too_long,
    read_bdat,
    read_helo,
    sequence_problem,
    split_line,
)
from mailrelay_gateway.smtp.server.data_reader import ChunkReader, DataReader

# Module-level names: looking up a member in its class costs ten times as much (Python 3.11), and
# these are hot.
_DATA, _END = Move.DATA, Move.END
_AT_DATA = Stage.DATA

#: Octets of a chunk that cost its sender as much as us. Smaller ones after a refusal count as
#: commands without effect.
HONEST_CHUNK = 4096

_OK = Reply(250, "2.0.0", "OK").encode()
_GO_AHEAD = Reply(354, "", "End with CRLF . CRLF").encode()
_READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS").encode()
_BYE = Reply(221, "2.0.0", "Bye").encode()
_CANNOT_VERIFY = Reply(252, "2.5.0", "Cannot VRFY; send the message to find out").encode()
_RESET = Reply(250, "2.0.0", "Reset").encode()


class Session(EnvelopeDialog):
    """One client's dialog."""

    # --- lines

    def on_line(self, line: bytes) -> None:
        """One command, or the reply to a challenge of AUTH."""
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            if is_endless(line):
                self.refuse(Stage.AUTH, line_too_long())
                self.hang_up()
            else:
                self.login_step(sasl.advance(exchange, line.rstrip(b"\r\n")))
            return
        read = split_line(line)
        if isinstance(read, Problem):
            if is_foreign(line):
                self._not_smtp()
            else:
                self.refuse(Stage.SESSION, read)
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
        self.refuse(Stage.SESSION, refuse(Reason.COMMAND_UNKNOWN))

    def _not_smtp(self) -> None:
        """Another protocol, perhaps from a browser that was tricked: no further reply (chasquid and
        Postfix do the same).
        """
        self.refuse(Stage.SESSION, refuse(Reason.NOT_SMTP))
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
            self.refuse(Stage.EHLO, name)
            return False
        self.settings = self.listener.settings
        self.know_origin(name, extended=extended)
        self.end_transaction()
        self.move(Move.HELLO)
        return True

    def _starttls(self, argument: bytes) -> None:
        if self.settings.tls_mode != "StartTLS" or self.tls:
            self.refuse(Stage.STARTTLS, refuse(Reason.BAD_SEQUENCE, "starttls"))
        elif argument:
            self.refuse(Stage.STARTTLS, refuse(Reason.SYNTAX, remedy="STARTTLS has no argument"))
        elif self.may(Move.STARTTLS, Stage.STARTTLS):
            self.move(Move.STARTTLS)
            self.settings = self.listener.settings  # the newest certificate
            self.origin = UNKNOWN
            self.reply(_READY_FOR_TLS)
            self.flush()
            self.begin_tls()

    def _rset(self, argument: bytes) -> None:
        if argument:
            self._takes_none("RSET")
            return
        self.end_transaction()
        self.move(Move.RESET)
        self._junk(_RESET)

    def _noop(self, _argument: bytes) -> None:
        self._junk(_OK)

    def _vrfy(self, argument: bytes) -> None:
        if not argument:
            self.refuse(
                Stage.SESSION, refuse(Reason.SYNTAX, remedy="VRFY needs a name or an address")
            )
            return
        # RFC 5321 section 3.5.3: neither confirm nor deny.
        self._junk(_CANNOT_VERIFY)

    def _help(self, _argument: bytes) -> None:
        self._junk(self.settings.help_reply_tls if self.tls else self.settings.help_reply_plain)

    def _takes_none(self, verb: str) -> None:
        self.refuse(Stage.SESSION, refuse(Reason.SYNTAX, remedy=f"{verb} has no argument"))

    def _junk(self, reply: bytes) -> None:
        """Reply to a command without effect, up to a limit."""
        if self.count_junk():
            self.reply(reply)

    def _not_implemented(self, _argument: bytes) -> None:
        self.refuse(Stage.SESSION, refuse(Reason.COMMAND_UNKNOWN, "known"))

    def _quit(self, argument: bytes) -> None:
        if argument:
            self._takes_none("QUIT")
            return
        self.reply(_BYE)
        self.hang_up(at_once=True)

    # --- the content

    def _data(self, argument: bytes) -> None:
        if argument:
            self.refuse(Stage.DATA, refuse(Reason.SYNTAX, remedy="DATA has no argument"))
            return
        if not self.may(_DATA, _AT_DATA):
            return
        transaction = self.transaction
        assert transaction is not None  # the state says so
        problem = self._begin(transaction, DataReader())
        if problem is not None:
            self._refuse_message(problem)
            return
        self.reply(_GO_AHEAD)
        self.begin_content()

    def _bdat(self, argument: bytes) -> None:
        chunk = read_bdat(argument)
        if isinstance(chunk, Problem):
            # It is unknown how much would have to be skipped: what follows must not be read as
            # commands.
            self.refuse(Stage.DATA, chunk)
            self.hang_up()
            return
        size, last = chunk
        transaction = self.transaction
        problem = sequence_problem(self.state, Move.CHUNK)
        if problem is None:
            assert transaction is not None  # the state says so
            if self.state is State.RECIPIENTS:
                problem = self._begin(transaction, ChunkReader())
        if problem is not None:
            # The chunk is sent in any case: it has to be read (RFC 3030 section 2), and is dropped.
            told = self.state is State.REFUSED_CHUNKS
            self.move(Move.REFUSED_CHUNK)
            self.end_transaction()
            self.transaction = Transaction.refused(
                problem, settings=self.settings, drain=self.commons.caps.drain, told=told
            )
        else:
            self.move(Move.CHUNK)
        transaction = self.transaction
        assert transaction is not None
        if transaction.is_too_far(size):
            # Too large to wait for: what follows must not be read as commands, and is dropped.
            problem = transaction.problem or too_big(transaction.settings.max_size)
            self._refuse_message(problem)
            self.hang_up(slowly=True)
            return
        transaction.start_chunk(size, last=last)
        self.begin_content()
        if size == 0:
            self._chunk_ended()

    def _begin(self, transaction: Transaction, reader: Reader) -> Problem | None:
        return transaction.begin(
            reader,
            listener=self.listener,
            origin=self.origin,
            login=self.login,
            commons=self.commons,
            progressed=self._progressed,
        )

    def _progressed(self) -> None:
        """The disk has caught up a little. Raises nothing into it."""
        self.guard(self.adjust_reading)

    def on_content(self, octets: bytes, position: int) -> int:
        """Content of DATA or of a chunk."""
        transaction = self.transaction
        assert transaction is not None  # the mode says so
        after = transaction.feed(octets, position)
        if after < 0:
            if transaction.overrun:
                problem = transaction.problem
                assert problem is not None  # only a refused message is overrun
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
            if not transaction.told:
                self.refuse(Stage.DATA, problem)
            elif transaction.chunk_size >= HONEST_CHUNK or self.count_junk():
                # A client sends all its chunks before it reads that the first was refused.
                self.refuse_again(Stage.DATA, problem)
        elif transaction.last_chunk:
            self._content_ended()
        elif transaction.problem is not None:
            problem = transaction.problem
            self.end_transaction()
            self.move(Move.REFUSED_CHUNK)
            self.refuse(Stage.DATA, problem)
        else:
            octets = f"{transaction.chunk_size} octets received"
            reply = Reply(250, "2.0.0", octets).encode()
            if transaction.chunk_size == 0:
                self._junk(reply)
            else:
                self.reply(reply)

    def _content_ended(self) -> None:
        """The message is complete: store it, unless something is wrong with it. Input waits for the
        result.
        """
        transaction = self.transaction
        assert transaction is not None  # the mode says so
        self.wait()
        transaction.finish(self._stored)

    def _stored(self, queue_id: str, problem: Problem | None) -> None:
        """The result, from the queue: the connection may be gone by now. Raises nothing into it."""
        if self.mode is WAITING:
            self.guard(lambda: self._answer_stored(queue_id, problem))

    def _answer_stored(self, queue_id: str, problem: Problem | None) -> None:
        self.move(_END)
        assert self.transaction is not None  # it is what was stored
        if self.transaction.surplus:
            self.tell_surplus(self.transaction)
        if problem is None:
            self.errors = self.junk = 0
            self.reply(f"250 2.0.0 {queue_id} stored\r\n".encode("ascii"))
        else:
            self.refuse(Stage.END_OF_MESSAGE, problem)
        self.transaction = None
        self.carry_on()

    def _refuse_message(self, problem: Problem) -> None:
        """End the transaction with a refusal at DATA."""
        self.end_transaction()
        if _END in MOVES[self.state]:
            self.state = MOVES[self.state][_END]
        self.refuse(Stage.DATA, problem)

    # --- for connection.py

    def on_crowded(self) -> bool:
        """Whether the disk is slower than the client."""
        return self.transaction is not None and self.transaction.crowded

    def on_lost(self) -> None:
        """Drop a message that is not complete."""
        self.end_transaction()

    def content_octets(self) -> int:
        """How much of the current message has arrived."""
        return self.transaction.octets if self.transaction is not None else 0

    def log_fields(self) -> dict[str, Any]:
        """The MailSender that is logged in, and the envelope so far."""
        fields: dict[str, Any] = {}
        if self.login is not None:
            fields["sender"] = str(self.login.entry.identity)
        if self.transaction is not None:
            fields["envelope_sender"] = self.transaction.sender
            fields["recipients"] = self.transaction.recipients
            fields["recipient_count"] = len(self.transaction.recipients)
        return fields


_VERBS: dict[bytes, Callable[[Session, bytes], None]] = {
    b"EHLO": Session._ehlo,
    b"HELO": Session._helo,
    b"STARTTLS": Session._starttls,
    b"AUTH": Session.on_auth,
    b"MAIL": Session.on_mail,
    b"RCPT": Session.on_rcpt,
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

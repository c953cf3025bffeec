"""The part of a session's dialog that makes the envelope: MAIL and RCPT."""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.judges import judge_recipient, judge_sender
from mailrelay_gateway.intake.smtp.login_dialog import LoginDialog
from mailrelay_gateway.intake.smtp.transaction import Transaction
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import RecipientDsn
from mailrelay_gateway.smtp.refusal import Problem, refuse
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_gateway.smtp.server.commands import MOVES, Move, read_mail, read_rcpt
from mailrelay_gateway.smtp.server.parameters import (
    NO_PARAMETERS,
    read_mail_parameters,
    read_rcpt_parameters,
)

_MAIL, _RCPT = Move.MAIL, Move.RCPT  # a look-up in an enum is slow (Python 3.11)
#: Excess recipients of a message that do not count as errors (Postfix,
#: smtpd_recipient_overshoot_limit): a client may have sent them all before it reads a reply.
OVERSHOOT = 1000
_SENDER_OK = Reply(250, "2.1.0", "Sender OK").encode()
_RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK").encode()


class EnvelopeDialog(LoginDialog):
    """A session that knows its transaction."""

    # What a session begins with: see Connection.
    transaction: Transaction | None = None

    def on_mail(self, argument: bytes) -> None:
        settings = self.settings = self.listener.settings
        # Before the order of commands: "send STARTTLS first" is more useful for the client.
        if settings.tls is not None and not self.tls:
            self.refuse(Stage.MAIL, refuse(Reason.TLS_REQUIRED))
            return
        state = MOVES[self.state].get(_MAIL)
        if state is None:
            self.out_of_order(Stage.MAIL, _MAIL)
            return
        path = read_mail(argument)
        if isinstance(path, Problem):
            self.refuse(Stage.MAIL, path)
            return
        parameters = read_mail_parameters(path[1]) if path[1] else NO_PARAMETERS
        if isinstance(parameters, Problem):
            self.refuse(Stage.MAIL, parameters)
            return
        if not parameters.smtputf8 and not argument.isascii():
            self.refuse(Stage.MAIL, refuse(Reason.UNSUPPORTED_PARAMETER, "address"))
            return
        entry = self.sender_entry() if self.login is not None else None
        problem = (
            judge_sender(self.listener, self.origin, self.login, entry, path[0], parameters.size)
            or self.commons.problem()
        )
        if problem is not None:
            self.refuse(Stage.MAIL, problem)
            return
        self.transaction = Transaction(
            path[0],
            settings,
            entry,
            drain=self.commons.caps.drain,
            smtputf8=parameters.smtputf8,
        )
        if parameters.ret or parameters.envid:
            self.transaction.ask(parameters.ret, parameters.envid)
        self.state = state
        self._out.append(_SENDER_OK)

    def on_rcpt(self, argument: bytes) -> None:
        state = MOVES[self.state].get(_RCPT)
        if state is None:
            self.out_of_order(Stage.RCPT, _RCPT)
            return
        transaction = self.transaction
        assert transaction is not None  # the state says so
        path = read_rcpt(argument, self.settings.hostname)
        problem = path if isinstance(path, Problem) else None
        dsn: RecipientDsn | None = None
        if not isinstance(path, Problem) and path[1]:
            read = read_rcpt_parameters(path[1])
            if isinstance(read, Problem):
                problem = read
            else:
                dsn = read
        if problem is None and not transaction.smtputf8 and not argument.isascii():
            problem = refuse(Reason.UNSUPPORTED_PARAMETER, "address")
        if isinstance(path, Problem) or problem is not None:
            assert problem is not None  # one of the two is
            self.refuse(Stage.RCPT, problem)
            return
        recipient, settings = path[0], transaction.settings
        if transaction.recipients and transaction.has(recipient):
            transaction.doubles += 1
            if transaction.doubles > OVERSHOOT and not self.count_junk():
                return
        else:
            problem = judge_recipient(
                settings,
                transaction.entry,
                transaction.sender,
                recipient,
                len(transaction.recipients),
            )
            if problem is not None:
                if problem.reason is Reason.TOO_MANY_RECIPIENTS:
                    self._refuse_surplus(transaction, problem)
                else:
                    self.refuse(Stage.RCPT, problem)
                return
            transaction.add(recipient, dsn)
        self.state = state
        self._out.append(_RECIPIENT_OK)

    def _refuse_surplus(self, transaction: Transaction, problem: Problem) -> None:
        """One recipient too many: answered each time, logged once at the end of the transaction."""
        transaction.surplus += 1
        if transaction.surplus > OVERSHOOT:
            self.refuse(Stage.RCPT, problem)
        else:
            self.refuse_again(Stage.RCPT, problem)

    def tell_surplus(self, transaction: Transaction) -> None:
        settings = transaction.settings
        problem = judge_recipient(
            settings, transaction.entry, transaction.sender, "", settings.max_recipients
        )
        assert problem is not None  # there were as many
        self.log_refused(Stage.RCPT, problem, count=transaction.surplus)

    def end_transaction(self) -> None:
        """When a transaction ends, nothing of it remains for the next one."""
        if self.transaction is not None:
            self.transaction.drop()
            if self.transaction.surplus:
                self.tell_surplus(self.transaction)
            self.transaction = None

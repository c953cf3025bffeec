"""A session's replies: joined into one write, refusals with their log line and their count, and the
number of them that ends the session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiosmtpd.smtp import SMTP

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.smtp.mode import CLOSING, LINES, Mode
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailrelay_gateway.intake.commons import Commons
    from mailrelay_gateway.intake.smtp.settings import SmtpListener

log = structlog.get_logger()

#: Errors (5xx) since the last accepted message after which the session is closed: Postfix's
#: smtpd_hard_error_limit.
MAX_ERRORS = 20
#: Commands without effect (NOOP, RSET, VRFY ...) and temporary refusals (4xx) since the last
#: accepted message: Postfix's smtpd_junk_command_limit. An honest client gets many 4xx while we are
#: busy.
MAX_JUNK = 100


class Answers(SMTP):
    """A protocol object that replies. Connection, which reads, sets the attributes named here."""

    listener: SmtpListener
    commons: Commons
    transport: asyncio.Transport | None = None
    client = ""  # its IP address
    errors = 0
    junk = 0
    mode: Mode = LINES
    _out: list[bytes]
    _time: Callable[[], float]

    def hang_up(self, *, at_once: bool = False, slowly: bool = False) -> None:
        """End the session."""
        raise NotImplementedError

    def reply(self, octets: bytes) -> None:
        """Answer with the next write."""
        self._out.append(octets)

    def flush(self) -> None:
        """Write all replies at once: naive clients take the first segment of an EHLO reply for all
        of it.
        """
        out = self._out
        if self.transport is not None and out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def refuse(self, stage: Stage, problem: Problem) -> None:
        """Reply with a problem: one reply, one log line, one count. Each counts towards the end of
        the session: errors (5xx) towards MAX_ERRORS, temporary refusals (4xx) towards MAX_JUNK.
        """
        reply = problem.reply
        self.commons.metrics.rejected(self.listener.name, stage, problem.reason).inc()
        self.log_refused(stage, problem)
        self._out.append(reply.encode())
        if reply.code == 421:
            self.hang_up()
        elif reply.code < 500:
            self.count_junk()
        else:
            self.errors += 1
            if self.errors > MAX_ERRORS and self.mode is not CLOSING:
                self.refuse(
                    Stage.SESSION,
                    refuse(Reason.TOO_MANY_ERRORS),
                )

    def refuse_again(self, stage: Stage, problem: Problem) -> None:
        """Reply to the consequence of a refusal that was already reported: it is logged and counts
        as nothing; the caller limits what could be endless.
        """
        self.commons.metrics.rejected(self.listener.name, stage, problem.reason).inc()
        self._out.append(problem.reply.encode())

    def count_junk(self) -> bool:
        """Count a command without effect; False if it was one too many, which is answered and ends
        the session.
        """
        self.junk += 1
        if self.junk <= MAX_JUNK:
            return True
        if self.mode is not CLOSING:
            self.refuse(
                Stage.SESSION,
                refuse(Reason.TOO_MANY_ERRORS, "commands"),
            )
        return False

    def log_refused(self, stage: Stage, problem: Problem, *, count: int = 0) -> None:
        """One log line about a refusal, unless this client has caused too many: those are counted,
        and reported in one line later. `count`: refusals that this line stands for.
        """
        account = self.commons.ledger.of(self.client)
        if not account.may_log(self._time()):
            account.unlogged += 1
            return
        fields = self.log_fields()
        if problem.detail:
            fields["detail"] = problem.detail
        if count:
            fields["count"] = count
        log.info(
            "refused",
            reason=problem.reason,
            reply=str(problem.reply),
            stage=stage,
            listener=self.listener.name,
            client=self.client,
            **fields,
        )

    def log_fields(self) -> dict[str, Any]:
        """Further log fields about this session."""
        return {}

"""Makes the log lines and metrics of delivery attempts. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from mailrelay_gateway.message.envelope import Attempt, Outcome, Result
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

log = structlog.get_logger()

#: Addresses in one log line; the queue id finds the rest. A line stays below the limit of log
#: collectors (16 KiB).
MAX_LOGGED_RECIPIENTS = 100
#: Characters of a reply, or of the error instead. A reply may have 8192.
MAX_LOGGED_REPLY = 1000
_CODE_CLASSES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}


@message_value(frozen=True, slots=True)
class Delays:
    """Seconds: from acceptance to this attempt, to open the connection (0 when reused), and for the
    transaction.
    """

    queued: float
    connect: float
    transaction: float


class Reporter:
    """Reports for one upstream."""

    __slots__ = ("_metrics", "_seconds", "_upstream")

    def __init__(self, upstream: str, metrics: Metrics) -> None:
        """Look up the metrics' children once."""
        self._upstream = upstream
        self._metrics = metrics
        self._seconds = metrics.attempt_seconds(upstream)

    def finished(
        self,
        attempt: Attempt,
        outcomes: Sequence[Outcome],
        *,
        host: str,
        tls: str,
        delays: Delays,
    ) -> None:
        """One log line per group of recipients with the same result, reason and reply; `tls` is ""
        without TLS.
        """
        self._seconds.observe(delays.transaction)
        first = outcomes[0]
        if len(outcomes) == 1:  # the usual case
            to = [attempt.recipients[0].address]
            self._group(attempt, first, to, host, tls, delays)
            return
        groups: dict[tuple[Result, Reason, Reply | None], tuple[Outcome, list[str]]] = {}
        for recipient, outcome in zip(attempt.recipients, outcomes, strict=True):
            key = (outcome.result, outcome.reason, outcome.reply)
            groups.setdefault(key, (outcome, []))[1].append(recipient.address)
        for outcome, to in groups.values():
            self._group(attempt, outcome, to, host, tls, delays)

    def _group(
        self,
        attempt: Attempt,
        outcome: Outcome,
        to: list[str],
        host: str,
        tls: str,
        delays: Delays,
    ) -> None:
        message, reply = attempt.message, outcome.reply
        code_class = "none" if reply is None else _CODE_CLASSES[reply.code // 100]
        self._metrics.delivery_attempts(self._upstream, outcome.result, code_class).inc(len(to))
        words = outcome.detail if reply is None else str(reply)
        log.info(
            "delivery",
            queue_id=message.queue_id,
            envelope_sender=message.envelope_sender,
            recipients=to[:MAX_LOGGED_RECIPIENTS],
            recipient_count=len(to),
            upstream=self._upstream,
            host=host,
            result=outcome.result,
            reason=outcome.reason,
            reply=words[:MAX_LOGGED_REPLY],
            tls=tls,
            size=message.size,
            queued_seconds=round(delays.queued, 3),
            connect_seconds=round(delays.connect, 3),
            transaction_seconds=round(delays.transaction, 3),
        )

    def given_back(self, attempt: Attempt, *, host: str, ending: str) -> None:
        """An attempt that the upstream never saw: no outcome, but useful for following the
        queue id.
        """
        log.info(
            "attempt_not_started",
            queue_id=attempt.message.queue_id,
            upstream=self._upstream,
            host=host,
            detail=ending,
        )

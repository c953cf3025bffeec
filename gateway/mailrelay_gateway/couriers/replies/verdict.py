"""What a transaction, or a session before its first, came to: for the messages, the pool and the
breaker, and the words in which a person is told. Pure: values only; `classify` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.message.effect import Effect, Scope
from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

#: What was refused, for messages.
COMMANDS = {
    Stage.MAIL: "MAIL",
    Stage.RCPT: "RCPT",
    Stage.DATA: "DATA",
    Stage.END_OF_MESSAGE: "the final dot",
}

#: The reply due at each stage, for messages about timeouts.
AWAITED = {
    Stage.TLS: "the TLS handshake",
    Stage.GREETING: "its greeting",
    **{stage: f"its answer to {stage.name}" for stage in (Stage.EHLO, Stage.STARTTLS, Stage.AUTH)},
    **{stage: f"its answer to {command}" for stage, command in COMMANDS.items()},
}


class Ending(Enum):
    """How a transaction ended."""

    COMPLETE = auto()  # all replies received
    CLOSING = auto()  # 421: the server closes the connection
    REFUSED = auto()  # the server refused within the body
    LOST = auto()  # the connection broke
    TIMEOUT = auto()  # the server did not answer within a deadline
    PROTOCOL = auto()  # the server sent an invalid reply
    STOPPED = auto()  # the gateway stopped before the end
    OUR_FAULT = auto()  # the body could not be read from the spool


@message_value(frozen=True, slots=True)
class Meaning:
    """The result of one recipient's attempt: an Outcome without recipient and host."""

    result: Result
    reason: Reason
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None
    scope: Scope = Scope.UPSTREAM
    detail: str = ""
    sure: bool = True  # False: only the class of the code is known, and the breaker counts it
    patience: int = 0  # so many attempts are only deferred

    def outcome(self, index: int, host: str) -> Outcome:
        """The outcome for the recipient `index`, with the reply of `host`."""
        return Outcome(
            index,
            self.result,
            self.reason,
            self.reply,
            host,
            self.effect,
            self.retry_after,
            self.scope,
            self.detail,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an upstream is unusable. `reason` and `detail` are for its operator."""

    stage: Stage
    reason: Reason
    detail: str
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, from the upstream's reply
    scope: Scope = Scope.UPSTREAM


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that may be the upstream's own fault, for the breaker: it stopped all recipients of
    the transaction. `sure`: a rule says so.
    """

    stage: Stage
    reply: Reply
    sure: bool


@message_value(frozen=True, slots=True)
class Verdict:
    """The result of a transaction: one meaning per recipient. `give_back`: the upstream never saw
    it; no meanings.

    `failure`: the upstream itself fails and must be held. `effect`: the consequence of the whole
    transaction for its lane and connection, for the pool. `refusal` and `passed`, the last stage
    that accepted a recipient, are for the breaker.
    """

    meanings: tuple[Meaning, ...] = ()
    give_back: bool = False
    failure: Failure | None = None
    effect: Effect | None = None
    retry_after: float | None = None
    refusal: Refusal | None = None
    passed: Stage | None = None

    def outcomes(self, indexes: Iterable[int], host: str) -> list[Outcome]:
        """The outcomes of the recipients with these indexes, in the order of `meanings`."""
        pairs = zip(self.meanings, indexes, strict=True)
        return [meaning.outcome(index, host) for meaning, index in pairs]

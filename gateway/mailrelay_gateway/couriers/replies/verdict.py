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

#: What was refused, for sentences.
COMMANDS = {
    Stage.MAIL: "MAIL",
    Stage.RCPT: "RCPT",
    Stage.DATA: "DATA",
    Stage.END_OF_MESSAGE: "the final dot",
}

#: What a server owes us at each stage, for sentences about its silence.
AWAITED = {
    Stage.TLS: "the TLS handshake",
    Stage.GREETING: "its greeting",
    **{stage: f"its answer to {stage.name}" for stage in (Stage.EHLO, Stage.STARTTLS, Stage.AUTH)},
    **{stage: f"its answer to {command}" for stage, command in COMMANDS.items()},
}


class Ending(Enum):
    """How a transaction came to its end."""

    COMPLETE = auto()  # all replies came
    CLOSING = auto()  # 421: the server took its leave
    REFUSED = auto()  # the server refused amid the body
    LOST = auto()  # the connection broke
    TIMEOUT = auto()  # the server was silent past a deadline
    PROTOCOL = auto()  # the server said something that is no answer
    STOPPED = auto()  # we are stopping and could wait no longer
    OUR_FAULT = auto()  # the body could not be read from the spool


@message_value(frozen=True, slots=True)
class Meaning:
    """What one recipient's attempt came to: an Outcome that knows no recipient and no host yet."""

    result: Result
    reason: Reason
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None
    scope: Scope = Scope.UPSTREAM
    detail: str = ""
    sure: bool = True  # False: only its class is known, and the breaker counts it
    once: bool = False  # a first attempt is only deferred by it

    def outcome(self, index: int, host: str) -> Outcome:
        """The same for the recipient `index`, as `host` said it."""
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
    """Why an upstream cannot be used. `reason` and `detail` are for the person who runs it."""

    stage: Stage
    reason: Reason
    detail: str
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, as the upstream named them
    scope: Scope = Scope.UPSTREAM


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that may be the upstream's own fault, for the breaker: no recipient of the
    transaction got past it. `sure`: a rule says so.
    """

    stage: Stage
    reply: Reply
    sure: bool


@message_value(frozen=True, slots=True)
class Verdict:
    """What a transaction came to: one meaning per recipient. `give_back`: the upstream never saw
    it; no meanings.

    `failure`: the upstream itself is in trouble and must be held. `effect`: what the whole
    transaction means for its lane and connection, for the pool. `refusal` and `passed`, the
    furthest stage that let somebody through, are for the breaker.
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

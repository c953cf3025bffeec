"""What an upstream's replies, or their absence, mean for messages and for the upstream. Pure:
tables and look-ups.

Three rules shape the tables. What happens before MAIL, whatever its code, is the upstream's trouble
and never counts against a message. A message fails only on a 5xx that speaks of the message itself;
a code that blames our side of the conversation defers. And once the final dot has left, silence is
neither success nor failure but uncertain. Rules of single providers, when they come, are looked up
before REPLIES; their rows have the same form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from mailrelay_gateway.message.effect import Effect, Scope
from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client_events import SessionEnded, Transcript, Trouble
from mailrelay_gateway.smtp.client_states import Phase
from mailrelay_gateway.smtp.reply import Reply


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


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one recipient's attempt came to: an Outcome that knows no recipient and no host yet."""

    result: Result
    reason: Reason
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None
    scope: Scope = Scope.UPSTREAM
    detail: str = ""

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

    phase: Phase
    reason: Reason
    detail: str
    reply: Reply | None = None
    effect: Effect | None = None
    retry_after: float | None = None  # seconds, as the upstream named them
    scope: Scope = Scope.UPSTREAM


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a transaction came to: one meaning per recipient. `give_back`: the upstream never saw
    it; no meanings.

    `failure`: the upstream itself is in trouble and must be held. `mail_accepted`: it let us in and
    listens to us. `effect`: what the whole transaction means for its lane and connection, for the
    pool; never Split, which is a matter of recipients.
    """

    meanings: tuple[Meaning, ...] = ()
    give_back: bool = False
    failure: Failure | None = None
    mail_accepted: bool = False
    effect: Effect | None = None
    retry_after: float | None = None


_DEFERRED = (Result.DEFERRED, Reason.UPSTREAM_DEFERRED)
_FAILED = (Result.FAILED, Reason.UPSTREAM_REJECTED)
_LOGIN = (Result.HELD, Reason.UPSTREAM_AUTH_FAILED)
_OUT_OF_STEP = (Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR)

#: (phase, code, enhanced) -> meaning of a refusal. None matches any; the most exact row wins, the
#: class comes last.
REPLIES: dict[tuple[Phase, int | None, str | None], tuple[Result, Reason]] = {
    # The upstream wants a login, or refuses ours (RFC 4954 section 6): no message is to blame.
    (Phase.MAIL, 530, None): _LOGIN,
    (Phase.MAIL, 534, None): _LOGIN,
    (Phase.MAIL, 535, None): _LOGIN,
    (Phase.MAIL, 538, None): _LOGIN,
    # Later than MAIL the same codes may speak of a recipient: in doubt the message waits, and
    # nobody else does.
    (Phase.RCPT, 530, None): _DEFERRED,
    (Phase.RCPT, 535, None): _DEFERRED,
    (Phase.RCPT, 538, None): _DEFERRED,
    (Phase.DATA, 530, None): _DEFERRED,
    (Phase.DATA, 535, None): _DEFERRED,
    (Phase.DATA, 538, None): _DEFERRED,
    (Phase.FINAL, 530, None): _DEFERRED,
    (Phase.FINAL, 535, None): _DEFERRED,
    (Phase.FINAL, 538, None): _DEFERRED,
    # "Unknown command", "not implemented", "bad sequence", "parameter not recognised": we two do
    # not understand each other, and that is no reason to bounce someone's mail. (Some servers say
    # 503 where they mean 530.)
    (Phase.MAIL, 500, None): _OUT_OF_STEP,
    (Phase.MAIL, 502, None): _OUT_OF_STEP,
    (Phase.MAIL, 503, None): _OUT_OF_STEP,
    (Phase.MAIL, 555, None): _OUT_OF_STEP,
    (Phase.RCPT, 500, None): _OUT_OF_STEP,
    (Phase.RCPT, 502, None): _OUT_OF_STEP,
    (Phase.RCPT, 503, None): _OUT_OF_STEP,
    (Phase.RCPT, 555, None): _OUT_OF_STEP,
    (Phase.DATA, 500, None): _OUT_OF_STEP,
    (Phase.DATA, 502, None): _OUT_OF_STEP,
    (Phase.DATA, 503, None): _OUT_OF_STEP,
    (Phase.FINAL, 503, None): _OUT_OF_STEP,
    # Too many recipients: 452, but 552 in RFC 821, which RFC 5321 section 4.5.3.1.10 wants taken
    # for 452.
    (Phase.RCPT, 552, ""): _DEFERRED,
    (Phase.RCPT, 552, "5.5.3"): _DEFERRED,
    # By class.
    (Phase.MAIL, 4, None): _DEFERRED,
    (Phase.RCPT, 4, None): _DEFERRED,
    (Phase.DATA, 4, None): _DEFERRED,
    (Phase.FINAL, 4, None): _DEFERRED,
    (Phase.MAIL, 5, None): _FAILED,
    (Phase.RCPT, 5, None): _FAILED,
    (Phase.DATA, 5, None): _FAILED,
    (Phase.FINAL, 5, None): _FAILED,
}

#: How a transaction without its last reply ended -> (before the final dot left, after it). COMPLETE
#: stands here for a conversation that ended without the reply that matters: the server skipped a
#: step.
ENDINGS: dict[Ending, tuple[tuple[Result, Reason], tuple[Result, Reason]]] = {
    Ending.COMPLETE: (_OUT_OF_STEP, (Result.UNCERTAIN, Reason.REPLY_LOST)),
    Ending.CLOSING: (_DEFERRED, _DEFERRED),  # 421 to the final dot is a clear no
    Ending.REFUSED: (_DEFERRED, _DEFERRED),
    Ending.LOST: (
        (Result.DEFERRED, Reason.CONNECTION_LOST),
        (Result.UNCERTAIN, Reason.REPLY_LOST),
    ),
    Ending.TIMEOUT: (
        (Result.DEFERRED, Reason.UPSTREAM_TIMEOUT),
        (Result.UNCERTAIN, Reason.REPLY_LOST),
    ),
    Ending.PROTOCOL: (_OUT_OF_STEP, (Result.UNCERTAIN, Reason.REPLY_LOST)),
    Ending.STOPPED: (
        (Result.DEFERRED, Reason.SHUTTING_DOWN),  # given back, in fact: see `classify_transaction`
        (Result.UNCERTAIN, Reason.REPLY_LOST),
    ),
    Ending.OUR_FAULT: (
        (Result.DEFERRED, Reason.INTERNAL_ERROR),
        (Result.UNCERTAIN, Reason.REPLY_LOST),
    ),
}

#: Trouble before MAIL -> reason. REFUSED, CLOSING and the rest of the phases are in
#: SESSION_REFUSALS.
SESSION_TROUBLES: dict[Trouble, Reason] = {
    Trouble.PROTOCOL: Reason.UPSTREAM_PROTOCOL_ERROR,
    Trouble.NO_STARTTLS: Reason.UPSTREAM_TLS_MISSING,
    Trouble.NO_AUTH: Reason.UPSTREAM_AUTH_MISSING,
    Trouble.CLEAR_LOGIN: Reason.UPSTREAM_TLS_MISSING,
}

#: A refusal before MAIL, by phase; a 4xx to AUTH (454) is not about our password.
SESSION_REFUSALS: dict[tuple[Phase, int], Reason] = {
    (Phase.GREETING, 4): Reason.UPSTREAM_REFUSED,
    (Phase.GREETING, 5): Reason.UPSTREAM_REFUSED,
    (Phase.EHLO, 4): Reason.UPSTREAM_REFUSED,
    (Phase.EHLO, 5): Reason.UPSTREAM_REFUSED,
    (Phase.STARTTLS, 4): Reason.UPSTREAM_TLS_FAILED,
    (Phase.STARTTLS, 5): Reason.UPSTREAM_TLS_FAILED,
    (Phase.AUTH, 4): Reason.UPSTREAM_REFUSED,
    (Phase.AUTH, 5): Reason.UPSTREAM_AUTH_FAILED,
}


def classify_session(event: SessionEnded) -> Failure:
    """What the end of a session before its first MAIL says of the upstream."""
    reply = event.reply
    reason = SESSION_TROUBLES.get(event.trouble)
    if reason is None:
        digit = reply.code // 100 if reply is not None else 4
        reason = SESSION_REFUSALS.get((event.phase, digit), Reason.UPSTREAM_REFUSED)
    detail = event.detail or f"answered {reply}"
    return Failure(event.phase, reason, detail, reply)


def classify_reply(phase: Phase, reply: Reply) -> Meaning:
    """What a refusal (4xx, 5xx) at MAIL or later means for those whom it concerns."""
    row = (
        REPLIES.get((phase, reply.code, reply.enhanced))
        or REPLIES.get((phase, reply.code, None))
        or REPLIES[phase, reply.code // 100, None]
    )
    return Meaning(row[0], row[1], reply)


def classify_transaction(
    transcript: Transcript, ending: Ending, *, reused: bool, closing: Reply | None = None
) -> Verdict:
    """What a transaction came to, recipient by recipient.

    `reused`: an earlier transaction of this connection had been completed, so that a silent end of
    it is the server's idle timeout or its limit per connection, not an answer to this message.
    `closing` is the server's 421.
    """
    mail = transcript.mail
    unheard = transcript.answered == 0 or (ending is Ending.CLOSING and mail is closing)
    if reused and unheard and ending in (Ending.LOST, Ending.CLOSING):
        return Verdict(give_back=True)
    if ending is Ending.STOPPED and not transcript.dot_sent:
        return Verdict(give_back=True)

    if mail is not None and mail.code >= 400:
        meaning = classify_reply(Phase.MAIL, mail)
        failure = None
        if meaning.result is Result.HELD:
            failure = Failure(Phase.MAIL, meaning.reason, f"answered {mail} to MAIL", mail)
        return Verdict((meaning,) * len(transcript.recipients), failure=failure)

    common = _common(transcript, ending, closing)
    return Verdict(
        tuple(
            classify_reply(Phase.RCPT, reply) if reply is not None and reply.code >= 400 else common
            for reply in transcript.recipients
        ),
        mail_accepted=mail is not None,
    )


def _common(transcript: Transcript, ending: Ending, closing: Reply | None) -> Meaning:
    """The meaning for all recipients that were not refused themselves."""
    final, data = transcript.final, transcript.data
    if final is not None and final.code < 400:
        return Meaning(Result.DELIVERED, Reason.DELIVERED, final)
    if final is not None:
        return classify_reply(Phase.FINAL, final)
    if data is not None and data.code >= 400:
        return classify_reply(Phase.DATA, data)
    result, reason = ENDINGS[ending][transcript.dot_sent]
    return Meaning(result, reason, closing)

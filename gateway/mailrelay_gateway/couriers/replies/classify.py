"""Classifies an upstream's replies, or their absence, for messages and for the upstream. Pure.

A failure before MAIL, whatever its code, is the upstream's and never counts against a message. From
MAIL on the rules decide (`rules`, `reply_rules`), together with the rest of the transaction. Once
the final dot has been sent, a missing reply is neither success nor failure but uncertain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.reply_rules import RULES
from mailrelay_gateway.couriers.replies.reply_text import (
    LONGEST,
    named_moment,
    named_seconds,
    spoken,
)
from mailrelay_gateway.couriers.replies.rules import RuleBook, Ruling
from mailrelay_gateway.couriers.replies.verdict import (
    COMMANDS,
    Ending,
    Failure,
    Meaning,
    Refusal,
    Verdict,
)
from mailrelay_gateway.message.effect import (
    Cap,
    Effect,
    PauseUntil,
    Reconnect,
    Scope,
    Slow,
    Split,
)
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import SessionEnded, Transcript, Trouble
from mailrelay_gateway.smtp.reply import Reply

# A look-up in an enum is slow (Python 3.11), and each message asks for these.
_DELIVERED = (Result.DELIVERED, Reason.DELIVERED)
_END_OF_MESSAGE = Stage.END_OF_MESSAGE

_DEFERRED = (Result.DEFERRED, Reason.UPSTREAM_DEFERRED)
_OUT_OF_STEP = (Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR)

#: How the end of a session within a transaction ends the transaction; otherwise PROTOCOL.
ENDING_OF = {Trouble.CLOSING: Ending.CLOSING, Trouble.REFUSED: Ending.REFUSED}

#: The ending of a transaction without its last reply -> (before the final dot, after it). COMPLETE
#: means a dialog that ended without the decisive reply: the server skipped a step.
ENDINGS: dict[Ending, tuple[tuple[Result, Reason], tuple[Result, Reason]]] = {
    Ending.COMPLETE: (_OUT_OF_STEP, (Result.UNCERTAIN, Reason.REPLY_LOST)),
    Ending.CLOSING: (_DEFERRED, _DEFERRED),  # 421 to the final dot is a definite refusal
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

#: Trouble before MAIL -> reason. REFUSED, CLOSING and the rest of the stages are in
#: SESSION_REFUSALS.
SESSION_TROUBLES: dict[Trouble, Reason] = {
    Trouble.PROTOCOL: Reason.UPSTREAM_PROTOCOL_ERROR,
    Trouble.NO_STARTTLS: Reason.UPSTREAM_TLS_MISSING,
    Trouble.NO_AUTH: Reason.UPSTREAM_AUTH_MISSING,
    Trouble.CLEAR_LOGIN: Reason.UPSTREAM_TLS_MISSING,
}

#: A refusal before MAIL, by stage; a 4xx to AUTH (454) is not about our password.
SESSION_REFUSALS: dict[tuple[Stage, int], Reason] = {
    (Stage.GREETING, 4): Reason.UPSTREAM_REFUSED,
    (Stage.GREETING, 5): Reason.UPSTREAM_REFUSED,
    (Stage.EHLO, 4): Reason.UPSTREAM_REFUSED,
    (Stage.EHLO, 5): Reason.UPSTREAM_REFUSED,
    (Stage.STARTTLS, 4): Reason.UPSTREAM_TLS_FAILED,
    (Stage.STARTTLS, 5): Reason.UPSTREAM_TLS_FAILED,
    (Stage.AUTH, 4): Reason.UPSTREAM_REFUSED,
    (Stage.AUTH, 5): Reason.UPSTREAM_AUTH_FAILED,
}

#: Of several effects of one transaction the pool gets the strongest.
_STRENGTH: dict[type, int] = {Reconnect: 1, Slow: 2, Cap: 3, PauseUntil: 4}


def classify_session(
    event: SessionEnded, rules: RuleBook = RULES, *, now: float | None = None
) -> Failure:
    """Classify the end of a session before its first MAIL. `now` is Unix seconds; without it a
    moment that the reply names is not heeded.
    """
    reply = event.reply
    reason = SESSION_TROUBLES.get(event.trouble)
    detail = event.detail or f"answered {reply}"
    if reason is not None or reply is None:
        return Failure(event.stage, reason or Reason.UPSTREAM_REFUSED, detail, reply)
    reason = SESSION_REFUSALS.get((event.stage, reply.code // 100), Reason.UPSTREAM_REFUSED)
    rule = rules.find(event.stage, reply)
    if rule is None:
        return Failure(event.stage, reason, detail, reply)
    meaning = _meaning(rule.ruling, reply, now)
    if meaning.result is Result.HELD:
        reason = meaning.reason
    return Failure(event.stage, reason, detail, reply, meaning.effect, meaning.retry_after)


def classify_reply(
    stage: Stage, reply: Reply, rules: RuleBook = RULES, *, now: float | None = None
) -> Meaning:
    """Classify a refusal (4xx, 5xx) at MAIL or later, regardless of the rest of its transaction.
    `now` as in `classify_session`.
    """
    return _meaning(_ruling(stage, reply, rules), reply, now)


@lru_cache(maxsize=512)
def _ruling(stage: Stage, reply: Reply, rules: RuleBook) -> Ruling:
    """Cached, since a throttled or greylisted queue gets the same reply again and again."""
    rule = rules.find(stage, reply)
    assert rule is not None, (stage, reply)  # the rows for classes of codes come last
    return rule.ruling


def _meaning(ruling: Ruling, reply: Reply, now: float | None) -> Meaning:
    """The ruling, with the time in the reply instead of the default."""
    effect, after = ruling.effect, ruling.retry_after
    if ruling.result in (Result.DEFERRED, Result.HELD):
        words, least = spoken(reply), ruling.at_least
        seconds, at = named_seconds(words), named_moment(words)
        if seconds is None and at is not None and now is not None and at > now:
            seconds = min(at - now, LONGEST)
        if isinstance(effect, PauseUntil):
            if at is not None and not least:
                effect = PauseUntil(at=at)
            elif seconds is not None:
                effect = PauseUntil(seconds=max(seconds, least))
        after = max(seconds or after or 0.0, least) or None
    return Meaning(
        ruling.result,
        ruling.reason,
        reply,
        effect,
        after,
        ruling.scope,
        sure=ruling.sure,
        patience=ruling.patience,
    )


def classify_transaction(
    transcript: Transcript,
    ending: Ending,
    *,
    attempts: Sequence[int],
    reused: bool,
    closing: Reply | None = None,
    detail: str = "",
    rules: RuleBook = RULES,
    now: float | None = None,
) -> Verdict:
    """The result of a transaction, for each recipient.

    `attempts`: the previous attempts of each recipient. `reused`: an earlier transaction on this
    connection was completed, so that a close without a reply is the server's idle timeout or its
    limit per connection, not a refusal of this message. `closing` is the server's 421; `detail`
    describes how a transaction without its last reply ended; `now` as in `classify_session`.
    """
    mail, final = transcript.mail, transcript.final
    if (
        final is not None
        and final.code < 400
        and mail is not None
        and mail.code < 400
        and all(reply is not None and reply.code < 400 for reply in transcript.recipients)
    ):  # as it mostly is
        delivered = Meaning(*_DELIVERED, final)
        return Verdict((delivered,) * len(attempts), passed=_END_OF_MESSAGE)

    unheard = transcript.answered == 0 or (ending is Ending.CLOSING and mail is closing)
    if reused and unheard and ending in (Ending.LOST, Ending.CLOSING):
        return _given_back(closing, rules, now)
    if ending is Ending.STOPPED and not transcript.dot_sent:
        return Verdict(give_back=True)
    if mail is not None and mail.code >= 400:
        common = classify_reply(Stage.MAIL, mail, rules, now=now)
        meanings = [common] * len(transcript.recipients)
        refusal = _refusal(Stage.MAIL, [common])
    else:
        taken = any(reply is not None and reply.code < 400 for reply in transcript.recipients)
        stage, common = _common(transcript, ending, closing, detail, rules, now)
        meanings = [
            _at_rcpt(classify_reply(Stage.RCPT, reply, rules, now=now), taken)
            if reply is not None and reply.code >= 400
            else common
            for reply in transcript.recipients
        ]
        refusal = _refusal(stage, [common]) if taken else _refusal(Stage.RCPT, meanings)
    return Verdict(
        meanings=tuple(
            [_patient(meaning, tried) for meaning, tried in zip(meanings, attempts, strict=True)]
        ),
        failure=_failure(refusal, meanings),
        effect=_strongest(meaning.effect for meaning in meanings),
        retry_after=max(
            (meaning.retry_after for meaning in meanings if meaning.retry_after is not None),
            default=None,
        ),
        refusal=refusal,
        passed=_passed(transcript),
    )


def _given_back(closing: Reply | None, rules: RuleBook, now: float | None) -> Verdict:
    """The message was not processed: another connection takes it. If the 421 is about rates or
    connections, it affects the lane.
    """
    if closing is None:
        return Verdict(give_back=True)
    meaning = classify_reply(Stage.MAIL, closing, rules, now=now)
    spoke = meaning.reason is not Reason.UPSTREAM_DEFERRED or meaning.retry_after is not None
    effect = meaning.effect if spoke else Reconnect()
    return Verdict(give_back=True, effect=effect, retry_after=meaning.retry_after)


def _common(
    transcript: Transcript,
    ending: Ending,
    closing: Reply | None,
    detail: str,
    rules: RuleBook,
    now: float | None,
) -> tuple[Stage, Meaning]:
    """The meaning for all recipients that were not refused individually, and the stage it comes
    from.
    """
    final, data = transcript.final, transcript.data
    if final is not None and final.code < 400:
        return Stage.END_OF_MESSAGE, Meaning(Result.DELIVERED, Reason.DELIVERED, final)
    if final is not None:
        return Stage.END_OF_MESSAGE, classify_reply(Stage.END_OF_MESSAGE, final, rules, now=now)
    if data is not None and data.code >= 400:
        return Stage.DATA, classify_reply(Stage.DATA, data, rules, now=now)
    stage = Stage.END_OF_MESSAGE if transcript.dot_sent else Stage.DATA
    if closing is not None:
        return stage, classify_reply(stage, closing, rules, now=now)
    result, reason = ENDINGS[ending][transcript.dot_sent]
    return stage, Meaning(result, reason, detail=detail)


def _at_rcpt(meaning: Meaning, taken: bool) -> Meaning:
    """A refusal at RCPT, given whether another recipient was `taken` in the same transaction.

    If so, an apparent refusal of the relay is about this recipient, and "too many recipients"
    splits the message. If not, splitting would never end.
    """
    if taken:
        result = Result.DEFERRED if meaning.result is Result.HELD else meaning.result
        return replace(meaning, result=result, sure=True)
    if isinstance(meaning.effect, Split):
        return replace(meaning, effect=Slow())
    return meaning


def _patient(meaning: Meaning, attempts: int) -> Meaning:
    """What may be about the sender, the relay, or a temporary problem is tried again before the
    message fails.
    """
    if attempts >= meaning.patience:
        return meaning
    assert meaning.reply is not None  # only rules are patient
    unknown = meaning.reply.code >= 500
    reason = Reason.UPSTREAM_DOUBTED if unknown else Reason.UPSTREAM_DEFERRED
    return replace(meaning, result=Result.DEFERRED, reason=reason)


def _refusal(stage: Stage, meanings: Sequence[Meaning]) -> Refusal | None:
    """The refusal of a whole stage that may be the upstream's own fault: preferably a known one,
    otherwise an unclassified 5xx.
    """
    for meaning in meanings:
        if meaning.scope is Scope.NAMESPACE:
            continue  # the queue holds a tenant's mail by the outcome alone
        if meaning.result is Result.HELD and meaning.reply is not None:
            return Refusal(stage, meaning.reply, sure=True)
    for meaning in meanings:
        if not meaning.sure and meaning.reply is not None:
            return Refusal(stage, meaning.reply, sure=False)
    return None


def _failure(refusal: Refusal | None, meanings: Iterable[Meaning]) -> Failure | None:
    """Why the upstream is held, if the refusal alone is enough."""
    if refusal is None or not refusal.sure:
        return None
    held = next(
        meaning
        for meaning in meanings
        if meaning.result is Result.HELD and meaning.scope is Scope.UPSTREAM
    )
    return Failure(
        refusal.stage,
        held.reason,
        f"answered {refusal.reply} to {COMMANDS[refusal.stage]}",
        refusal.reply,
        held.effect,
        held.retry_after,
        held.scope,
    )


def _passed(transcript: Transcript) -> Stage | None:
    """The last stage that accepted a recipient."""
    mail, data, final = transcript.mail, transcript.data, transcript.final
    if mail is None or mail.code >= 400:
        return None
    if final is not None and final.code < 400:
        return Stage.END_OF_MESSAGE
    if not any(reply is not None and reply.code < 400 for reply in transcript.recipients):
        return Stage.MAIL
    return Stage.DATA if data is not None and data.code < 400 else Stage.RCPT


def _strongest(effects: Iterable[Effect | None]) -> Effect | None:
    """The effect that applies to the lane."""
    found: Effect | None = None
    for effect in effects:
        if _STRENGTH.get(type(effect), 0) > _STRENGTH.get(type(found), 0):
            found = effect
    return found

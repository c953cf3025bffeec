"""Decides whose fault a refusal is, when one message's attempt cannot tell. Pure: a state, events,
and decisions.

Two questions. A 5xx that no rule knows: the messages' fault, or the upstream's? It is the
upstream's when several senders in a row get it and nobody gets past the stage where it comes. And a
refusal that a rule takes for the upstream's: is it? It is not when the same message, or the same
sender's messages, get it again and again while other senders get through: then it is deferred and
counts, and holds nobody.

    Refused(sure)    ── another sender was refused too ──────────────────> HOLD
                     ── this message alone, twice before ────────────────> CHARGE
                     ── this sender alone, three times, others got past ─> CHARGE
                     ── else ────────────────────────────────────────────> HOLD
    Refused(unsure)  ── the same from enough senders, or tripped before ─> as Refused(sure)
                     ── else ────────────────────────────────────────────> PASS
    Passed(stage)    ── forgets what was suspected at that stage or before it

Everything is counted by message, so that one blip on many connections counts once. Nothing here
survives a restart, and nothing needs to: counting begins again with the first refusals after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeVar

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.reply_text import signature
from mailrelay_gateway.couriers.replies.verdict import COMMANDS, Failure, Meaning, Verdict
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.reasons import Reason

T = TypeVar("T")

#: Distinct senders that must get the same unknown refusal in a row; if fewer senders have ever been
#: seen, so many messages.
SENDERS = 3
MESSAGES = 3
#: This many messages in a row are enough whoever sent them: for a relay whose other senders are
#: idle at night.
MESSAGES_OF_ANYONE = 10
#: Holds that one message may cause alone, and that one sender may cause while others get through.
HOLDS_OF_A_MESSAGE = 2
HOLDS_OF_A_SENDER = 3
#: Bounds of what is remembered, the oldest forgotten first: kinds of refusals under suspicion,
#: refused messages in a row, and messages and senders that caused holds without reason.
MAX_SUSPICIONS = 32
MAX_ROW = 64
MAX_CULPRITS = 1000


@message_value(frozen=True, slots=True, kw_only=True)
class Refused:
    """The upstream refused a whole stage of a message's transaction. `signature` identifies the
    same refusal of other messages; `sure`: a rule holds the upstream for it.
    """

    stage: Stage
    signature: str
    sender: str  # the identity's uid
    message: str  # the queue id
    sure: bool


@message_value(frozen=True, slots=True, kw_only=True)
class Passed:
    """A message got past the stage `stage`."""

    stage: Stage
    sender: str


Event = Refused | Passed


class Decision(Enum):
    """What to do about the refusal."""

    PASS = auto()  # as it was classified
    HOLD = auto()  # the upstream's fault: it is held, the attempt does not count
    CHARGE = auto()  # the message's own fault: deferred, and it counts towards giveUpAfter


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One unknown refusal: who got it since a message last passed its stage."""

    stage: Stage
    refused: tuple[tuple[str, str], ...]  # (message, sender), each message once
    tripped: bool = False  # found to be the upstream's fault: the next one holds at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What is known about one upstream's refusals. The default knows nothing."""

    suspicions: Mapping[str, Suspicion] = field(default_factory=dict)
    #: Messages refused in a row at `row_stage`, with their sender and the holds each caused.
    row: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    row_stage: Stage | None = None
    #: Holds after which another sender, or another message, passed the same stage.
    messages: Mapping[str, int] = field(default_factory=dict)
    senders: Mapping[str, int] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()  # senders, at most SENDERS of them

    @property
    def quiet(self) -> bool:
        """Whether nothing is under suspicion: then a success changes nothing."""
        return not self.suspicions and not self.row


def step(state: Breaker, event: Event) -> tuple[Breaker, Decision]:
    """The next state, and the decision about a refusal; PASS for a success."""
    if len(state.seen) < SENDERS and event.sender not in state.seen:
        state = replace(state, seen=state.seen | {event.sender})
    if isinstance(event, Passed):
        return (state if state.quiet else _passed(state, event)), Decision.PASS
    if event.sure:
        return _charged(state, event)
    suspicion = _suspected(state.suspicions.get(event.signature), event)
    tripped = suspicion.tripped or _is_enough(suspicion, len(state.seen))
    if tripped and not suspicion.tripped:
        # All who got it are in the row: none of them is alone.
        suspicion = replace(suspicion, tripped=True)
        row = dict(state.row)
        for message, sender in suspicion.refused[-MAX_ROW:]:
            row.setdefault(message, (sender, 0))
        state = replace(state, row=_bounded(row, MAX_ROW), row_stage=event.stage)
    suspicions = {k: v for k, v in state.suspicions.items() if k != event.signature}
    suspicions[event.signature] = suspicion
    state = replace(state, suspicions=_bounded(suspicions, MAX_SUSPICIONS))
    return _charged(state, event) if tripped else (state, Decision.PASS)


def judge(
    state: Breaker, verdict: Verdict, *, sender: str, message: str
) -> tuple[Breaker, Verdict]:
    """The verdict on a transaction, considering those of others. Cheap if nothing is refused."""
    known = sender in state.seen or len(state.seen) >= SENDERS
    if verdict.passed is not None and not (known and state.quiet):
        state, _ = step(state, Passed(stage=verdict.passed, sender=sender))
    refusal = verdict.refusal
    if refusal is None:
        return state, verdict
    event = Refused(
        stage=refusal.stage,
        signature=f"{refusal.stage.name} {signature(refusal.reply)}",
        sender=sender,
        message=message,
        sure=refusal.sure,
    )
    state, decision = step(state, event)
    if decision is Decision.HOLD and not refusal.sure:
        failure = Failure(
            refusal.stage,
            Reason.UPSTREAM_REFUSED,
            f"answered {refusal.reply} to {COMMANDS[refusal.stage]}, for all senders",
            refusal.reply,
        )
        meanings = tuple([_held(meaning) for meaning in verdict.meanings])
        return state, replace(verdict, meanings=meanings, failure=failure)
    if decision is Decision.CHARGE:
        meanings = tuple([_deferred(meaning) for meaning in verdict.meanings])
        return state, replace(
            verdict, meanings=meanings, failure=None, effect=None, retry_after=None
        )
    return state, verdict


def _charged(state: Breaker, event: Refused) -> tuple[Breaker, Decision]:
    """HOLD, unless only this message or its sender is refused; it is counted in the row."""
    before = state.row if state.row_stage is event.stage else {}
    others = {sender for message, (sender, _) in before.items() if message != event.message}
    _, caused = before.get(event.message, (event.sender, 0))
    if others - {event.sender}:  # another sender is refused as well: it is not this one
        state = replace(
            state,
            messages=_without(state.messages, event.message),
            senders=_without(state.senders, event.sender),
        )
    elif state.senders.get(event.sender, 0) >= HOLDS_OF_A_SENDER or (
        not others and caused + state.messages.get(event.message, 0) >= HOLDS_OF_A_MESSAGE
    ):
        return state, Decision.CHARGE
    row = {message: known for message, known in before.items() if message != event.message}
    row[event.message] = (event.sender, caused + 1)
    return replace(state, row=_bounded(row, MAX_ROW), row_stage=event.stage), Decision.HOLD


def _passed(state: Breaker, event: Passed) -> Breaker:
    """A message passed a stage: refusals suspected there were not the upstream's fault."""
    suspicions = {k: v for k, v in state.suspicions.items() if v.stage > event.stage}
    state = replace(state, suspicions=suspicions)
    if state.row_stage is None or event.stage < state.row_stage:
        return state
    messages, senders = dict(state.messages), dict(state.senders)
    for message, (sender, holds) in state.row.items():
        if holds:
            messages[message] = messages.pop(message, 0) + holds
            if sender != event.sender:
                senders[sender] = senders.pop(sender, 0) + holds
    return replace(
        state,
        row={},
        row_stage=None,
        messages=_bounded(messages, MAX_CULPRITS),
        senders=_bounded(senders, MAX_CULPRITS),
    )


def _suspected(known: Suspicion | None, event: Refused) -> Suspicion:
    if known is None:
        return Suspicion(event.stage, ((event.message, event.sender),))
    if any(message == event.message for message, _ in known.refused):
        return known
    refused = (*known.refused, (event.message, event.sender))[-MESSAGES_OF_ANYONE:]
    return replace(known, refused=refused)


def _is_enough(suspicion: Suspicion, seen: int) -> bool:
    """Whether enough senders got it for it to be the upstream's fault; `seen` senders could have
    got it.
    """
    messages = len(suspicion.refused)
    senders = len({sender for _, sender in suspicion.refused})
    return messages >= MESSAGES_OF_ANYONE or (
        messages >= MESSAGES and senders >= min(SENDERS, seen)
    )


def _held(meaning: Meaning) -> Meaning:
    """An unknown refusal that was found to be the upstream's fault."""
    if meaning.sure:
        return meaning
    return replace(meaning, result=Result.HELD, reason=Reason.UPSTREAM_REFUSED)


def _deferred(meaning: Meaning) -> Meaning:
    """A refusal that is the message's own fault after all: deferred, and it counts."""
    if meaning.sure and meaning.result is not Result.HELD:
        return meaning
    return replace(meaning, result=Result.DEFERRED, effect=None)


def _bounded(known: dict[str, T], most: int) -> dict[str, T]:
    """Without the oldest entries beyond `most`."""
    for key in list(known)[: max(0, len(known) - most)]:
        del known[key]
    return known


def _without(known: Mapping[str, int], key: str) -> Mapping[str, int]:
    return {k: v for k, v in known.items() if k != key} if key in known else known

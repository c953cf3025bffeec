"""How a session ended prematurely, in words for the person who runs the upstream. Pure."""

from __future__ import annotations

from dataclasses import replace

from mailrelay_gateway.couriers.replies.verdict import AWAITED, Ending, Failure
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import SessionEnded, Transcript, Trouble
from mailrelay_gateway.smtp.client.states import STAGES, State


def lost(state: State, error: Exception | None) -> Failure:
    """The connection went away in this state."""
    stage = STAGES[state]
    how = f" ({error})" if error is not None and str(error) else ""
    detail = f"closed the connection{how} when we awaited {AWAITED[stage]}"
    return Failure(stage, Reason.UPSTREAM_REFUSED, detail)


def silent(state: State, seconds: float) -> Failure:
    """The server was silent for so long in this state."""
    stage = STAGES[state]
    detail = f"was silent for {seconds:g} s when we awaited {AWAITED[stage]}"
    if state is State.BODY:
        detail = f"read nothing of the message for {seconds:g} s"
    return Failure(stage, Reason.UPSTREAM_TIMEOUT, detail)


def ended(event: SessionEnded) -> Failure:
    """The server ended the session, or lost synchronisation, in the middle of a transaction."""
    reason = Reason.UPSTREAM_REFUSED
    if event.trouble is Trouble.PROTOCOL:
        reason = Reason.UPSTREAM_PROTOCOL_ERROR
    detail = event.detail or f"answered {event.reply} when we awaited {AWAITED[event.stage]}"
    return Failure(event.stage, reason, detail, event.reply)


def dot_kept(transcript: Transcript, ending: Ending, detail: str) -> tuple[Transcript, Ending, str]:
    """The end of a transaction whose final dot was not sent: whatever the server accepted, it was
    not this message.
    """
    final = transcript.final
    if final is not None and final.code < 400:
        ending, detail = Ending.PROTOCOL, f"answered {final} before the message had left"
        transcript = replace(transcript, final=None)
    return replace(transcript, dot_sent=False), ending, detail


def unjudged(transcript: Transcript) -> tuple[Result, Reason]:
    """The result of a transaction that we failed to judge: only a refusal at the end is certain, or
    that the message was not sent.
    """
    final = transcript.final
    if transcript.dot_sent and (final is None or final.code < 400):
        return Result.UNCERTAIN, Reason.REPLY_LOST
    return Result.DEFERRED, Reason.INTERNAL_ERROR

"""A refusal as a value, and how it is worded: one function, so that every reply ends in its reason
word (maddy's exterrors, slimta's Reply). The texts are in reasons.py. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_gateway.reasons import REPLIES, Reason
from mailrelay_gateway.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class Problem:
    """Why not: `reply` goes to the client and is generic, `detail` goes to the log only."""

    reason: Reason
    reply: Reply
    detail: str = ""


def refuse(reason: Reason, variant: str = "", /, *, detail: str = "", **fields: object) -> Problem:
    """A Problem whose reply is `CODE ENHANCED SENTENCE (ReasonWord)`, by the reason's wording of
    that variant and the fields that its sentence has; `detail` is for the log only.
    """
    code, enhanced, sentence = REPLIES[reason][variant]
    if fields:
        sentence = sentence.format(**fields)
    return Problem(reason, Reply(code, enhanced, f"{sentence} ({reason})"), detail)

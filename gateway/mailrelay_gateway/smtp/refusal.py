"""A refusal as a value, and how it is worded: one function, so that every reply ends in its reason
word (maddy's exterrors, slimta's Reply). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class Problem:
    """Why not: `reply` goes to the client and is generic, `detail` goes to the log only."""

    reason: Reason
    reply: Reply
    detail: str = ""


def refuse(reason: Reason, code: int, enhanced: str, sentence: str, detail: str = "") -> Problem:
    """A Problem whose reply is `CODE ENHANCED SENTENCE (ReasonWord)`; `detail` is for
    the log only.
    """
    return Problem(reason, Reply(code, enhanced, f"{sentence} ({reason})"), detail)


def internal_error() -> Problem:
    """The refusal of what an error of ours ended: the client may try again."""
    return refuse(Reason.INTERNAL_ERROR, 451, "4.3.0", "Internal error: try again later")

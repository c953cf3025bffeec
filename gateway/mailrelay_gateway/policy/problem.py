"""A refusal as a value: the reason word and the reply that the client gets (maddy's exterrors,
slimta's Reply).
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

"""Whose fault a request to slow down is. Pure, except for its memory.

A 4xx that makes a lane rest may concern one sender: a domain that does not resolve, content that is
deferred. The first one applies to all, since it cannot be known. Once another sender has got
through after it, further ones concern this sender only: its messages are retried by their schedule,
and no others wait with them, until one of its messages gets through.
"""

from __future__ import annotations

from dataclasses import replace

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Verdict
from mailrelay_gateway.message.effect import Slow

_END_OF_MESSAGE = Stage.END_OF_MESSAGE  # a look-up in an enum is slow (Python 3.11)

#: Seconds by which one sender alone can make a lane rest at a time, where there are others: they
#: may come at any moment.
LONGEST_OF_ONE = 10.0
#: Senders that are remembered, the oldest forgotten first.
MAX_SENDERS = 1000


class Slowing:
    """What is known of one pool's senders."""

    __slots__ = ("_asked", "_own")

    def __init__(self) -> None:
        """No request to slow down yet."""
        self._asked: dict[str, None] = {}  # since another sender last got through
        self._own: dict[str, None] = {}  # whose requests concern only themselves

    def judge(self, verdict: Verdict, sender: str, seen: frozenset[str]) -> Verdict:
        """The verdict on a message of that sender, without a request to slow down that concerns
        only the sender; `seen` are some of all senders. Cheap if there was no request.
        """
        if isinstance(verdict.effect, Slow):
            if sender in self._own:
                verdict = replace(verdict, effect=None, retry_after=None)
            else:
                self._asked[sender] = None
                if len(self._asked) == 1 and not seen <= {sender}:
                    verdict = replace(
                        verdict, effect=Slow(longest=LONGEST_OF_ONE), retry_after=None
                    )
        if verdict.passed is _END_OF_MESSAGE and (self._asked or self._own):
            self._got_through(sender)
        return verdict

    def _got_through(self, sender: str) -> None:
        self._asked.pop(sender, None)
        self._own.pop(sender, None)
        self._own |= self._asked
        self._asked.clear()
        while len(self._own) > MAX_SENDERS:
            del self._own[next(iter(self._own))]

"""The octets of messages that all sessions together may hold in memory while receiving."""

from __future__ import annotations

from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.policy.refusals import refuse
from mailrelay_gateway.reasons import Reason

#: Octets. With at most 256 KiB a message in memory, 256 messages of any size at once.
IN_FLIGHT_LIMIT = 64 * 1024 * 1024


class InFlightBudget:
    """Counts octets taken and given back; one for the whole gateway."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = IN_FLIGHT_LIMIT) -> None:
        """At most `limit` octets at once."""
        self.limit = limit
        self.used = 0

    def take(self, octets: int) -> bool:
        """Take `octets` if there are as many left; whoever got them gives them back once."""
        if self.used + octets > self.limit:
            return False
        self.used += octets
        return True

    def give_back(self, octets: int) -> None:
        """Return what `take` gave."""
        self.used -= octets

    def problem(self) -> Problem | None:
        """Why no further message can be received now; None while anything is left."""
        return too_much_in_flight() if self.used >= self.limit else None


def too_much_in_flight() -> Problem:
    """The refusal of a message for which no memory is left."""
    return refuse(
        Reason.TOO_MUCH_IN_FLIGHT,
        452,
        "4.3.1",
        "Too many messages are being received: try again soon",
    )

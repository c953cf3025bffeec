"""The octets that all sessions together may have in memory while receiving, and each client's or
sender's share of them.

An account may have as much as is left free (dynamic thresholds, Choudhury and Hahne): a single one
gets half, two get a third each, and something is always left for the next.
"""

from __future__ import annotations

from mailrelay_gateway.intake.ledger import Account
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Octets. With at most 256 KiB of a message in memory, this is 256 messages of any size at once.
IN_FLIGHT_LIMIT = 64 * 1024 * 1024


class InFlightBudget:
    """Counts octets taken and returned; one for the whole gateway."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = IN_FLIGHT_LIMIT) -> None:
        """At most `limit` octets at once."""
        self.limit = limit
        self.used = 0

    def take(self, octets: int, account: Account) -> bool:
        """Take `octets` for an account if it may have as many; the caller returns them once."""
        if account.octets + octets > self.limit - self.used or self.used + octets > self.limit:
            return False
        self.used += octets
        account.octets += octets
        return True

    def take_anyway(self, octets: int, account: Account) -> None:
        """Take what is already in memory and cannot be refused, so that others see that less is
        left.
        """
        self.used += octets
        account.octets += octets

    def give_back(self, octets: int, account: Account) -> None:
        """Return what was taken."""
        self.used -= octets
        account.octets -= octets

    def problem(self, account: Account | None = None) -> Problem | None:
        """Why no further message can be received now (for that account); None if anything is
        left.
        """
        has = 0 if account is None else account.octets
        return too_much_in_flight() if has >= self.limit - self.used else None


def too_much_in_flight() -> Problem:
    """The refusal of a message for lack of memory."""
    return refuse(Reason.TOO_MUCH_IN_FLIGHT)


def too_much_kept() -> Problem:
    """The refusal of too much pipelined input before a login."""
    return refuse(Reason.TOO_MUCH_IN_FLIGHT, "login")

"""When a deferred message is retried, and when it is given up.

Pure: the random number is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_gateway.message.envelope import Outcome, Result

#: Seconds before the second attempt. Postfix waits 300 s, exim 15 min, SES asks for 5 s and more;
#: users wait for password mails, and most deferrals of smarthosts are throttling that ends within
#: seconds.
FIRST_DELAY = 30.0
#: Seconds before a message that was possibly delivered is retried: long enough for an upstream to
#: finish.
UNCERTAIN_DELAY = 300.0
#: The pause is spread over this fraction of it, so that messages that failed together do not all
#: return at once.
SPREAD = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """In seconds, as the MailRelay says. `warn_after`: after so much waiting the sender is told
    that its message is delayed; 0: never.
    """

    give_up_after: float
    max_interval: float
    warn_after: float = 0.0

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds until the next attempt after `attempts` of them: doubling, bounded, spread by
        `jitter` in [0, 1).
        """
        plain = min(FIRST_DELAY * 2.0 ** min(attempts - 1, 30), self.max_interval)
        return plain * (1 - SPREAD / 2 + SPREAD * jitter)

    def uncertain_delay(self, attempts: int, jitter: float) -> float:
        """Seconds until an uncertain message is retried: never sooner than a deferred one, usually
        much later.
        """
        return max(
            self.delay(attempts, jitter),
            min(UNCERTAIN_DELAY, self.max_interval) * (1 + SPREAD * jitter),
        )

    def pause(self, outcome: Outcome, attempts: int, jitter: float) -> float:
        """Seconds until the attempt after `outcome`, the last of `attempts`: as the upstream said
        ("try again in 92 seconds"), otherwise by our schedule.
        """
        if outcome.result is Result.UNCERTAIN:
            return self.uncertain_delay(attempts, jitter)
        if outcome.retry_after is not None:
            named = min(max(outcome.retry_after, 1.0), self.max_interval)
            return named * (1 + SPREAD / 4 * jitter)
        return self.delay(attempts, jitter)

    def until_warning(self, waited: float, delay: float, *, named: bool) -> tuple[float, bool]:
        """The pause after an attempt before which a recipient had `waited`, and whether its sender
        is told now that it is delayed.

        Told is once, without anything being noted: the pause in which the time comes is cut to end
        there, and who has waited exactly so long is told if that attempt fails too. A pause that
        the upstream named is not cut, nor one that would become very short: told is before it.
        """
        rest = self.warn_after - waited
        if self.warn_after == 0.0 or rest < 0.0 or rest > delay:
            return delay, False
        if rest == 0.0:
            return delay, True
        if named or rest < FIRST_DELAY or rest == delay:
            return delay, rest != delay
        return rest, False

    @property
    def longest(self) -> float:
        """No pause is longer, in seconds. What waits for a time twice as far away was given it by
        a clock that was ahead.
        """
        return self.max_interval * (1 + SPREAD)

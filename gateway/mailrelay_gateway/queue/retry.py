"""When a deferred message is tried again, and when no longer.

Pure: the random number is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds before the second attempt. Postfix waits 300 s, exim 15 min, SES asks for 5 s and more;
#: users wait for password mails, and smarthosts mostly defer for throttling that ends within
#: seconds.
FIRST_DELAY = 30.0
#: Seconds before a message is tried again that may have been delivered: long enough for an upstream
#: to finish.
UNCERTAIN_DELAY = 300.0
#: The pause is spread over this share of itself, so that what failed together does not come back
#: together.
SPREAD = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`give_up_after` and `max_interval` in seconds, as the MailRelay says."""

    give_up_after: float
    max_interval: float

    def charged(self, seconds: float, attempts: int) -> float:
        """How much of the `seconds` since the first attempt counts towards giving up: no more than
        so many attempts can have waited for each other. The rest was spent held, stopped, or in a
        jump of the clock.
        """
        return min(seconds, attempts * self.max_interval * (1 + SPREAD))

    def delay(self, attempts: int, jitter: float) -> float:
        """Seconds until the next attempt after `attempts` of them: doubling, bounded, spread by
        `jitter` in [0, 1).
        """
        plain = min(FIRST_DELAY * 2.0 ** min(attempts - 1, 30), self.max_interval)
        return plain * (1 - SPREAD / 2 + SPREAD * jitter)

    def uncertain_delay(self, attempts: int, jitter: float) -> float:
        """Seconds until an uncertain message is tried again: never sooner than a deferred one,
        mostly much later.
        """
        return max(
            self.delay(attempts, jitter),
            min(UNCERTAIN_DELAY, self.max_interval) * (1 + SPREAD * jitter),
        )

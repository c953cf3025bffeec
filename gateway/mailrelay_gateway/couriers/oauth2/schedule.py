"""Decides when an access token is fetched, and how long it is used. Pure: time and jitter are
arguments.

Times are of a monotonic clock, since a token's lifetime is given in seconds from now.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mailrelay_gateway.couriers.oauth2.answers import Grant

#: Seconds before its expiry at which a token is replaced at the earliest: five to ten minutes of an
#: hour leave time for an outage of the endpoint.
AHEAD = 600.0
#: Seconds before its expiry in which a token is no longer used: a login takes time, and clocks
#: differ.
SLACK = 30.0
#: Seconds between two retries in the background, and their growth.
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A token: usable until `until`, to be replaced from `renew_at` on."""

    access_token: str = field(repr=False)
    expires_at: float
    until: float
    renew_at: float


def take(grant: Grant, *, now: float, jitter: float) -> Held:
    """The token of a grant; `jitter` in [0, 1) spreads the replicas of a relay."""
    ahead = min(AHEAD, grant.life / 4) * (0.5 + 0.5 * jitter)
    expires_at = now + grant.life
    return Held(
        access_token=grant.access_token,
        expires_at=expires_at,
        until=expires_at - min(SLACK, grant.life / 10),
        renew_at=expires_at - ahead,
    )


def usable(token: Held | None, now: float) -> bool:
    """Whether it may be used for a login."""
    return token is not None and now < token.until


def pause(failures: int, wait: float | None, jitter: float) -> float:
    """Seconds until the next retry in the background, after `failures` in a row; `wait` is the
    endpoint's Retry-After.
    """
    own = min(FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, 16), LONGEST_PAUSE)
    return max(own * (0.8 + 0.4 * jitter), wait or 0.0)

"""Rates of messages and recipients, per relay, namespace and sender: charged once per message, all
or none. Pure.

All limits that apply to a message are checked first and charged only if each has room, so that a
refusal is not charged. Each of N replicas has 1/N of the rate. A full bucket is the same as none
and is dropped, so memory is bounded by the recent senders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import OnLimit, Rate, RateUnit, Scope
from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.policy.gcra import Gcra
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Buckets of one limit between two sweeps; a sweep happens when there are twice as many as the last
#: one left.
SWEEP_ABOVE = 1024

_SENDER, _NAMESPACE = Scope.SENDER, Scope.NAMESPACE  # a look-up in an enum is slow (Python 3.11)
_RateKey = tuple[Scope, RateUnit, int, float, int, OnLimit]


class Limit:
    """One rate of the configuration and its buckets by scope: when each will be full again."""

    __slots__ = ("_sweep_above", "buckets", "counts_recipients", "gcra", "rate", "scope")

    def __init__(self, rate: Rate, *, replicas: int, buckets: dict[str, float]) -> None:
        """A rate shared by `replicas`, with the buckets that it had before."""
        self.rate = rate
        self.scope = rate.scope
        self.counts_recipients = rate.unit is RateUnit.RECIPIENTS
        share = rate.count / replicas
        self.gcra = Gcra(interval=rate.per / share, burst=max(1.0, rate.burst / replicas))
        self.buckets = buckets
        self._sweep_above = SWEEP_ABOVE

    def charge(self, bucket: str, units: int, now: float) -> None:
        """Take `units` from that bucket."""
        buckets = self.buckets
        buckets[bucket] = self.gcra.charge(buckets.get(bucket, now), units, now)
        if len(buckets) > self._sweep_above:
            self.sweep(now)
            self._sweep_above = max(SWEEP_ABOVE, 2 * len(buckets))

    def sweep(self, now: float) -> None:
        """Drop the buckets that are full again."""
        for bucket in [bucket for bucket, at in self.buckets.items() if at <= now]:
            del self.buckets[bucket]


@dataclass(frozen=True, slots=True)
class Limited:
    """A refused message: the problem to answer, and the scope of the exceeded limit."""

    problem: Problem
    scope: Scope


class Limits:
    """All limits of a configuration."""

    __slots__ = ("_limits",)

    def __init__(self) -> None:
        """No limits yet."""
        self._limits: tuple[Limit, ...] = ()

    def configure(self, rates: tuple[Rate, ...], *, replicas: int) -> None:
        """Apply the rates of a configuration; unchanged ones keep their buckets."""
        before = {_key(limit.rate): limit.buckets for limit in self._limits}
        self._limits = tuple(
            Limit(rate, replicas=replicas, buckets=before.get(key, {}))
            for key, rate in {_key(rate): rate for rate in rates}.items()
        )

    def charge(self, identity: Identity, *, recipients: int, now: float) -> Limited | None:
        """Charge one message of `identity` to every limit, or to none if one is exceeded. `now` in
        seconds.
        """
        limits = self._limits
        longest = 0.0
        refusing: Limit | None = None
        for limit in limits:
            full_at = limit.buckets.get(_bucket(limit.scope, identity))
            if full_at is not None and full_at > now:
                wait = limit.gcra.wait(full_at, recipients if limit.counts_recipients else 1, now)
                if wait > 0.0:
                    longest = max(longest, wait)
                    # An explicit Reject takes precedence over Defer.
                    if refusing is None or limit.rate.on_limit is OnLimit.REJECT:
                        refusing = limit
        if refusing is not None:
            return Limited(_problem(refusing.rate, longest, identity), refusing.scope)
        for limit in limits:
            units = recipients if limit.counts_recipients else 1
            limit.charge(_bucket(limit.scope, identity), units, now)
        return None

    def usage(
        self, now: float, namespaces: Mapping[str, str]
    ) -> Iterator[tuple[Scope, str, float]]:
        """(scope, sender namespace, highest usage of its buckets) for all buckets in use;
        `namespaces` by sender UID.
        """
        for limit in self._limits:
            limit.sweep(now)
            scope = limit.scope
            for bucket, full_at in limit.buckets.items():
                namespace = namespaces.get(bucket, "") if scope is Scope.SENDER else bucket
                yield scope, namespace, limit.gcra.usage(full_at, now)


def _key(rate: Rate) -> _RateKey:
    return rate.scope, rate.unit, rate.count, rate.per, rate.burst, rate.on_limit


def _bucket(scope: Scope, identity: Identity) -> str:
    if scope is _SENDER:
        return identity.uid
    return identity.namespace if scope is _NAMESPACE else ""


def _problem(rate: Rate, wait: float, identity: Identity) -> Problem:
    whose = {
        Scope.RELAY: "this relay",
        Scope.NAMESPACE: f"namespace {identity.namespace or 'none'}",
        Scope.SENDER: "sender " + f"{identity.namespace}/{identity.name}".lstrip("/"),
    }[rate.scope]
    return refuse(
        Reason.RATE_LIMITED,
        "" if rate.on_limit is OnLimit.DEFER else "reject",
        count=rate.count,
        unit=rate.unit if rate.count > 1 else rate.unit.removesuffix("s"),
        seconds=rate.per,
        whose=whose,
        wait=max(1, math.ceil(wait)),
    )

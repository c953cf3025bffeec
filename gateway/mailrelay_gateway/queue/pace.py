"""The pace of one upstream: when the next transaction may begin, so that no rate is exceeded in any
window of its length, from the first second on. Pure: time is an argument.

A rate is kept where the upstream measures it: at the final dot, which is somewhere between an
attempt's begin and its end. So an attempt counts from its begin until one period after its end,
however long it takes. For those in any window: the one that began last did so when all the others
counted, and never more than the rate's units count at a time.

Rates (of up to a minute) are also spaced, by GCRA with a burst of one: after n units, n intervals
pass. Longer ones are quotas: counted, but not spread over the day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

#: Seconds up to which a period is a rate's; a longer one is a quota's.
LONGEST_RATE = 60.0
#: What passed is remembered in at most so many parts of the period; within a part it counts as if
#: it had passed at its end.
GRAIN = 1000
#: Seconds by which a begin may be late without moving the later ones: timers are.
LATE = 0.02
#: Seconds after which an attempt counts as if it had ended, so that an upstream that stalls in one
#: connection does not stop all others. When it ends, it counts from then on instead.
STALLED = 3.0
#: What throttling leaves of the pace, each time and at least, and the seconds in which all of it
#: comes back.
SLOWER = 0.7
LEAST_FACTOR = 0.1
RECOVERY = 900.0
#: Tolerance for floating point, in seconds.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `units` recipients or messages in any `per` seconds."""

    name: str
    recipients: bool  # else messages
    units: int
    per: float

    @classmethod
    def share(cls, *, name: str, recipients: bool, count: int, per: float, replicas: int) -> Rate:
        """What each of `replicas` may use of a rate: whole units. Where there are fewer units than
        replicas, each has one in a period that is longer by as much.
        """
        if count < replicas:
            return cls(name=name, recipients=recipients, units=1, per=per * replicas / count)
        return cls(name=name, recipients=recipients, units=count // replicas, per=per)

    @property
    def is_quota(self) -> bool:
        """Whether it is counted only, and not spread."""
        return self.per > LONGEST_RATE and self.units > 1


class _Passed:
    """Units that passed between two moments."""

    __slots__ = ("began", "ended", "units")

    def __init__(self, began: float, ended: float, units: int) -> None:
        self.began = began
        self.ended = ended
        self.units = units


class Bucket:
    """What passed of one rate."""

    __slots__ = ("_free_at", "_passed", "_since", "_used", "rate")

    def __init__(self, rate: Rate, now: float) -> None:
        """Begin empty: the first units have to be saved up."""
        self.rate = rate
        self._since = now
        self._free_at = now  # when the next unit may begin, by its spacing
        self._passed: deque[_Passed] = deque()  # during the last period, oldest first
        self._used = 0

    def follow(self, rate: Rate, now: float) -> None:
        """Go by a new rate; what passed has passed."""
        self.rate = rate
        self._free_at = min(self._free_at, now + rate.per)

    def wait(self, units: int, begun: Iterable[tuple[float, int]], now: float, f: float) -> float:
        """Seconds until `units` may begin at the fraction `f` of the rate; `begun` are the begins
        and units of what has not ended, which is the sooner the earlier it ends.
        """
        rate = self.rate
        self._forget(now)
        wait = 0.0
        if not rate.is_quota:
            interval = rate.per / rate.units / f
            free_at = max(self._free_at, self._since + min(units * interval, rate.per))
            wait = free_at - now
        surplus = self._used + units - rate.units
        surplus += sum(each for _, each in begun)
        if surplus > 0:
            wait = max(wait, self._room_at(surplus, begun) - now)
        return wait if wait > ROUNDING else 0.0

    def _room_at(self, surplus: int, begun: Iterable[tuple[float, int]]) -> float:
        """When so many of the counted units will count no more, if nothing ends before."""
        at = 0.0
        for passed in self._passed:
            at = passed.ended
            surplus -= passed.units
            if surplus <= 0:
                return at + self.rate.per
        for began, units in begun:
            at = max(at, began + STALLED)
            surplus -= units
            if surplus <= 0:
                break
        return at + self.rate.per

    def begin(self, units: int, now: float, f: float) -> None:
        """So many begin now: the next ones come so many intervals later."""
        interval = self.rate.per / self.rate.units / f
        self._free_at = max(self._free_at, now - LATE) + units * interval

    def end(self, units: int, now: float) -> _Passed:
        """So many have ended: they count for one period more. Returns among what they count."""
        self._used += units
        last = self._passed[-1] if self._passed else None
        if last is not None:
            now = max(now, last.ended)
            if now - last.began < self.rate.per / GRAIN:
                last.ended = now
                last.units += units
                return last
        passed = _Passed(now, now, units)
        self._passed.append(passed)
        return passed

    def take_back(self, units: int, passed: _Passed) -> None:
        """So many of these count no more, unless all of them have been forgotten."""
        if passed.units:
            passed.units -= units
            self._used -= units

    def used(self) -> list[tuple[float, int]]:
        """When units passed, and how many, oldest first."""
        return [(passed.ended, passed.units) for passed in self._passed]

    def restore(self, used: Iterable[tuple[float, int]], now: float) -> None:
        """Count what passed before the start."""
        for at, units in used:
            self.end(units, min(at, now))

    def _forget(self, now: float) -> None:
        over = now - self.rate.per + ROUNDING
        while self._passed and self._passed[0].ended <= over:
            passed = self._passed.popleft()
            self._used -= passed.units
            passed.units = 0


class Pace:
    """All rates of one upstream."""

    def __init__(self, rates: Iterable[Rate], now: float) -> None:
        """Begin empty."""
        self._buckets: dict[str, Bucket] = {}
        self._begun: dict[int, tuple[float, int]] = {}  # begin and recipients, by attempt
        #: Of what has stalled and not ended: as what it counts, by attempt.
        self._counted: dict[int, list[tuple[Bucket, int, _Passed]]] = {}
        self._factor = 1.0
        self._slowed_at = now
        #: Recipients that one transaction may have; None: any number.
        self.most: int | None = None
        self.follow(rates, now)

    def follow(self, rates: Iterable[Rate], now: float) -> None:
        """Go by other rates; those of the same name and unit keep what they know."""
        before, self._buckets = self._buckets, {}
        for rate in rates:
            known = before.get(rate.name)
            if known is not None and known.rate.recipients == rate.recipients:
                known.follow(rate, now)
                self._buckets[rate.name] = known
            else:
                self._buckets[rate.name] = Bucket(rate, now)
        counted = [one.rate.units for one in self._buckets.values() if one.rate.recipients]
        self.most = min(counted, default=None)

    @property
    def rates(self) -> list[Rate]:
        """The rates in force."""
        return [bucket.rate for bucket in self._buckets.values()]

    def quotas(self) -> dict[str, Bucket]:
        """Those that outlive a restart, by name."""
        return {name: one for name, one in self._buckets.items() if one.rate.is_quota}

    def used(self, now: float) -> dict[str, list[tuple[float, int]]]:
        """What was used of the quotas, by name, oldest first. What is under way counts as if it had
        ended now.
        """
        recipients = sum(each for _, each in self._begun.values())
        used = {}
        for name, bucket in self.quotas().items():
            begun = recipients if bucket.rate.recipients else len(self._begun)
            used[name] = [*bucket.used(), *([(now, begun)] if begun else [])]
        return used

    @property
    def under_way(self) -> bool:
        """Whether an attempt has not ended, which may yet count for nothing."""
        return bool(self._begun or self._counted)

    def factor(self, now: float) -> float:
        """The fraction of the pace that throttling has left, at most 1."""
        return min(1.0, self._factor + (now - self._slowed_at) / RECOVERY)

    def slow(self, now: float) -> None:
        """The upstream throttles."""
        self._factor = max(LEAST_FACTOR, self.factor(now) * SLOWER)
        self._slowed_at = now

    def wait(self, recipients: int, now: float) -> float:
        """Seconds until a transaction with so many recipients may begin; 0: now. An attempt that
        ends may make it sooner.
        """
        self._stalled(now)
        return max((self._wait(one, recipients, now) for one in self._buckets.values()), default=0)

    def quota_wait(self, recipients: int, now: float) -> tuple[float, Rate | None]:
        """The same for the quotas alone, and which of them it is that makes it wait."""
        longest, quota = 0.0, None
        for bucket in self._buckets.values():
            if bucket.rate.is_quota and (wait := self._wait(bucket, recipients, now)) > longest:
                longest, quota = wait, bucket.rate
        return longest, quota

    def _wait(self, bucket: Bucket, recipients: int, now: float) -> float:
        factor = self.factor(now)
        if bucket.rate.recipients:
            return bucket.wait(recipients, self._begun.values(), now, factor)
        return bucket.wait(1, [(began, 1) for began, _ in self._begun.values()], now, factor)

    def begin(self, number: int, recipients: int, now: float) -> None:
        """The attempt of this number begins."""
        factor = self.factor(now)
        self._begun[number] = (now, recipients)
        for bucket in self._buckets.values():
            bucket.begin(recipients if bucket.rate.recipients else 1, now, factor)

    def end(self, number: int, recipients: int, now: float) -> None:
        """It has ended; if it was counted out as stalled, or began before there was a pace, it
        counts from now on.
        """
        self.cancel(number)
        for bucket in self._buckets.values():
            bucket.end(recipients if bucket.rate.recipients else 1, now)

    def cancel(self, number: int) -> None:
        """It has ended, and the upstream did not see it."""
        self._begun.pop(number, None)
        for bucket, units, passed in self._counted.pop(number, ()):
            bucket.take_back(units, passed)

    def _stalled(self, now: float) -> None:
        while self._begun:
            number = next(iter(self._begun))
            began, recipients = self._begun[number]
            if began + STALLED > now:
                return
            del self._begun[number]
            self._counted[number] = [
                (bucket, units, bucket.end(units, began + STALLED))
                for bucket in self._buckets.values()
                for units in [recipients if bucket.rate.recipients else 1]
            ]

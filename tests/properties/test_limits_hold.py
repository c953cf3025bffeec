"""Limits hold over any history, and a refused message costs nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.documents import OnLimit, Rate, RateUnit, Scope
from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.policy.gcra import Gcra
from mailrelay_gateway.policy.limits import Limits
from tests.models import made

#: Seconds to the next message, and how many units it has.
HISTORIES = st.lists(
    st.tuples(st.floats(0, 5, allow_nan=False), st.integers(1, 8)), min_size=1, max_size=60
)
IDENTITIES = [
    Identity(namespace=namespace, name=name, uid=f"{namespace}/{name}", username=name)
    for namespace in "ab"
    for name in "xy"
]
RATES = st.lists(
    st.builds(
        made.rate,
        scope=st.sampled_from(Scope),
        unit=st.sampled_from(RateUnit),
        count=st.integers(1, 20),
        per=st.sampled_from([1.0, 10.0, 60.0]),
        burst=st.integers(1, 10),
        on_limit=st.sampled_from(OnLimit),
    ),
    max_size=4,
)


@given(HISTORIES, st.integers(1, 20), st.integers(1, 10))
def test_gcra_never_admits_more_than_the_rate(
    history: list[tuple[float, int]], count: int, burst: int
) -> None:
    """Invariant: in every span of t seconds at most rate * t + burst units pass, bursts being kept
    to.
    """
    gcra = Gcra(interval=10.0 / count, burst=burst)
    full_at, now = 0.0, 100.0
    passed: list[tuple[float, int]] = []
    for pause, units in history:
        now += pause
        units = min(units, burst)
        if gcra.wait(full_at, units, now) == 0.0:
            full_at = gcra.charge(full_at, units, now)
            passed.append((now, units))
    for first in range(len(passed)):
        total = 0
        for at, units in passed[first:]:
            total += units
            span = at - passed[first][0]
            assert total <= span * count / 10.0 + burst + 1e-3


@given(HISTORIES, st.integers(1, 20), st.integers(1, 4))
def test_gcra_means_what_it_says(history: list[tuple[float, int]], count: int, burst: int) -> None:
    """Invariant: whoever waits as long as told passes, whatever the units; a shorter wait does not
    do.
    """
    gcra = Gcra(interval=10.0 / count, burst=burst)
    full_at, now = 0.0, 100.0
    for pause, units in history:
        now += pause
        wait = gcra.wait(full_at, units, now)
        assert gcra.wait(full_at, units, now + wait) == 0.0
        if wait > 0.01:
            assert gcra.wait(full_at, units, now + wait - 0.01) > 0.0
        now += wait
        full_at = gcra.charge(full_at, units, now)


@given(HISTORIES, st.integers(1, 20), st.integers(1, 4))
def test_more_than_a_burst_keeps_to_the_rate_in_the_long_run(
    history: list[tuple[float, int]], count: int, burst: int
) -> None:
    """Invariant: over the whole history no more units pass than the rate and one message beyond
    allow.
    """
    gcra = Gcra(interval=10.0 / count, burst=burst)
    full_at, now, total, largest = 0.0, 100.0, 0, 0
    for pause, units in history:
        now += pause
        if gcra.wait(full_at, units, now) == 0.0:
            full_at = gcra.charge(full_at, units, now)
            total += units
            largest = max(largest, units)
    assert total <= (now - 100.0) * count / 10.0 + max(burst, largest) + 1e-3


@given(RATES, HISTORIES, st.data())
def test_limits_are_charged_all_or_none(
    rates: list[Rate], history: list[tuple[float, int]], data: st.DataObject
) -> None:
    """Invariant: a refusal changes no bucket, a pass moves each one that applies."""
    limits = Limits()
    limits.configure(tuple(rates), replicas=1)
    now = 100.0
    for pause, recipients in history:
        now += pause
        identity = data.draw(st.sampled_from(IDENTITIES))
        before = [dict(limit.buckets) for limit in limits._limits]
        limited = limits.charge(identity, recipients=recipients, now=now)
        after = [dict(limit.buckets) for limit in limits._limits]
        if limited is not None:
            assert before == after
            assert limited.problem.reply.code in (451, 550)
        else:
            assert all(old != new for old, new in zip(before, after, strict=True))


@given(RATES, HISTORIES)
def test_replicas_share_a_rate(rates: list[Rate], history: list[tuple[float, int]]) -> None:
    """Invariant: three replicas, each with a share, take no more than one with the whole, bursts of
    1 aside.
    """
    alone, shared = Limits(), [Limits() for _ in range(3)]
    rates = [rate.model_copy(update={"burst": 3, "unit": RateUnit.MESSAGES}) for rate in rates]
    alone.configure(tuple(rates), replicas=1)
    for limits in shared:
        limits.configure(tuple(rates), replicas=3)
    now, one, three = 100.0, 0, 0
    for pause, _ in history:
        now += pause
        for limits in shared:
            three += limits.charge(IDENTITIES[0], recipients=1, now=now) is None
            one += alone.charge(IDENTITIES[0], recipients=1, now=now) is None
    if rates:
        tightest = min(rate.count / rate.per for rate in rates)
        assert three <= tightest * (now - 100.0) + 3 + 1e-3

"""What limits say, and what of them survives a reload."""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.documents import OnLimit, Rate, RateUnit, Scope
from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.policy.limits import SWEEP_ABOVE, Limits
from mailrelay_gateway.reasons import Reason
from tests.models import made as make

ALICE = Identity(namespace="shop", name="alice", uid="1", username="shop.alice")
BOB = Identity(namespace="shop", name="bob", uid="2", username="shop.bob")
CAROL = Identity(namespace="office", name="carol", uid="3", username="office.carol")


def rate(scope: Scope = Scope.SENDER, **fields: object) -> Rate:
    return make.rate(**{"scope": scope, "count": 1, "per": 60.0, "burst": 1} | fields)


def limits(*rates: Rate, replicas: int = 1) -> Limits:
    made = Limits()
    made.configure(rates, replicas=replicas)
    return made


@pytest.mark.parametrize(
    ("scope", "passing"),
    [(Scope.SENDER, [BOB, CAROL]), (Scope.NAMESPACE, [CAROL]), (Scope.RELAY, [])],
)
def test_a_scope_counts_together(scope: Scope, passing: list[Identity]) -> None:
    made = limits(rate(scope))
    assert made.charge(ALICE, recipients=1, now=0.0) is None
    for each in (BOB, CAROL):
        assert (made.charge(each, recipients=1, now=1.0) is None) == (each in passing)


def test_a_refusal_says_when_and_whose() -> None:
    made = limits(rate(Scope.NAMESPACE))
    made.charge(ALICE, recipients=1, now=0.0)
    limited = made.charge(BOB, recipients=1, now=10.5)
    assert limited is not None
    assert limited.scope is Scope.NAMESPACE
    assert limited.problem.reason is Reason.RATE_LIMITED
    assert str(limited.problem.reply) == (
        "451 4.7.1 Rate limit of 1 message per 60 s for namespace shop exceeded:"
        " try again in 50 s (RateLimited)"
    )


def test_reject_outranks_defer_and_the_longest_wait_is_told() -> None:
    made = limits(
        rate(Scope.SENDER, per=100.0), rate(Scope.RELAY, per=10.0, on_limit=OnLimit.REJECT)
    )
    made.charge(ALICE, recipients=1, now=0.0)
    limited = made.charge(ALICE, recipients=1, now=5.0)
    assert limited is not None
    assert (limited.scope, limited.problem.reply.code) == (Scope.RELAY, 550)
    assert "try again in 95 s" in limited.problem.reply.text


def test_recipients_are_counted_each() -> None:
    made = limits(rate(unit=RateUnit.RECIPIENTS, count=10, per=10.0, burst=5))
    assert made.charge(ALICE, recipients=4, now=0.0) is None
    assert made.charge(ALICE, recipients=2, now=0.0) is not None
    assert made.charge(ALICE, recipients=1, now=0.0) is None


def test_more_recipients_than_a_burst_pass_when_it_is_full_and_leave_a_debt() -> None:
    made = limits(rate(unit=RateUnit.RECIPIENTS, count=1, per=1.0, burst=2))
    assert made.charge(ALICE, recipients=10, now=0.0) is None
    assert made.charge(ALICE, recipients=1, now=8.0) is not None
    assert made.charge(ALICE, recipients=1, now=9.0) is None
    assert made.charge(ALICE, recipients=10, now=10.5) is not None
    assert made.charge(ALICE, recipients=10, now=11.0) is None


def test_use_survives_a_reload_of_the_same_rate_only() -> None:
    made = limits(rate())
    made.charge(ALICE, recipients=1, now=0.0)
    made.configure((rate(), rate(Scope.RELAY, count=5, burst=5)), replicas=1)
    assert made.charge(ALICE, recipients=1, now=1.0) is not None
    made.configure((rate(count=2),), replicas=1)
    assert made.charge(ALICE, recipients=1, now=1.0) is None


def test_a_replica_has_its_share() -> None:
    made = limits(rate(count=60, burst=3), replicas=3)
    assert made.charge(ALICE, recipients=1, now=0.0) is None
    assert made.charge(ALICE, recipients=1, now=2.9) is not None
    assert made.charge(ALICE, recipients=1, now=3.0) is None


def test_full_buckets_are_forgotten() -> None:
    made = limits(rate(per=0.001))
    for number in range(3 * SWEEP_ABOVE):
        identity = Identity(namespace="n", name="x", uid=str(number), username="x")
        assert made.charge(identity, recipients=1, now=float(number)) is None
    (limit,) = made._limits
    assert len(limit.buckets) <= SWEEP_ABOVE + 1


def test_usage_is_that_of_the_buckets_in_use() -> None:
    made = limits(rate(count=4, per=4.0, burst=4), rate(Scope.RELAY, count=10, per=10.0, burst=10))
    made.charge(ALICE, recipients=1, now=0.0)
    assert list(made.usage(0.0, {"1": "shop"})) == [
        (Scope.SENDER, "shop", 0.25),
        (Scope.RELAY, "", 0.1),
    ]
    assert list(made.usage(5.0, {"1": "shop"})) == []

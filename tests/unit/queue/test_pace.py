"""What a pace allows, and when."""

from __future__ import annotations

import pytest

from mailrelay_gateway.queue.pace import LEAST_FACTOR, RECOVERY, SLOWER, STALLED, Pace, Rate


def rate(units: int = 10, per: float = 1.0, *, recipients: bool = True, name: str = "r") -> Rate:
    return Rate(name=name, recipients=recipients, units=units, per=per)


def run(pace: Pace, recipients: int, *, now: float, seconds: float = 0.01, number: int = 1) -> None:
    """One attempt that ends after so long."""
    pace.begin(number, recipients, now)
    pace.end(number, recipients, now + seconds)


@pytest.mark.parametrize(
    ("count", "per", "replicas", "units", "period"),
    [
        (14, 1.0, 1, 14, 1.0),
        (14, 1.0, 2, 7, 1.0),
        (13, 1.0, 2, 6, 1.0),
        (1, 1.0, 2, 1, 2.0),
        (2, 60.0, 3, 1, 90.0),
        (30, 60.0, 30, 1, 60.0),
    ],
)
def test_a_replicas_share_is_in_whole_units(
    count: int, per: float, replicas: int, units: int, period: float
) -> None:
    share = Rate.share(name="r", recipients=True, count=count, per=per, replicas=replicas)
    assert share.units == units
    assert share.per == pytest.approx(period)


@pytest.mark.parametrize(
    ("units", "per", "quota"), [(30, 60.0, False), (31, 61.0, True), (1, 3600.0, False)]
)
def test_what_is_longer_than_a_minute_is_a_quota(units: int, per: float, quota: bool) -> None:
    assert rate(units, per).is_quota is quota


def test_the_first_recipients_are_saved_up() -> None:
    pace = Pace([rate()], now=100.0)
    assert pace.wait(1, 100.0) == pytest.approx(0.1)
    assert pace.wait(10, 100.0) == pytest.approx(1.0)
    assert pace.wait(10, 101.0) == 0.0


def test_a_quota_is_there_at_once() -> None:
    assert Pace([rate(100, 3600.0)], now=100.0).wait(100, 100.0) == 0.0


def test_after_n_recipients_n_intervals_pass() -> None:
    pace = Pace([rate()], now=0.0)
    run(pace, 5, now=100.0)
    assert pace.wait(1, 100.0) == pytest.approx(0.5 - 0.02)


def test_a_late_begin_does_not_move_the_later_ones() -> None:
    pace = Pace([rate()], now=0.0)
    run(pace, 1, now=100.0)
    run(pace, 1, now=100.08 + 0.015, number=2)
    assert pace.wait(1, 100.15) == pytest.approx(0.03)


def test_what_is_under_way_counts_until_one_period_after_its_end() -> None:
    pace = Pace([rate(2)], now=0.0)
    pace.begin(1, 1, 100.0)
    run(pace, 1, now=100.5, seconds=0.1, number=2)
    assert pace.wait(1, 102.0) == 0.0
    assert pace.wait(2, 102.0) > 0.0  # the first has not ended
    pace.end(1, 1, 102.0)
    assert pace.wait(2, 102.0) == pytest.approx(1.0)


def test_what_stalls_counts_as_ended() -> None:
    pace = Pace([rate(1)], now=0.0)
    pace.begin(1, 1, 100.0)
    assert pace.wait(1, 101.0) == pytest.approx(STALLED + 1.0 - 1.0)
    assert pace.wait(1, 100.0 + STALLED + 1.1) == 0.0


@pytest.mark.parametrize("seen", [True, False])
def test_what_stalls_and_ends_counts_once(seen: bool) -> None:
    """An upstream that always takes longer gets all of its quota, too."""
    pace = Pace([rate(10, 3600.0)], now=0.0)
    for number in range(9):
        pace.begin(number, 1, 100.0 * number)
        pace.wait(1, 100.0 * number + STALLED + 1.0)
        if seen:
            pace.end(number, 1, 100.0 * number + 60.0)
        else:
            pace.cancel(number)
    assert pace.wait(1 if seen else 10, 1000.0) == 0.0
    if seen:
        assert pace.wait(2, 1000.0) == pytest.approx(3600.0 + 60.0 - 1000.0)


def test_what_stalls_for_longer_than_the_period_counts_from_its_end() -> None:
    pace = Pace([rate(2, 100.0)], now=0.0)
    pace.begin(1, 2, 0.0)
    assert pace.wait(2, 103.1) == 0.0
    pace.end(1, 2, 110.0)
    assert pace.wait(1, 111.0) == pytest.approx(99.0)


def test_what_was_not_seen_does_not_count() -> None:
    pace = Pace([rate(1)], now=0.0)
    pace.begin(1, 1, 100.0)
    pace.cancel(1)
    assert pace.wait(1, 101.0) == 0.0


def test_the_tightest_rate_decides() -> None:
    slow = rate(1, 60.0, recipients=False, name="slow")
    pace = Pace([rate(100), slow, rate(50, 86_400.0, name="day")], now=0.0)
    run(pace, 1, now=100.0)
    assert pace.wait(1, 110.0) == pytest.approx(60.01 - 10.0)
    assert pace.most == 50


def test_messages_bound_no_recipients() -> None:
    assert Pace([rate(3, recipients=False)], now=0.0).most is None


def test_rates_of_the_same_name_keep_what_they_know() -> None:
    pace = Pace([rate(100, 3600.0)], now=0.0)
    run(pace, 100, now=100.0)
    pace.follow([rate(120, 3600.0)], 200.0)
    assert pace.wait(20, 200.0) == 0.0
    assert pace.wait(21, 200.0) > 3000.0
    pace.follow([rate(120, 3600.0, recipients=False)], 200.0)
    assert pace.wait(21, 200.0) == 0.0


def test_a_quota_that_waits_is_named() -> None:
    pace = Pace([rate(100), rate(10, 3600.0, name="hour")], now=0.0)
    assert pace.quota_wait(1, 100.0) == (0.0, None)
    run(pace, 10, now=100.0)
    seconds, quota = pace.quota_wait(1, 200.0)
    assert seconds == pytest.approx(3500.01)
    assert quota is not None
    assert quota.name == "hour"


def test_many_small_messages_take_little_memory_and_count_late_rather_than_early() -> None:
    pace = Pace([rate(10**6, 86_400.0)], now=0.0)
    now = 100.0
    for number in range(20_000):
        run(pace, 1, now=now, number=number)
        now += 4.0
    (bucket,) = pace._buckets.values()
    assert len(bucket._passed) <= 1001
    assert bucket._used == 20_000
    assert pace.wait(10**6 - 20_000, now) == 0.0
    assert pace.wait(10**6 - 19_999, now) > 0.0


def test_throttling_lowers_it_and_it_comes_back() -> None:
    pace = Pace([rate()], now=0.0)
    assert pace.factor(0.0) == 1.0
    pace.slow(10.0)
    assert pace.factor(10.0) == pytest.approx(SLOWER)
    run(pace, 1, now=11.0)
    assert pace.wait(1, 11.0) == pytest.approx(0.1 / pace.factor(11.0) - 0.02)
    for _ in range(100):
        pace.slow(20.0)
    assert pace.factor(20.0) == pytest.approx(LEAST_FACTOR)
    assert pace.factor(20.0 + RECOVERY / 2) == pytest.approx(LEAST_FACTOR + 0.5)
    assert pace.factor(20.0 + RECOVERY) == 1.0

"""An upstream that is silent is looked at ever again, suspected once, and then has stalled; one
connection that gets on ends it.
"""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.deadlines import READ_FIRST
from mailrelay_gateway.couriers.smtp.stall_watch import (
    LISTEN_INTERVAL,
    LOOKS,
    AllWaiting,
    StallWatch,
)
from mailrelay_gateway.couriers.smtp.stalls import Waiting

PATIENCE = 4.0
DOT = Waiting(Stage.END_OF_MESSAGE, 100.0, 100.0)


def busy(*waiting: Waiting) -> AllWaiting:
    return waiting, ()


def test_silence_is_looked_at_then_suspected_then_a_stall() -> None:
    watch = StallWatch(PATIENCE)
    assert watch.watch(lambda: busy(DOT), 100.0) == 100.0 + PATIENCE / LOOKS
    assert watch.watch(lambda: busy(DOT), 103.5) == 104.0
    assert watch.watch(lambda: busy(DOT), 104.0) == 104.0 + READ_FIRST
    found = watch.watch(lambda: busy(DOT), 104.0 + READ_FIRST)
    assert isinstance(found, Failure)
    assert found.stage is Stage.END_OF_MESSAGE


def test_between_two_looks_nobody_is_asked() -> None:
    watch = StallWatch(PATIENCE)
    watch.watch(lambda: busy(DOT), 100.0)

    def never() -> AllWaiting:
        raise AssertionError("asked")

    assert watch.watch(never, 100.5) == 100.0 + PATIENCE / LOOKS


def test_one_that_got_on_after_the_suspicion_is_suspected_anew() -> None:
    watch = StallWatch(PATIENCE)
    assert watch.watch(lambda: busy(DOT), 104.0) == 104.0 + READ_FIRST
    moved = DOT._replace(since=104.0)
    watch.watch(lambda: busy(moved), 104.1)
    assert watch.watch(lambda: busy(moved), 108.0) == 108.0 + READ_FIRST


def test_with_nobody_waiting_there_is_nothing_to_watch() -> None:
    assert StallWatch(PATIENCE).watch(lambda: ((), ()), 100.0) is None


def test_it_is_listened_to_until_one_gets_on_and_a_slow_one_earns_patience() -> None:
    watch = StallWatch(PATIENCE)
    watch.watch(lambda: busy(DOT), 104.0)
    assert isinstance(watch.watch(lambda: busy(DOT), 104.1), Failure)
    assert watch.listen(busy(DOT), 105.0) == 105.0 + LISTEN_INTERVAL
    opened_since = Waiting(Stage.GREETING, 105.0, 105.5)
    assert watch.listen(((DOT,), (opened_since,)), 105.5) == 105.5 + LISTEN_INTERVAL
    heard = DOT._replace(since=106.0, heard=106.0)
    assert watch.listen(busy(heard), 106.0) is None
    # 1.5 times the silence of 5.9 s
    assert watch.watch(lambda: busy(heard), 106.0) == 106.0 + 1.5 * 5.9 / LOOKS

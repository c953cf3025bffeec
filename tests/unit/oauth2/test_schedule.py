"""When a token is fetched: before its end, spread, and ever more seldom where it fails."""

from __future__ import annotations

import pytest

from mailrelay_gateway.couriers.oauth2.answers import Grant
from mailrelay_gateway.couriers.oauth2.schedule import LONGEST_PAUSE, pause, take, usable


@pytest.mark.parametrize("life", [3.0, 60.0, 300.0, 3600.0, 86400.0])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_token_is_renewed_before_it_ends(life: float, jitter: float) -> None:
    held = take(Grant(access_token="t", life=life), now=1000.0, jitter=jitter)
    assert 1000.0 < held.renew_at < held.until < held.expires_at == 1000.0 + life
    assert held.expires_at - held.renew_at <= 600.0


def test_replicas_do_not_knock_together() -> None:
    moments = {
        take(Grant(access_token="t", life=3600.0), now=0.0, jitter=jitter).renew_at
        for jitter in (0.0, 0.3, 0.9)
    }
    assert moments == {3300.0, 3210.0, 3030.0}


def test_a_token_is_not_shown_at_its_end() -> None:
    held = take(Grant(access_token="t", life=3600.0), now=0.0, jitter=0.0)
    assert usable(held, 3569.9)
    assert not usable(held, 3570.0)
    assert not usable(None, 0.0)


def test_pauses_grow_to_a_bound_and_heed_the_endpoint() -> None:
    pauses = [pause(n, None, 0.5) for n in range(1, 12)]
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert pauses[-1] == LONGEST_PAUSE
    assert pause(10_000, None, 0.999) < LONGEST_PAUSE * 1.2
    assert pause(1, 120.0, 0.5) == 120.0
    assert pause(9, 1.0, 0.5) == LONGEST_PAUSE

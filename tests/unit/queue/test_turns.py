"""Whose turn it is: what is leased next for which lane, at any backlog."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mailrelay_gateway.message.body import INLINE_BODY_LIMIT
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import Recipient
from mailrelay_gateway.queue.lane import Lane
from mailrelay_gateway.queue.store import Backlog, Want
from mailrelay_gateway.queue.turns import AHEAD_PER_LANE, Turns
from tests.unit.queue.build import ROUTE, job

FIRST, SECOND = LaneKey("first"), LaneKey("second")


def two() -> Turns:
    """Turns with two upstreams of ten connections each."""
    turns = Turns()
    turns.configure({"first": 10, "second": 10}, 0.0)
    return turns


def lane_of(turns: Turns, route: Route = ROUTE) -> Lane:
    lane = turns.lane_for(route, 0.0)
    assert lane is not None
    return lane


def answer(turns: Turns, lane: Lane, wants: list[Want], seq: int = 0) -> int:
    """Give each want all that it asked for, one recipient a message; the next free number."""
    jobs = []
    for want in wants:
        for _ in range(want.messages):
            jobs.append(job(seq, want.sender, route=want.route, upstream=want.upstream))
            seq += 1
    assert turns.claimed(lane, wants, jobs, 0.0) == []
    return seq


def test_nothing_is_wanted_without_a_backlog() -> None:
    turns = two()
    assert turns.wants(lane_of(turns), 0.0) == []


def test_a_lane_leases_ahead_what_its_connections_need_soon() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 10_000, 0.0)
    lane = lane_of(turns)
    wants = turns.wants(lane, 0.0)
    assert [(w.sender, w.messages, w.upstream) for w in wants] == [("a", 40, "first")]
    assert turns.wants(lane, 0.0) == [], "not again while the claim is under way"
    answer(turns, lane, wants)
    assert turns.ready(Backlog(ROUTE, "a")) == 9_960
    assert len(lane.startable) == 40
    assert turns.wants(lane, 0.0) == [], "enough is leased"
    for _ in range(20):
        turns.take(lane)
    assert [w.messages for w in turns.wants(lane, 0.0)] == [20]


def test_no_lane_leases_more_than_its_bound() -> None:
    turns = Turns()
    turns.configure({"first": 1000}, 0.0)
    route = Route(("first",))
    turns.found(Backlog(route, "a"), 10_000, 0.0)
    [want] = turns.wants(lane_of(turns, route), 0.0)
    assert want.messages == AHEAD_PER_LANE


def test_leases_are_shared_between_senders() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "big"), 200_000, 0.0)
    turns.found(Backlog(ROUTE, "small"), 3, 0.0)
    wants = turns.wants(lane_of(turns), 0.0)
    assert {w.sender: w.messages for w in wants} == {"big": 20, "small": 3}


def test_a_newcomer_is_leased_although_the_lane_is_full() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "big"), 200_000, 0.0)
    lane = lane_of(turns)
    answer(turns, lane, turns.wants(lane, 0.0))
    turns.found(Backlog(ROUTE, "new"), 1, 0.0)
    wants = turns.wants(lane, 0.0)
    assert [(w.sender, w.messages) for w in wants] == [("new", 1)]
    answer(turns, lane, wants, 1000)
    assert turns.take(lane).message.identity.uid == "big"
    assert turns.take(lane).message.identity.uid == "new"


def test_fresh_mail_of_a_newcomer_is_leased_as_it_is_stored() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "big"), 200_000, 0.0)
    lane = lane_of(turns)
    answer(turns, lane, turns.wants(lane, 0.0))
    assert turns.may_lease_at_once(Backlog(ROUTE, "big"), 1000, 0.0) is None, "behind its own"
    assert turns.may_lease_at_once(Backlog(ROUTE, "new"), 1000, 0.0) is lane


def test_a_held_upstream_leaves_its_mail_to_the_next_and_has_it_back() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 100, 0.0)
    first = lane_of(turns)
    answer(turns, first, turns.wants(first, 0.0))
    back = turns.hold("first", 0.0)
    assert len(back) == 40, "what was leased there is given back"
    second = lane_of(turns)
    assert second.key == SECOND
    assert [(w.upstream, w.messages) for w in turns.wants(second, 0.0)] == [("second", 40)]
    turns.release("first", 0.0)
    assert lane_of(turns) is first


def test_with_every_upstream_held_nothing_is_leased() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 100, 0.0)
    turns.hold("first", 0.0)
    turns.hold("second", 0.0)
    assert turns.lane_for(ROUTE, 0.0) is None
    assert all(turns.wants(lane, 0.0) == [] for lane in turns.lanes.values())
    assert turns.home(ROUTE) == "first"


def test_a_lane_that_pauses_leases_nothing_and_after_a_minute_others_take_over() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 100, 0.0)
    first = lane_of(turns)
    first.pause_until(30.0)
    assert lane_of(turns) is first
    assert turns.wants(first, 0.0) == []
    first.pause_until(600.0)
    turns.assign(0.0)
    assert lane_of(turns).key == SECOND
    turns.hold("second", 0.0)
    assert lane_of(turns) is first, "a pause is better than nobody"


def test_an_answer_with_nothing_corrects_the_count() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 7, 0.0)
    lane = lane_of(turns)
    wants = turns.wants(lane, 0.0)
    assert turns.claimed(lane, wants, [], 0.0) == []
    assert turns.ready(Backlog(ROUTE, "a")) == 0
    assert turns.wants(lane, 0.0) == []


def test_a_claim_that_failed_may_be_made_again() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 7, 0.0)
    lane = lane_of(turns)
    wants = turns.wants(lane, 0.0)
    turns.claimed(lane, wants, None, 0.0)
    assert turns.wants(lane, 0.0) == wants


def test_jobs_of_a_lane_that_is_gone_are_given_back() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 7, 0.0)
    lane = lane_of(turns)
    wants = turns.wants(lane, 0.0)
    turns.configure({"second": 1}, 0.0)
    assert len(turns.claimed(lane, wants, [job(1, "a")], 0.0)) == 1


def test_stopped_means_that_nothing_starts() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 7, 0.0)
    lane = lane_of(turns)
    answer(turns, lane, turns.wants(lane, 0.0))
    assert len(turns.stop()) == 7
    assert turns.wants(lane, 0.0) == []
    assert turns.may_lease_at_once(Backlog(ROUTE, "b"), 1, 0.0) is None


def test_bodies_leased_ahead_have_a_budget() -> None:
    turns = Turns(window_octets=4 * INLINE_BODY_LIMIT)
    turns.configure({"first": 100}, 0.0)
    route = Route(("first",))
    for n in range(10):
        turns.found(Backlog(route, f"s{n}"), 100, 0.0)
    lane = lane_of(turns, route)
    wants = turns.wants(lane, 0.0)
    assert sum(max(w.octets, INLINE_BODY_LIMIT) for w in wants) <= 4 * INLINE_BODY_LIMIT


def test_a_stale_route_is_served_by_nobody_until_it_is_rerouted() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 7, 0.0)
    assert turns.mark_stale([ROUTE], 0.0)
    assert turns.lane_for(ROUTE, 0.0) is None
    assert turns.mark_stale([], 0.0)
    assert not turns.mark_stale([], 0.0)
    assert turns.wants(lane_of(turns), 0.0) != []


def test_one_claim_leaves_octets_of_the_window_for_other_lanes() -> None:
    turns = two()
    first, second = Route(("first",)), Route(("second",))
    turns.found(Backlog(first, "a"), 7, 0.0)
    turns.found(Backlog(second, "a"), 7, 0.0)
    assert turns.wants(lane_of(turns, first), 0.0) != []
    assert turns.wants(lane_of(turns, second), 0.0) != []


def test_who_found_no_room_in_the_window_is_named_until_asked_again() -> None:
    turns = Turns(window=5)
    turns.configure({"first": 10, "second": 10}, 0.0)
    first, second = Route(("first",)), Route(("second",))
    turns.found(Backlog(first, "a"), 5, 0.0)
    turns.found(Backlog(second, "a"), 5, 0.0)
    wants = turns.wants(lane_of(turns, first), 0.0)
    assert turns.wants(lane_of(turns, second), 0.0) == []
    answer(turns, lane_of(turns, first), wants)
    assert turns.next_short() is lane_of(turns, second)
    assert turns.wants(lane_of(turns, second), 0.0) == [], "the first holds all its leases"
    assert turns.is_short(lane_of(turns, second))
    turns.take(lane_of(turns, first))
    assert turns.next_short() is lane_of(turns, second)
    assert [w.messages for w in turns.wants(lane_of(turns, second), 0.0)] == [1]
    assert turns.next_short() is None


@settings(deadline=None, max_examples=40)
@given(
    backlog=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 300), min_size=1),
    connections=st.integers(1, 30),
)
def test_turns_are_fair_at_any_backlog(backlog: dict[str, int], connections: int) -> None:
    """Invariant: while two senders both wait, neither is served more than a lane's depth ahead of
    the other; everybody is served; and leases ahead stay bounded.
    """
    turns = Turns()
    turns.configure({"first": connections}, 0.0)
    route = Route(("first",))
    for sender, count in backlog.items():
        turns.found(Backlog(route, sender), count, 0.0)
    lane = lane_of(turns, route)
    served: Counter[str] = Counter()
    seq = 0
    while any(served[s] < count for s, count in backlog.items()):
        wants = turns.wants(lane, 0.0)
        if wants:
            seq = answer(turns, lane, wants, seq)
        assert lane.transactional.ahead <= 2 * lane.depth
        assert len(lane.startable), "somebody waits, and nothing is leased"
        served[turns.take(lane).message.identity.uid] += 1
        waiting = [s for s, count in backlog.items() if served[s] < count]
        if len(waiting) > 1:
            counts = [served[s] for s in waiting]
            assert max(counts) - min(counts) <= 2 * lane.depth
    assert served == Counter(backlog)
    assert turns.backlogs() == {}


def test_pieces_that_join_count_once() -> None:
    turns = two()
    lane = lane_of(turns)
    turns.start_later(lane, job(1, "a", Recipient(0, "a@b")))
    turns.start_later(lane, job(1, "a", Recipient(1, "b@b")))
    turns.take(lane)
    assert lane.transactional.ahead == 0
    assert turns.may_lease_at_once(Backlog(ROUTE, "x"), 1, 0.0) is lane


def test_pauses_and_releases_do_not_begin_the_turns_anew() -> None:
    turns = two()
    for n in range(200):
        turns.found(Backlog(ROUTE, f"sender {n}"), 10_000, 0.0)
    lane = lane_of(turns)
    served: set[str] = set()
    seq = 0
    for _ in range(200):
        wants = turns.wants(lane, 0.0)
        seq = answer(turns, lane, wants, seq)
        served |= {turns.take(lane).message.identity.uid for _ in range(10)}
        turns.assign(0.0)  # the upstream throttles after every ten
    assert len(served) == 200


def test_octets_count_as_long_as_their_jobs_wait() -> None:
    turns = Turns(window_octets=100)
    turns.configure({"first": 10, "second": 10}, 0.0)
    lane, fresh = lane_of(turns), Backlog(ROUTE, "fresh")
    turns.start_later(lane, job(1, body=b"x" * 60))
    assert turns.may_lease_at_once(fresh, 50, 0.0) is None
    turns.take(lane)
    assert turns.may_lease_at_once(fresh, 50, 0.0) is lane
    one, two = Recipient(0, "c@d.example"), Recipient(1, "e@d.example")
    turns.start_later(lane, job(2, "u", one, body=b"x" * 60))
    turns.start_later(lane, job(2, "u", two, body=b"x" * 60))  # joins it: one body
    assert turns.may_lease_at_once(fresh, 50, 0.0) is None
    assert len(turns.hold("first", 0.0)) == 1
    turns.release("first", 0.0)
    assert turns.may_lease_at_once(fresh, 100, 0.0) is lane


def test_pinned_mail_does_not_wait_behind_all_else_that_its_sender_has() -> None:
    turns = two()
    pinned = ROUTE.pinned_to("first")
    for n in range(100):
        turns.found(Backlog(ROUTE, f"sender {n}"), 10_000, 0.0)
    lane = lane_of(turns)
    turns.found(Backlog(pinned, "sender 7"), 1, 0.0)
    seq = 0
    leased = 0
    for _ in range(50):
        wants = turns.wants(lane, 0.0)
        leased += sum(want.route == pinned for want in wants)
        seq = answer(turns, lane, wants, seq)
        for _ in range(20):
            turns.take(lane)
        turns.assign(0.0)
    assert leased == 1


# --- one sender's mail that an upstream refuses


def test_a_sender_that_is_sent_away_takes_the_next_upstream_and_nobody_else_does() -> None:
    turns = two()
    turns.found(Backlog(ROUTE, "a"), 10, 0.0)
    turns.found(Backlog(ROUTE, "b"), 10, 0.0)
    assert turns.send_away("first", ["a"], 0.0) == []
    first, second = lane_of(turns), turns.lanes[SECOND]
    assert first.key == FIRST
    assert [want.sender for want in turns.wants(first, 0.0)] == ["b"]
    assert [(want.sender, want.upstream) for want in turns.wants(second, 0.0)] == [("a", "second")]
    assert turns.serving(Backlog(ROUTE, "a"), 0.0) is second
    assert turns.serving(Backlog(ROUTE, "b"), 0.0) is first


def test_without_another_upstream_it_waits_until_it_is_taken_back() -> None:
    turns = Turns()
    turns.configure({"first": 10}, 0.0)
    turns.found(Backlog(ROUTE, "a"), 10, 0.0)
    lane = lane_of(turns)
    turns.send_away("first", ["a"], 0.0)
    assert turns.wants(lane, 0.0) == []
    assert turns.serving(Backlog(ROUTE, "a"), 0.0) is None
    assert turns.may_lease_at_once(Backlog(ROUTE, "a"), 1, 0.0) is None
    turns.found(Backlog(ROUTE, "a"), 5, 0.0)
    assert turns.wants(lane, 0.0) == []
    turns.take_back("first", ["a"], 0.0)
    assert [want.sender for want in turns.wants(lane, 0.0)] == ["a"]


def test_what_was_leased_ahead_for_it_is_given_back() -> None:
    turns = two()
    for sender in ("a", "b"):
        turns.found(Backlog(ROUTE, sender), 2, 0.0)
    lane = lane_of(turns)
    wants = turns.wants(lane, 0.0)
    answer(turns, lane, wants)
    late = job(99, "a", route=ROUTE, upstream="first")
    back = turns.send_away("first", ["a"], 0.0)
    assert [each.message.identity.uid for each in back] == ["a", "a"]
    assert len(lane.startable) == 2
    assert turns.claimed(lane, [], [late], 0.0) == [late], "it was being claimed meanwhile"
    assert [turns.take(lane).message.identity.uid for _ in range(2)] == ["b", "b"]
    assert turns._ahead == turns._octets == 0

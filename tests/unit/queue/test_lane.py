"""A lane serves its senders by turns, joins pieces of a message, and slows down when told."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.fair_queue import MAX_RECIPIENTS, FairQueue
from mailrelay_gateway.queue.item import Recipient
from mailrelay_gateway.queue.lane import (
    LONGEST_PAUSE,
    Lane,
)
from tests.unit.queue.build import job


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_senders_take_turns(uids: list[str]) -> None:
    """Invariant: while a sender waits, no other is served twice; each sender's own order is
    kept.
    """
    queue = FairQueue()
    for seq, uid in enumerate(uids):
        queue.push(job(seq, uid))
    served = [queue.pop() for _ in uids]
    assert not len(queue)
    for uid in set(uids):
        own = [j.seq for j in served if j.message.identity.uid == uid]
        assert own == sorted(own)
        turns = [n for n, j in enumerate(served) if j.message.identity.uid == uid]
        for earlier, later in pairwise(turns):
            between = [j.message.identity.uid for j in served[earlier + 1 : later]]
            assert len(between) == len(set(between))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=30))
def test_octets_and_length_are_those_of_what_waits(pushes: list[tuple[str, bool]]) -> None:
    """Invariant: `octets` and `len` are sums over what is in the queue, whatever came and went."""
    queue = FairQueue()
    for seq, (uid, first) in enumerate(pushes):
        queue.push(job(seq, uid, body=b"x" * seq), first=first)
    left = sum(range(len(pushes)))
    for expected in range(len(pushes) - 1, -1, -1):
        left -= queue.pop().message.size
        assert (len(queue), queue.octets) == (expected, left)
    assert queue.senders == 0


def test_a_second_piece_of_a_message_joins_the_first() -> None:
    queue = FairQueue()
    queue.push(job(1, "u", Recipient(0, "a@b")))
    queue.push(job(2, "u", Recipient(0, "a@b")))
    queue.push(job(1, "u", Recipient(3, "d@b"), Recipient(4, "e@b")))
    assert [r.index for r in queue.pop().recipients] == [0, 3, 4]
    assert [r.index for r in queue.pop().recipients] == [0]
    assert not len(queue)


def test_what_was_perhaps_delivered_never_joins_what_was_not() -> None:
    queue = FairQueue()
    queue.push(job(1, "u", Recipient(0, "a@b")))
    queue.push(job(1, "u", Recipient(1, "b@b", pinned=True)))
    assert len(queue) == 2


def test_a_transaction_has_its_bound() -> None:
    queue = FairQueue()
    many = [Recipient(n, f"{n}@b") for n in range(MAX_RECIPIENTS)]
    queue.push(job(1, "u", *many))
    queue.push(job(1, "u", Recipient(MAX_RECIPIENTS, "last@b")))
    assert [len(queue.pop().recipients) for _ in range(2)] == [MAX_RECIPIENTS, 1]


def test_what_goes_first_has_the_turn() -> None:
    queue = FairQueue()
    for seq, uid in enumerate("aab"):
        queue.push(job(seq, uid))
    queue.push(job(9, "b"), first=True, turn=True)
    assert [queue.pop().seq for _ in range(4)] == [9, 0, 2, 1]


def test_throttling_slows_a_lane_ever_more_and_success_restores_it() -> None:
    lane = Lane(LaneKey("u"), depth=4)
    now = 100.0
    pauses = []
    for _ in range(12):
        lane.slow(now, 0.5)
        pauses.append(lane.not_before - now)
        lane.slow(now, 0.5)  # of the same moment: another connection heard it too
        assert lane.not_before - now == pauses[-1]
        now = lane.not_before
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE
    for _ in range(12):
        lane.succeeded()
    assert lane.pause == 0.0

"""A lane shares its upstream fairly, bounds its window, and keeps the time for which it was
held.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.envelope import Identity, Message
from mailrelay_gateway.queue.item import Job, Recipient
from mailrelay_gateway.queue.lane import WINDOW, FairQueue, Lane


def job(seq: int, uid: str = "u") -> Job:
    identity = Identity(namespace="n", name=uid, uid=uid, username=uid)
    message = Message(
        queue_id=str(seq),
        sender="a@b",
        recipients=("c@d",),
        identity=identity,
        listener="l",
        received_at=0.0,
        size=1,
        body=b"x",
        eight_bit=False,
    )
    return Job(seq, message, (Recipient(0, "c@d"),), body_loaded=True)


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


def test_clear_takes_all() -> None:
    queue = FairQueue()
    for seq in range(5):
        queue.push(job(seq, "ab"[seq % 2]))
    assert sorted(j.seq for j in queue.clear()) == [0, 1, 2, 3, 4]
    assert len(queue) == 0


def test_the_window_is_bounded() -> None:
    lane = Lane("u", depth=4)
    for seq in range(WINDOW):
        assert not lane.full
        lane.ready.push(job(seq))
    assert lane.full


def test_a_held_lane_leases_nothing_and_counts_the_seconds() -> None:
    lane = Lane("u", depth=4)
    assert lane.room_to_lease == 4
    lane.hold(10.0)
    lane.hold(11.0)
    assert lane.room_to_lease == 0
    assert lane.held_seconds(15.0) == 5.0
    lane.release(20.0)
    assert lane.held_seconds(99.0) == 10.0


def test_what_is_left_on_disk_is_found_from_the_first_of_it() -> None:
    lane = Lane("u", depth=4)
    lane.leave_on_disk(7, 2)
    lane.leave_on_disk(9, 0)
    assert lane.on_disk_from == (7, 1)
    lane.leave_on_disk(3, 0)
    assert lane.on_disk_from == (3, -1)

"""Clients take turns, and so do the usernames of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.intake.login_queue import LoginQueue


def drain(queue: LoginQueue[str]) -> list[str]:
    taken = []
    while (job := queue.take()) is not None:
        taken.append(job)
    return taken


def test_one_client_with_many_does_not_hold_up_another() -> None:
    queue: LoginQueue[str] = LoginQueue()
    for n in range(5):
        assert queue.add("guesser", "owner", f"guess {n}") is None
    queue.add("home", "owner", "login")
    assert drain(queue) == ["guess 0", "login", "guess 1", "guess 2", "guess 3", "guess 4"]


def test_the_usernames_of_a_client_take_turns() -> None:
    queue: LoginQueue[str] = LoginQueue()
    for n in range(3):
        queue.add("node", "guessed", f"guess {n}")
    queue.add("node", "other", "login")
    assert drain(queue) == ["guess 0", "login", "guess 1", "guess 2"]


def test_whoever_has_most_gives_way() -> None:
    queue: LoginQueue[str] = LoginQueue(limit=4)
    for n in range(4):
        queue.add("guesser", "owner", f"guess {n}")
    assert queue.add("guesser", "owner", "guess 4") == "guess 4"
    assert queue.add("home", "owner", "login") == "guess 3"
    assert len(queue) == 4
    assert drain(queue) == ["guess 0", "login", "guess 1", "guess 2"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")) | st.none(), max_size=60),
    st.integers(1, 6),
)
def test_each_job_is_taken_or_displaced_once(
    steps: list[tuple[str, str] | None], limit: int
) -> None:
    """Invariant: never more than the limit wait, and no job is lost or taken twice."""
    queue: LoginQueue[int] = LoginQueue(limit)
    added, out = [], []
    for number, step in enumerate(steps):
        if step is None:
            job = queue.take()
        else:
            added.append(number)
            job = queue.add(*step, number)
        if job is not None:
            out.append(job)
        assert len(queue) <= limit
    while (job := queue.take()) is not None:
        out.append(job)
    assert sorted(out) == added
    assert len(queue) == 0

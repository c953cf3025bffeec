"""Whose turn it is among the jobs of both classes."""

from __future__ import annotations

from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.startable import WEIGHT, Startable
from tests.unit.queue.build import ROUTE, job

BULK = ROUTE.of_class(bulk=True)


def filled(transactional: int, bulk: int) -> Startable:
    startable = Startable()
    for n in range(bulk):
        startable.push(job(1000 + n, "newsletter", route=BULK))
    for n in range(transactional):
        startable.push(job(n, "shop"))
    return startable


def classes(jobs: list[Job]) -> str:
    return "".join("b" if one.route.bulk else "t" for one in jobs)


def test_one_turn_in_ten_is_bulks_while_both_wait() -> None:
    startable = filled(100, 100)
    served = classes([startable.pop() for _ in range(50)])
    assert served == ("t" * WEIGHT + "b") * 5


def test_either_class_has_all_turns_where_the_other_has_nothing() -> None:
    startable = filled(0, 5)
    assert classes([startable.pop() for _ in range(5)]) == "bbbbb"
    startable = filled(20, 0)
    assert classes([startable.pop() for _ in range(20)]) == "t" * 20


def test_bulk_that_comes_late_has_its_turn_soon() -> None:
    startable = filled(100, 0)
    for _ in range(50):
        startable.pop()
    startable.push(job(2000, "newsletter", route=BULK))
    assert "b" in classes([startable.pop() for _ in range(WEIGHT + 1)])


def test_the_head_is_what_comes_next() -> None:
    startable = filled(30, 30)
    while len(startable):
        head = startable.head()
        assert startable.pop() is head


def test_it_counts_what_it_holds() -> None:
    startable = filled(3, 4)
    assert (len(startable), startable.octets) == (7, 7)
    startable.pop()
    assert (len(startable), startable.octets) == (6, 6)
    assert len(startable.take_out("newsletter")) == 4
    assert (len(startable), startable.octets) == (2, 2)
    assert len(startable.clear()) == 2
    assert (len(startable), startable.octets) == (0, 0)

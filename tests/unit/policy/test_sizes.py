"""A message goes only to upstreams that are large enough, and is refused at once if none is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.documents import RelayDocument, Sandbox
from mailrelay_gateway.message.envelope import ANONYMOUS
from mailrelay_gateway.message.route import Route, Sketch
from mailrelay_gateway.policy.routing import Routing
from mailrelay_gateway.policy.sizes import ROOM, bounds, largest
from tests.models import made

MIB = 1024 * 1024
LIMIT = 25 * MIB  # of `made.limits`


def relay(*sizes: int | None) -> RelayDocument:
    """A relay with upstreams a, b, c, ... of these sizes."""
    return made.relay_document(
        relay=made.relay_reference(namespace="mail", name="relay"),
        hostname="relay.example.com",
        upstreams=tuple(
            made.upstream(name=chr(ord("a") + n), settings=Sandbox(keep=1), max_size=size)
            for n, size in enumerate(sizes)
        ),
    )


def routing(*sizes: int | None) -> Routing:
    return Routing(relay(*sizes))


def sketch(size: int) -> Sketch:
    return Sketch(
        queue_id="Q",
        sender="a@example.com",
        address="b@example.net",
        identity=ANONYMOUS,
        size=size,
    )


def chosen(size: int, *sizes: int | None) -> str:
    return "".join(routing(*sizes).choose(sketch(size)).upstreams)


@pytest.mark.parametrize(
    ("sizes", "most"),
    [
        ((), LIMIT),
        ((None,), LIMIT),
        ((10 * MIB,), 10 * MIB - ROOM),
        ((40 * MIB,), LIMIT),
        ((LIMIT + ROOM - 1,), LIMIT - 1),
        ((5 * MIB, 10 * MIB), 10 * MIB - ROOM),
        ((5 * MIB, None), LIMIT),
        ((1,), 1),
    ],
)
def test_the_largest_message_is_the_smaller_of_our_and_the_largest_upstreams_size(
    sizes: tuple[int | None, ...], most: int
) -> None:
    assert largest(relay(*sizes)) == most


def test_an_upstream_that_is_too_small_is_skipped() -> None:
    assert chosen(5 * MIB, 5 * MIB, None) == "ab"
    assert chosen(5 * MIB + 1, 5 * MIB, None) == "b"
    assert chosen(6 * MIB, 5 * MIB, 10 * MIB, None) == "bc"


def test_what_is_too_large_for_all_goes_to_the_largest() -> None:
    """Accepted before the sizes were changed: the upstream says what it thinks of it."""
    assert chosen(20 * MIB, 5 * MIB, 10 * MIB) == "b"
    assert chosen(20 * MIB, 10 * MIB, 10 * MIB) == "ab"


def test_one_upstream_or_large_ones_cost_no_choice() -> None:
    assert routing(5 * MIB).only == Route(("a",))
    assert routing(40 * MIB, None).only == Route(("a", "b"))
    assert routing(5 * MIB, None).only is None
    assert bounds(relay(40 * MIB, None)) == {}


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 30 * MIB)), min_size=1, max_size=4),
    st.integers(0, 30 * MIB),
)
def test_no_route_is_chosen_that_is_not_announced(sizes: list[int | None], size: int) -> None:
    """Invariant: a choice is one of `all`, or what waits would be moved for ever."""
    found = routing(*sizes)
    route = found.choose(sketch(size))
    assert route in found.all
    if size <= largest(relay(*sizes)):
        taken = dict(zip("abcd", sizes, strict=False))
        assert all((taken[name] or size) >= size for name in route.upstreams)

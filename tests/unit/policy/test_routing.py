"""Which upstreams a recipient's mail takes: the first route that matches decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract import documents
from mailrelay_gateway.message.envelope import POSTMASTER, Identity
from mailrelay_gateway.message.route import Route, Sketch
from mailrelay_gateway.policy.routing import UNROUTED, DomainMatcher, Routing, routes_differ
from tests.models import made


def upstream(name: str) -> documents.Upstream:
    return made.upstream(name=name, settings=documents.Sandbox(keep=1))


def relay(*routes: documents.Route, upstreams: str = "a b c d") -> documents.RelayDocument:
    return made.relay_document(
        relay=made.relay_reference(namespace="mail", name="out"),
        hostname="relay.example.com",
        upstreams=tuple(upstream(name) for name in upstreams.split()),
        routes=routes,
    )


def route(upstreams: str, **match: tuple[str, ...] | None) -> documents.Route:
    """A route to `name` or `name:weight`."""
    nothing = {"sender_domains": (), "recipient_domains": (), "namespaces": None}
    legs = [leg.partition(":") for leg in upstreams.split()]
    return documents.Route(
        name="some",
        match=documents.RouteMatch(**nothing | match),
        upstreams=tuple(
            documents.RouteUpstream(name=name, weight=int(weight) if weight else None)
            for name, _, weight in legs
        ),
    )


def identity(namespace: str = "team-a") -> Identity:
    return Identity(namespace=namespace, name="app", uid="u", username="u")


def sketch(
    sender: str = "me@example.com",
    recipient: str = "you@example.org",
    *,
    of: Identity | None = None,
    queue_id: str = "Q",
) -> Sketch:
    return Sketch(queue_id=queue_id, sender=sender, address=recipient, identity=of or identity())


def test_without_routes_all_mail_takes_all_upstreams_in_order() -> None:
    routing = Routing(relay())
    assert routing.only == Route(("a", "b", "c", "d")) == routing.choose(sketch())
    assert routing.takes_all


@pytest.mark.parametrize(
    ("pattern", "domain", "matches"),
    [
        ("example.com", "example.com", True),
        ("example.com", "EXAMPLE.Com", True),
        ("Example.COM", "example.com", True),
        ("example.com", "sub.example.com", False),
        ("example.com", "notexample.com", False),
        ("*.example.com", "sub.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "notexample.com", False),
        ("example.com", "example.com.", False),
        ("b\u00fccher.example", "xn--bcher-kva.example", True),
        ("stra\u00dfe.example", "xn--strae-oqa.example", True),
        ("stra\u00dfe.example", "strasse.example", False),
        ("b\u00fccher.example", "B\u00dcCHER.example", True),
        ("example.com", "", False),
        ("example.com", "[192.0.2.1]", False),
    ],
)
def test_domains(pattern: str, domain: str, matches: bool) -> None:
    assert DomainMatcher([pattern]).matches(domain) is matches


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (sketch(), "b"),
        (sketch("me@other.example"), ""),
        (sketch("me@other.example", "you@partner.example"), "c"),
        (sketch("me@example.com", "you@partner.example"), "a"),
        (sketch("me@example.com", of=identity("gold")), "d"),
        # the null sender: a notice goes the way of the mail that it is about
        (sketch("", "me@example.com"), "b"),
        (sketch("", "you@example.org"), ""),
        # a sender whose local part looks like a domain
        (sketch('"x@example.com"@other.example'), ""),
    ],
)
def test_the_first_route_of_which_all_matches_decides(asked: Sketch, expected: str) -> None:
    routing = Routing(
        relay(
            route("d", namespaces=("gold",)),
            route("a", sender_domains=("example.com",), recipient_domains=("partner.example",)),
            route("b", sender_domains=("example.com", "*.example.com")),
            route("c", recipient_domains=("partner.example",)),
        )
    )
    chosen = routing.choose(asked)
    assert chosen == (Route((expected,)) if expected else UNROUTED)
    assert chosen in routing.all
    matched = routing.takes(asked.sender, asked.address, asked.identity.namespace)
    assert matched is bool(expected)
    assert routing.only is None and not routing.takes_all


def test_a_notice_takes_a_route_of_some_namespace_rather_than_none() -> None:
    only_gold = Routing(relay(route("a", namespaces=("gold",))))
    assert only_gold.choose(sketch("", "me@example.com", of=POSTMASTER)) == Route(("a",))
    assert only_gold.choose(sketch()) == UNROUTED
    rest = Routing(relay(route("a", namespaces=("gold",)), route("b")))
    assert rest.choose(sketch("", "me@example.com", of=POSTMASTER)) == Route(("b",))


def test_mail_of_a_route_none_of_whose_upstreams_is_configured_waits_for_them() -> None:
    routing = Routing(relay(route("gone", sender_domains=("example.com",)), route("a gone b")))
    assert routing.choose(sketch()) == Route(())
    assert routing.takes("me@example.com", "you@example.org", "team-a")
    assert routing.choose(sketch("me@other.example")) == Route(("a", "b"))
    assert routing.all == {Route(()), Route(("a", "b"))}


def test_neighbours_with_weights_share_the_mail_and_fail_over_to_each_other() -> None:
    routing = Routing(relay(route("a b:3 c:1 d")))
    chosen = Counter(routing.choose(sketch(queue_id=f"Q{n}")) for n in range(4000))
    b_first, c_first = Route(("a", "b", "c", "d")), Route(("a", "c", "b", "d"))
    assert set(chosen) == {b_first, c_first} == routing.all
    assert 0.72 < chosen[b_first] / 4000 < 0.78


@given(
    legs=st.lists(
        st.tuples(st.sampled_from("abcd"), st.none() | st.integers(1, 1000)),
        min_size=1,
        max_size=4,
        unique_by=lambda leg: leg[0],
    ),
    queue_id=st.text(max_size=30),
)
def test_a_message_always_has_the_same_route_with_every_upstream_once(
    legs: list[tuple[str, int | None]], queue_id: str
) -> None:
    text = " ".join(name if weight is None else f"{name}:{weight}" for name, weight in legs)
    chosen = [
        Routing(relay(route(text))).choose(sketch(recipient=recipient, queue_id=queue_id))
        for recipient in ("x@example.org", "y@example.net")
    ]
    assert chosen[0] == chosen[1]
    assert sorted(chosen[0].upstreams) == sorted(name for name, _ in legs)
    assert chosen[0] in Routing(relay(route(text))).all


def test_what_waits_is_looked_at_again_only_when_its_route_may_have_changed() -> None:
    plain, routed = relay(), relay(route("a"))
    assert not routes_differ(plain, plain)
    assert not routes_differ(None, plain), "its stale routes are found without"
    assert routes_differ(None, routed) and routes_differ(plain, routed)
    assert routes_differ(routed, relay(route("a"), upstreams="a b"))
    assert not routes_differ(routed, relay(route("a")))
    small = routed.upstreams[0].model_copy(update={"max_size": 1000})
    assert routes_differ(
        routed, routed.model_copy(update={"upstreams": (small, *routed.upstreams[1:])})
    )


def test_an_upstream_of_a_route_that_is_too_small_is_left_out() -> None:
    found = relay(route("b a", sender_domains=("example.com",)))
    small = found.upstreams[1].model_copy(update={"max_size": 1000})
    found = found.model_copy(
        update={"upstreams": (found.upstreams[0], small, *found.upstreams[2:])}
    )
    routing = Routing(found)
    asked = sketch()
    assert routing.choose(replace(asked, size=1000)) == Route(("b", "a"))
    assert routing.choose(replace(asked, size=1001)) == Route(("a",))
    assert routing.all == {Route(("b", "a")), Route(("a",)), UNROUTED}

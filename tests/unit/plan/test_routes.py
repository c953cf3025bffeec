"""Routes of a MailRelay in the gateway's documents, and the namespaces that they select."""

from __future__ import annotations

from typing import Any

from mailrelay_gateway.contract import documents, files
from mailrelay_operator.plan.survey import namespaces_needed
from tests.unit.plan.build import applied, facts, plan, relay, sender

BOXES: list[dict[str, Any]] = [{"name": name, "sandbox": {}} for name in ("a", "b")]
GOLD = {"matchLabels": {"tier": "gold"}}


def test_routes_reach_the_gateway_with_the_namespaces_that_they_select() -> None:
    routes = [
        {
            "name": "news",
            "match": {
                "senderDomains": ["news.example.com"],
                "recipientDomains": ["*.example.net"],
            },
            "upstreams": [{"name": "b", "weight": 3}, {"name": "a", "weight": 1}],
        },
        {"name": "gold", "match": {"namespaceSelector": GOLD}, "upstreams": [{"name": "b"}]},
        {"name": "rest", "upstreams": [{"name": "a"}]},
    ]
    labels = {"z": {"tier": "gold"}, "b": {"tier": "gold", "x": "y"}, "none": {}}
    made = plan(facts(relay(upstreams=BOXES, routes=routes), namespaces=labels))
    news, gold, rest = files.load(made.relay.files).relay.routes
    assert news == documents.Route(
        name="news",
        match=documents.RouteMatch(
            sender_domains=("news.example.com",),
            recipient_domains=("*.example.net",),
            namespaces=None,
        ),
        upstreams=(
            documents.RouteUpstream(name="b", weight=3),
            documents.RouteUpstream(name="a", weight=1),
        ),
    )
    assert gold.match.namespaces == ("b", "z")
    assert rest.match == documents.RouteMatch(
        sender_domains=(), recipient_domains=(), namespaces=None
    )


def test_labels_are_read_of_the_namespaces_by_which_mail_is_or_was_routed() -> None:
    def needed(senders: tuple[str, ...], match: dict[str, Any], **more: Any) -> frozenset[str]:
        routes = [{"name": "one", "match": match, "upstreams": [{"name": "a"}]}]
        return namespaces_needed(
            facts(
                relay(upstreams=BOXES, routes=routes),
                *(sender(namespace=one) for one in senders),
                **more,
            )
        )

    by_labels = {"namespaceSelector": GOLD}
    assert needed(("team", "mail"), {"senderDomains": ["example.com"]}) == frozenset()
    assert needed(("team", "mail"), by_labels) == {"team", "mail"}
    # The MailSender of `old` is gone, and its mail may be queued.
    routes = [{"name": "one", "match": by_labels, "upstreams": [{"name": "a"}]}]
    before = plan(
        facts(relay(upstreams=BOXES, routes=routes), namespaces={"old": {"tier": "gold"}})
    )
    assert needed(("team",), by_labels, objects=applied(before, "Secret")) == {"team", "old"}


def test_a_route_keeps_an_upstream_whose_login_is_missing_and_its_mail_waits() -> None:
    lame = {
        "name": "lame",
        "smarthost": {
            "hosts": [{"host": "smtp.example.net", "port": 587}],
            "auth": {"basic": {"secretRef": {"name": "nowhere"}}},
        },
    }
    routes = [{"name": "one", "upstreams": [{"name": "lame"}]}]
    made = plan(facts(relay(upstreams=[*BOXES, lame], routes=routes)))
    found = files.load(made.relay.files).relay
    assert [one.name for one in found.upstreams] == ["a", "b"]
    assert [one.name for one in found.routes[0].upstreams] == ["lame"]

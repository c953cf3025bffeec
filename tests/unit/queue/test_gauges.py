"""What a count of the queue shows: recipients and messages by upstream and state."""

from __future__ import annotations

from mailrelay_gateway.message.route import Route
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.gauges import show
from mailrelay_gateway.queue.store import Counts, Figures

A, B = Route(upstreams=("a", "b")), Route(upstreams=("b",))
LOST = Route(upstreams=())


class Homes:
    """Each route's first upstream; `b` is held."""

    def home(self, route: Route) -> str:
        return route.upstreams[0] if route.upstreams else ""

    def is_held(self, upstream: str) -> bool:
        return upstream == "b"

    def is_lost(self, route: Route) -> bool:
        return route is LOST


def test_recipients_and_messages_are_told_apart() -> None:
    metrics = Metrics()
    metrics.upstreams = ["a", "b"]
    counts = Counts(
        by_route={
            (A, False): Figures(recipients=50, messages=2, octets=20, oldest=900.0),
            (A, True): Figures(recipients=7, messages=1, octets=10, oldest=950.0),
            (B, False): Figures(recipients=3, messages=3, octets=30, oldest=990.0),
            (LOST, True): Figures(recipients=5, messages=1, octets=10, oldest=990.0),
        },
        ready={},
        messages=6,
        oldest=900.0,
        next_at=None,
        dead_letters=0,
        free_octets=0,
        seconds=0.0,
    )
    status = show(counts, Homes(), metrics, now=1000.0)

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"mailrelay_queue_{name}", labels)

    assert [
        (shown("recipients", upstream=up, state=state), shown("messages", upstream=up, state=state))
        for up, state in (("a", "ready"), ("a", "deferred"), ("a", "held"), ("b", "held"))
    ] == [(50, 2), (7, 1), (0, 0), (3, 3)]
    assert shown("messages", upstream="b", state="ready") == 0
    assert shown("oldest_seconds", upstream="a") == 100
    assert (shown("bytes", upstream="a"), shown("bytes", upstream="b")) == (30, 30)
    assert shown("unrouted_recipients") == 5 == status.unrouted
    assert (status.messages, status.oldest) == (6, "1970-01-01T00:15:00Z")

"""What a pool reports about its upstream: in `/status`, in the log, to metrics and queue. Nothing
is decided here.
"""

from __future__ import annotations

import structlog

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import SenderFault, UpstreamStatus
from mailrelay_gateway.couriers.replies.verdict import Failure
from mailrelay_gateway.couriers.smtp.health import Health
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings

log = structlog.get_logger()

#: Characters of a failure that are shown: the replies of several hosts may be long, and they end up
#: in a condition.
MAX_DETAIL = 1000


def status(name: str, health: Health, faults: tuple[SenderFault, ...]) -> UpstreamStatus:
    """The upstream's status."""
    return UpstreamStatus(
        name=name,
        state=health.state,
        reason=health.reason or "",
        message=health.detail[:MAX_DETAIL],
        since=rfc3339(health.since),
        senders=faults,
    )


def capped(name: str, connections: int, failure: Failure) -> None:
    """It wants no more connections than these."""
    log.warning(
        "upstream_connections_capped",
        upstream=name,
        connection_count=connections,
        reason=failure.reason.value,
        detail=failure.detail[:MAX_DETAIL],
    )


def held(name: str, failure: Failure, seconds: float, around: Surroundings) -> None:
    """It accepts no mail; the next probe comes after so many seconds."""
    detail = failure.detail[:MAX_DETAIL]
    log.warning(
        "upstream_failed",
        upstream=name,
        stage=failure.stage,
        reason=failure.reason.value,
        detail=detail,
        probe_in_seconds=round(seconds, 1),
    )
    around.metrics.upstream_up(name).set(0)
    around.work.hold(name, failure.reason, detail)


def up(name: str, around: Surroundings) -> None:
    """It accepts mail."""
    log.info("upstream_up", upstream=name)
    around.metrics.upstream_up(name).set(1)
    around.work.release(name)

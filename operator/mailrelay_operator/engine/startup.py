"""Before anything is watched: wait until the API server serves our kinds.

The framework looks at what is served once, when it starts; a kind that comes a second later, as in
a fresh install, would never be watched.
"""

from __future__ import annotations

import asyncio

import structlog

from mailrelay_operator.cluster.port import (
    MAIL_DOMAIN,
    MAIL_RELAY,
    MAIL_SENDER,
    Cluster,
    Unavailable,
)

log = structlog.get_logger()

OURS = (MAIL_RELAY, MAIL_SENDER, MAIL_DOMAIN)
#: Seconds between two looks.
PAUSE = 1.0
#: Looks before it is an error: a minute, as long as the chart's startup probe waits.
LOOKS = 60


async def wait_for_kinds(cluster: Cluster, *, pause: float = PAUSE, looks: int = LOOKS) -> None:
    """Return once all our kinds are served. Unavailable: they are not, after so many looks."""
    lacking: list[str] = []
    detail = ""
    for _ in range(looks):
        try:
            served = await cluster.served(MAIL_RELAY.api_version)
        except Unavailable as error:
            lacking, detail = [kind.plural for kind in OURS], f" ({error.detail})"
        else:
            lacking, detail = [kind.plural for kind in OURS if kind.plural not in served], ""
        if not lacking:
            return
        log.info("waiting-for-crds", lacking=lacking)
        await asyncio.sleep(pause)
    raise Unavailable(
        f"waiting for {', '.join(lacking)} of {MAIL_RELAY.api_version}",
        f"the API server does not serve them: apply the CRDs, which the chart brings{detail}",
    )

"""Posts Events outside the rounds, since nothing depends on them.

Excess Events are dropped: the conditions have the same information.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from datetime import datetime

import structlog

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_operator.cluster.port import EVENT, Cluster, ClusterError
from mailrelay_operator.plan.actions import Announce
from mailrelay_operator.plan.objects import Manifest

log = structlog.get_logger()

REPORTING_CONTROLLER = "mailrelay.dev/operator"
#: Events to be posted: enough for five thousand tenants becoming ready at once.
MAX_WAITING = 5000


class Announcer:
    """Posts Events one by one."""

    def __init__(self, *, cluster: Cluster, now: Callable[[], datetime]) -> None:
        """Post to `cluster`."""
        self._cluster = cluster
        self._now = now
        self._waiting: asyncio.Queue[Manifest] = asyncio.Queue(MAX_WAITING)

    def announce(self, event: Announce) -> None:
        """Log it and queue it for posting."""
        log.info(
            "kubernetes_event", object=str(event.owner), reason=event.reason, detail=event.note
        )
        try:
            self._waiting.put_nowait(event_object(event, now=self._now()))
        except asyncio.QueueFull:
            error = f"{MAX_WAITING} Events are waiting to be posted"
            log.warning("event_not_posted", object=str(event.owner), error=error)

    async def run(self) -> None:
        """Post until cancelled."""
        while True:
            await self._post(await self._waiting.get())

    async def drain(self) -> None:
        """Post all queued Events."""
        while not self._waiting.empty():
            await self._post(self._waiting.get_nowait())

    async def _post(self, event: Manifest) -> None:
        try:
            await self._cluster.create(event)
        except ClusterError as error:
            regarding = event["regarding"]
            target = f"{regarding['kind']} {regarding['namespace']}/{regarding['name']}"
            log.warning("event_not_posted", object=target, error=str(error))


def event_object(event: Announce, *, now: datetime) -> Manifest:
    """An Event as `kubectl describe` shows it."""
    regarding = event.regarding
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {
            # A fixed name, not generateName: repeating the POST does not create a second Event.
            "name": f"{str(regarding['name'])[:200]}.{secrets.token_hex(8)}",
            "namespace": str(regarding["namespace"]),
        },
        "eventTime": rfc3339(now, "microseconds"),
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "action": "Reconcile",
        "note": event.note,
        "regarding": regarding,
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": socket.gethostname()[:128],
    }

"""Maintains one ConfigMap with the CAs of all relays, with which Prometheus verifies the admin
ports: a PodMonitor can refer to only one object, in its own namespace.

The chart creates and deletes the ConfigMap; this maintains its one key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mailrelay_operator.cluster.port import CONFIG_MAP, Cluster, ClusterError
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.ringing import relay_key
from mailrelay_operator.engine.store import Store
from mailrelay_operator.plan.objects import name_of, namespace_of

log = structlog.get_logger()

KEY = "ca.crt"
#: Seconds between two checks; without a change there is no request to the API server.
INTERVAL = 5.0
#: Octets; a ConfigMap holds 1 MiB, a CA is 700 octets, and a relay has up to three.
MAX_BUNDLE = 900 * 1024


class Authorities:
    """Writes the ConfigMap `namespace`/`name` when the known CAs have changed."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        memory: Memory,
        namespace: str,
        name: str,
        ready: Callable[[], bool],
    ) -> None:
        """Take relays from `store` and their CAs from `memory`; `ready` returns when the first
        lists are complete."""
        self._cluster = cluster
        self._store = store
        self._memory = memory
        self._namespace = namespace
        self._name = name
        self._ready = ready
        self._written: str | None = None

    async def run(self) -> None:
        """Check periodically until cancelled."""
        while True:
            try:
                await self.once()
            except ClusterError as error:
                log.warning("ca_bundle_not_written", error=str(error))
            await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        """Write the bundle if it has changed; raises ClusterError."""
        bundle = self._bundle() if self._ready() else None
        if bundle is None or bundle == self._written:
            return
        found = await self._cluster.get(CONFIG_MAP, self._namespace, self._name)
        if (found.get("data") or {}).get(KEY) != bundle:
            patch = {"data": {KEY: bundle}}
            await self._cluster.merge(CONFIG_MAP, self._namespace, self._name, patch)
            log.info("ca_bundle_written", size=len(bundle))
        self._written = bundle

    def _bundle(self) -> str | None:
        """All CAs, each once, below the name of its relay; None until every relay has been
        reconciled since the start, so that none is dropped temporarily."""
        parts: list[str] = []
        for relay in sorted(self._store.all("MailRelay"), key=_name):
            part = self._memory.relays.get(relay_key(*_name(relay)))
            if part is None or part.trust is None:
                return None
            if part.trust:
                parts.append(f"# {'/'.join(_name(relay))}\n{part.trust.strip()}\n")
        bundle = ""
        for text in parts:
            if len(bundle) + len(text) > MAX_BUNDLE:
                log.error("ca_bundle_truncated", relay_count=len(parts))
                break
            bundle += text
        return bundle


def _name(relay: dict[str, object]) -> tuple[str, str]:
    return namespace_of(relay), name_of(relay)

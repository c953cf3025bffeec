"""Keeps one ConfigMap with the CAs of all relays, by which Prometheus verifies the admin ports: a
PodMonitor can name one object only, and that in its own namespace.

The chart makes the ConfigMap, and takes it away; here its one key is kept.
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
#: Seconds between two looks; nothing is asked of the API server while nothing changed.
INTERVAL = 5.0
#: Octets; a ConfigMap holds 1 MiB, a CA is 700 octets.
MAX_BUNDLE = 900 * 1024


class Authorities:
    """Writes the ConfigMap `namespace`/`name` when the CAs that are known have changed."""

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
        """Know of relays by `store`, of their CAs by `memory`; `ready` says that the first lists
        are complete."""
        self._cluster = cluster
        self._store = store
        self._memory = memory
        self._namespace = namespace
        self._name = name
        self._ready = ready
        self._written: str | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.once()
            except ClusterError as error:
                log.warning("ca_bundle_not_written", error=str(error))
            await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        """Write the bundle if it is another one; ClusterError."""
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
        """All CAs, each once, below the name of its relay; None while a relay has not been looked
        at since the start, so that none is dropped for a moment."""
        parts: list[str] = []
        for relay in sorted(self._store.all("MailRelay"), key=_name):
            part = self._memory.relays.get(relay_key(*_name(relay)))
            if part is None or part.authority is None:
                return None
            if part.authority:
                parts.append(f"# {'/'.join(_name(relay))}\n{part.authority.strip()}\n")
        bundle = ""
        for text in parts:
            if len(bundle) + len(text) > MAX_BUNDLE:
                log.error("ca_bundle_truncated", relay_count=len(parts))
                break
            bundle += text
        return bundle


def _name(relay: dict[str, object]) -> tuple[str, str]:
    return namespace_of(relay), name_of(relay)

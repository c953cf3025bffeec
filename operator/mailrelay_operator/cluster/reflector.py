"""List, then watch: keeps a copy of one kind of object up to date while the process runs.

After any error it resumes: from where the watch was, or with a new list if that is too old. A list
replaces the whole copy, so that objects deleted while the watch was down disappear too. The API
server may be unavailable for any length of time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from mailrelay_operator.cluster.port import Cluster, ClusterError, Expired, Kind
from mailrelay_operator.plan.objects import Manifest

log = structlog.get_logger()

#: Seconds between two retries: the first pause, and the longest after doubling. A revocation made
#: during an outage of the API server must take effect soon after it.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0


class Sink(Protocol):
    """The consumer of a reflector's objects."""

    def replaced(self, kind: str, namespace: str | None, objects: Iterable[Manifest]) -> None:
        """A whole list."""
        ...

    def changed(self, kind: str, found: Manifest) -> None:
        """The current state of one object."""
        ...

    def removed(self, kind: str, found: Manifest) -> None:
        """One object was deleted."""
        ...


class Reflector:
    """Reflects one kind in one namespace, or (None) in all. `run` ends only by cancellation."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        sink: Sink,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str],
        rng: random.Random,
        beat: Callable[[str], None],
        trim: Callable[[Manifest], Manifest] | None = None,
    ) -> None:
        """Read from `cluster` into `sink`; `beat` is called on each iteration as a sign of life.
        While a list is read, only what `trim` returns of each object is kept: a tenant may write
        256 KiB of annotations."""
        self._cluster = cluster
        self._sink = sink
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._rng = rng
        self._beat = beat
        self._trim = trim
        self._name = f"{kind.plural} in {namespace or 'all namespaces'}"

    async def run(self) -> None:
        """List and watch until cancelled."""
        version = ""  # empty: list first
        pause = FIRST_PAUSE
        while True:
            self._beat(self._name)
            try:
                if not version:
                    version = await self._list()
                async for event in self._cluster.watch(
                    self._kind, self._namespace, version=version, labels=self._labels
                ):
                    self._beat(self._name)
                    pause = FIRST_PAUSE
                    version = event.version
                    if event.found is not None and event.gone:
                        self._sink.removed(self._kind.name, event.found)
                    elif event.found is not None:
                        self._sink.changed(self._kind.name, event.found)
            except Expired:
                version = ""
            except ClusterError as error:
                log.warning("watch_broken", watch=self._name, error=str(error))
                await asyncio.sleep(pause * self._rng.uniform(0.75, 1.0))
                pause = min(LONGEST_PAUSE, pause * 2)
            else:
                # The API server ends watches regularly; one that it repeatedly ends at once must
                # not become a busy loop.
                await asyncio.sleep(FIRST_PAUSE * self._rng.uniform(0.2, 0.4))

    async def _list(self) -> str:
        objects, version = await self._cluster.list(
            self._kind, self._namespace, labels=self._labels, trim=self._trim
        )
        self._sink.replaced(self._kind.name, self._namespace, objects)
        return version

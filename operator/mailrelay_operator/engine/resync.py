"""What makes the backlog complete, whatever watches miss: a list of everything every few
minutes, and a look at all that relays refer to every few seconds. Both only say whom to look
at, never what is true.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Callable, Mapping

import structlog

from mailrelay_operator.cluster.port import (
    KINDS,
    MAIL_DOMAIN,
    MAIL_RELAY,
    Cluster,
    ClusterError,
    Forbidden,
    Kind,
    NotFound,
)
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reading import Scope, list_senders, relay_of_sender
from mailrelay_operator.engine.workers import Doorbell
from mailrelay_operator.plan.facts import Absence, ObjectKey
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of

log = structlog.get_logger()

#: Keys of a resync are spread over this many seconds, so that a start with a thousand relays is no
#: thundering herd.
SPREAD = 5.0
#: Seconds after which a resync that failed is tried again.
RETRY = 10.0
#: Seconds between two looks at a thing that is referred to, and the requests a second that all
#: looks together may be.
REREAD_EVERY = 5.0
REREAD_BUDGET = 20.0
#: How many intervals without a resync mean that something is stuck.
STALE_AFTER = 3


class Resync:
    """Lists all our objects now and then and puts each on the backlog."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        scope: Scope,
        doorbell: Doorbell,
        memory: Memory,
        metrics: OperatorMetrics,
        interval: float,
        rng: random.Random,
        unix_time: Callable[[], float],
    ) -> None:
        """List every `interval` seconds, give or take a tenth."""
        self._cluster = cluster
        self._scope = scope
        self._doorbell = doorbell
        self._memory = memory
        self._metrics = metrics
        self._interval = interval
        self._rng = rng
        self._unix_time = unix_time
        self._last = doorbell.monotonic()

    def is_stale(self) -> bool:
        """Whether the last complete list is too long ago: the process is stuck and should be
        replaced."""
        return self._doorbell.monotonic() - self._last > STALE_AFTER * self._interval

    async def run(self) -> None:
        """Resync until cancelled."""
        while True:
            try:
                await self.resync()
            except ClusterError as error:
                log.warning("resync-failed", detail=str(error))
                await asyncio.sleep(RETRY)
            else:
                await asyncio.sleep(self._interval * self._rng.uniform(0.9, 1.1))

    async def resync(self) -> None:
        """One list of everything; nothing is done from a list that is not whole."""
        relays = await self._list(MAIL_RELAY)
        senders = await list_senders(self._cluster, self._scope)
        domains = await self._list(MAIL_DOMAIN)
        keys = {relay_key(namespace_of(one), name_of(one)) for one in relays}
        keys |= {relay_key(*relay_of_sender(one)) for one in senders}
        keys |= {
            Key(kind="MailDomain", namespace=namespace_of(one), name=name_of(one))
            for one in domains
        }
        keys.update(self._memory.relays)  # those that are gone: their round forgets them
        for key in sorted(keys):
            self._doorbell.add(key, delay=self._rng.uniform(0.0, SPREAD))
        self._metrics.count_conditions(count_conditions((*relays, *senders, *domains)))
        self._metrics.resynced(self._unix_time())
        self._last = self._doorbell.monotonic()

    async def _list(self, kind: Kind) -> tuple[Manifest, ...]:
        if self._scope.namespaces is None:
            return await self._cluster.list(kind, None)
        found: list[Manifest] = []
        for namespace in self._scope.namespaces:
            found += await self._cluster.list(kind, namespace)
        return tuple(found)


class Reread:
    """Looks at the versions of all that relays refer to, one after the other, within the budget."""

    def __init__(
        self, *, cluster: Cluster, doorbell: Doorbell, memory: Memory, metrics: OperatorMetrics
    ) -> None:
        """Look by `cluster` at what `memory` says."""
        self._cluster = cluster
        self._doorbell = doorbell
        self._memory = memory
        self._metrics = metrics

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began = self._doorbell.monotonic()
            todo = [(key, one) for key, part in self._memory.relays.items() for one in part.watched]
            interval = max(REREAD_EVERY, len(todo) / REREAD_BUDGET)
            self._metrics.reread_interval(interval)
            for number, (key, one) in enumerate(todo, start=1):
                await self.look(key, one)
                due = began + interval * number / len(todo)
                await asyncio.sleep(max(0.0, due - self._doorbell.monotonic()))
            if not todo:
                await asyncio.sleep(interval)

    async def look(self, key: Key, one: ObjectKey) -> None:
        """Put the relay on the backlog if this object is not as its last round saw it."""
        try:
            seen = await self._cluster.version(KINDS[one.kind], one.namespace, one.name)
        except NotFound:
            seen = Absence.MISSING.value
        except Forbidden:
            seen = Absence.FORBIDDEN.value
        except ClusterError:
            return  # no answer is no change
        part = self._memory.relays.get(key)
        if part is None or part.watched.get(one, seen) == seen:
            return
        part.watched[one] = seen  # once per change: the round that follows reads it all anew
        self._doorbell.add(key)


def relay_key(namespace: str, name: str) -> Key:
    """The key of a relay, be there such a MailRelay or only MailSenders that name it."""
    return Key(kind="MailRelay", namespace=namespace, name=name)


def count_conditions(objects: tuple[Manifest, ...]) -> Mapping[tuple[str, str, str], int]:
    """How many objects have which condition: (kind, type, status) -> number."""
    tally: Tally[tuple[str, str, str]] = Tally()
    for one in objects:
        status = one.get("status") or {}
        for condition in status.get("conditions") or ():
            key = (str(one["kind"]), str(condition.get("type")), str(condition.get("status")))
            tally[key] += 1
    return tally

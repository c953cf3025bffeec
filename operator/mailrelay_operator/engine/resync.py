"""Catches up on missed events: a resync of everything every few minutes, and a check of the
versions of objects read by name every few seconds. Both only add keys to the backlog.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping

from mailrelay_operator.cluster.port import KINDS, Cluster, ClusterError, Forbidden, NotFound
from mailrelay_operator.engine.backlog import Key, Urgency
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.ringing import relay_key, sender_key
from mailrelay_operator.engine.store import Store, is_before
from mailrelay_operator.engine.workers import Doorbell
from mailrelay_operator.plan.facts import Absence, ObjectKey
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of

#: Seconds between two checks of a referenced object, and the budget of requests per second for all
#: such checks together.
REREAD_EVERY = 5.0
REREAD_BUDGET = 20.0
#: The same for objects that only the operator writes (some 25 per relay): a user may delete them.
OWN_EVERY = 20.0
OWN_BUDGET = 10.0


class Resync:
    """Puts every object on the backlog periodically, from the store, without a LIST."""

    def __init__(
        self,
        *,
        store: Store,
        doorbell: Doorbell,
        memory: Memory,
        metrics: OperatorMetrics,
        interval: float,
        rng: random.Random,
        unix_time: Callable[[], float],
    ) -> None:
        """Resync every `interval` seconds, with a tenth of jitter."""
        self._store = store
        self._doorbell = doorbell
        self._memory = memory
        self._metrics = metrics
        self._interval = interval
        self._rng = rng
        self._unix_time = unix_time

    async def run(self) -> None:
        """Resync until cancelled."""
        while True:
            if self._store.is_complete:
                self.resync()
                await asyncio.sleep(self._interval * self._rng.uniform(0.9, 1.1))
            else:
                await asyncio.sleep(1.0)

    def resync(self) -> None:
        """Put everything on the backlog, spread over half an interval to avoid a thundering
        herd."""
        found = {
            kind: tuple(self._store.all(kind)) for kind in ("MailRelay", "MailSender", "MailDomain")
        }
        keys = {relay_key(namespace_of(one), name_of(one)) for one in found["MailRelay"]}
        keys |= {relay_key(*name) for name in self._store.relays_named()}
        keys |= {sender_key(one) for one in found["MailSender"]}
        keys |= {
            Key(kind="MailDomain", namespace=namespace_of(one), name=name_of(one))
            for one in found["MailDomain"]
        }
        keys |= {*self._memory.relays, *self._memory.senders}  # deleted ones are forgotten then
        for key in sorted(keys):
            self._doorbell.add(key, delay=self._rng.uniform(0.0, self._interval / 2))
        every = (one for objects in found.values() for one in objects)
        self._metrics.count_conditions(count_conditions(every))
        self._metrics.resynced(self._unix_time())


class Reread:
    """Checks the versions of objects read by name, one by one, within the budget."""

    def __init__(
        self, *, cluster: Cluster, doorbell: Doorbell, contents: Contents, metrics: OperatorMetrics
    ) -> None:
        """Check the objects in `contents` through `cluster`."""
        self._cluster = cluster
        self._doorbell = doorbell
        self._contents = contents
        self._metrics = metrics

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking(0, REREAD_EVERY, REREAD_BUDGET))
            group.create_task(self._keep_looking(1, OWN_EVERY, OWN_BUDGET))

    async def _keep_looking(self, which: int, every: float, budget: float) -> None:
        while True:
            began = self._doorbell.monotonic()
            todo = self._contents.watched()[which]
            interval = max(every, len(todo) / budget)
            if which == 0:
                self._metrics.reread_interval(interval)
            for number, key in enumerate(todo, start=1):
                await self.look(key)
                due = began + interval * number / len(todo)
                await asyncio.sleep(max(0.0, due - self._doorbell.monotonic()))
            if not todo:
                await asyncio.sleep(REREAD_EVERY)

    async def look(self, key: ObjectKey) -> None:
        """Drop the cached object and ring its readers if its version has changed."""
        known = self._contents.version(key)
        if known is None:
            return  # not cached: the next reader reads it
        try:
            seen = await self._cluster.version(KINDS[key.kind], key.namespace, key.name)
        except NotFound:
            seen = Absence.MISSING.value
        except Forbidden:
            seen = Absence.FORBIDDEN.value
        except ClusterError:
            return  # no answer counts as unchanged
        if self._contents.version(key) != known or seen == known or is_before(seen, known):
            return  # written or read meanwhile, unchanged, or from a stale cache
        self._contents.forget(key)
        for reader in self._contents.readers(key):
            self._doorbell.add(reader, urgency=Urgency.REVOKING)


def count_conditions(objects: Iterable[Manifest]) -> Mapping[tuple[str, str, str], int]:
    """The number of objects by condition: (kind, type, status) -> number."""
    tally: Tally[tuple[str, str, str]] = Tally()
    for one in objects:
        status = one.get("status") or {}
        for condition in status.get("conditions") or ():
            key = (str(one["kind"]), str(condition.get("type")), str(condition.get("status")))
            tally[key] += 1
    return tally

"""Receives objects from the reflectors: puts them into the store and rings the keys concerned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mailrelay_operator.api.names import (
    APP_NAME,
    COMPONENT_GATEWAY,
    LABEL_COMPONENT,
    LABEL_NAME,
)
from mailrelay_operator.cluster.port import (
    MAIL_DOMAIN,
    MAIL_RELAY,
    MAIL_SENDER,
    NAMESPACE,
    POD,
    STATEFUL_SET,
    Kind,
)
from mailrelay_operator.engine.ringing import concerned
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.store import Change, Store
from mailrelay_operator.engine.workers import Doorbell
from mailrelay_operator.plan.objects import Manifest

#: The label selector of the watches on pods and StatefulSets.
OURS = {LABEL_NAME: APP_NAME, LABEL_COMPONENT: COMPONENT_GATEWAY}


def watched_kinds(scope: Scope) -> tuple[tuple[Kind, str | None, dict[str, str]], ...]:
    """Every watched list: kind, namespace (None: all), labels. A Role cannot permit watching
    Namespaces, so with a limited scope they are read by name."""
    kinds: list[tuple[Kind, dict[str, str]]] = [
        (MAIL_RELAY, {}),
        (MAIL_SENDER, {}),
        (MAIL_DOMAIN, {}),
        (STATEFUL_SET, OURS),
        (POD, OURS),
    ]
    if scope.namespaces is None:
        return tuple((kind, None, labels) for kind, labels in (*kinds, (NAMESPACE, {})))
    return tuple(
        (kind, namespace, labels) for namespace in scope.namespaces for kind, labels in kinds
    )


class Watching:
    """The sink of all reflectors."""

    def __init__(self, *, store: Store, doorbell: Doorbell, scope: Scope) -> None:
        """Fill `store`, ring `doorbell`."""
        self._store = store
        self._doorbell = doorbell
        self._complete = asyncio.Event()
        for kind, namespace, _ in watched_kinds(scope):
            store.expect(kind.name, namespace)

    async def complete(self) -> None:
        """Return once every list has been received: nothing may be planned before."""
        await self._complete.wait()

    def replaced(self, kind: str, namespace: str | None, objects: Iterable[Manifest]) -> None:
        """A whole list."""
        self._ring(self._store.replace(kind, namespace, objects))
        if self._store.is_complete:
            self._complete.set()

    def changed(self, kind: str, found: Manifest) -> None:
        """The current state of one object."""
        self._ring([self._store.put(kind, found)])

    def removed(self, kind: str, found: Manifest) -> None:
        """One object was deleted."""
        self._ring([self._store.remove(kind, found)])

    def _ring(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for key, urgency in concerned(change, self._store):
                self._doorbell.add(key, urgency=urgency)

"""A cluster in memory with an operator in it, and time that passes only when a test says so."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.reading import Reader, Scope
from mailrelay_operator.engine.reconcile import Clock, Overtaken, Reconciler
from mailrelay_operator.engine.resync import relay_key
from mailrelay_operator.plan.facts import Place
from tests.integration.operator.fake_cluster import FakeCluster, FakeKubelet

Manifest = dict[str, Any]

#: More rounds than anything here needs; whoever needs them all never settles.
MAX_ROUNDS = 12


def relay(name: str = "out", namespace: str = "mail", **spec: Any) -> Manifest:
    """A MailRelay; `spec` replaces fields of a small one that can be accepted."""
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailRelay",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hostname": "relay.example.com",
            "upstreams": [{"name": "box", "sandbox": {}}],
        }
        | spec,
    }


def sender(name: str = "app", namespace: str = "mail", **spec: Any) -> Manifest:
    """A MailSender of the relay `mail/out`."""
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailSender",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "relayRef": {"name": "out", "namespace": "mail"},
            "from": ["*@example.com"],
            "credentials": {"secretName": f"{name}-smtp"},
        }
        | spec,
    }


def secret(name: str, namespace: str = "mail", *, type_: str, **data: str) -> Manifest:
    """A Secret with plain data, as a person would write it with `stringData`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": type_,
        "stringData": data,
    }


def brought(name: str, namespace: str = "mail", **data: str) -> Manifest:
    """A login that its owner lends to mailrelay: the label says so."""
    login = secret(name, namespace, type_="kubernetes.io/basic-auth", **data)
    login["metadata"]["labels"] = {"mailrelay.dev/credentials": "true"}
    return login


class World:
    """The cluster, its kubelet, and an operator that does rounds when it is told to."""

    def __init__(self, scope: Scope | None = None) -> None:
        self.cluster = FakeCluster()
        self.kubelet = FakeKubelet(self.cluster)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.seconds = 0.0
        self.scope = scope or Scope()
        self.memory = Memory()
        self.restart()

    def restart(self) -> None:
        """The operator dies and comes back: all that it had in memory is gone."""
        self.memory = Memory()
        self.reconciler = Reconciler(
            cluster=self.cluster,
            reader=Reader(
                cluster=self.cluster, gateways=self.kubelet, place=Place(), scope=self.scope
            ),
            memory=self.memory,
            clock=Clock(monotonic=lambda: self.seconds, now=lambda: self.now),
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass; nothing happens meanwhile."""
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    async def round(self, key: Key | None = None) -> float | None:
        """One round of the operator, then one look of the kubelet. Returns the pause that it
        asks for."""
        try:
            pause = await self.reconciler.reconcile(key or relay_key("mail", "out"))
        except Overtaken:
            pause = 1.0
        self.kubelet.run()
        return pause

    async def settle(self, key: Key | None = None) -> int:
        """Rounds until the operator asks for a minute's rest or more; how many it took."""
        for count in range(1, MAX_ROUNDS + 1):
            pause = await self.round(key)
            if pause is None or pause >= 60.0:
                return count
            self.pass_time(pause)
        raise AssertionError(f"not settled after {MAX_ROUNDS} rounds")

    def edit(self, kind: str, name: str, namespace: str = "mail", **spec: Any) -> None:
        """A person changes fields of a spec."""
        found = copy.deepcopy(self.cluster.find(kind, namespace, name))
        assert found is not None
        found["spec"] |= spec
        self.cluster.put(found)

    def condition(
        self, type_: str, kind: str = "MailRelay", name: str = "out", namespace: str = "mail"
    ) -> tuple[str, str]:
        """Status and reason of a condition, the relay's unless said otherwise."""
        return self.cluster.condition(kind, namespace, name, type_)

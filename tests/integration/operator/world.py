"""A cluster in memory with an operator in it, and time that passes only when a test says so."""

from __future__ import annotations

import copy
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from mailrelay_gateway.contract.documents import Sha256Verifier
from mailrelay_operator.engine.acting import Actor
from mailrelay_operator.engine.announcing import Announcer
from mailrelay_operator.engine.backlog import REST, Key, Urgency
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reading import Reader
from mailrelay_operator.engine.reconcile import Clock, Reconciler, Unfinished
from mailrelay_operator.engine.resync import Reread
from mailrelay_operator.engine.ringing import relay_key
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.store import Store
from mailrelay_operator.engine.verifiers import Verifiers
from mailrelay_operator.engine.watching import Watching, watched_kinds
from mailrelay_operator.engine.workers import Doorbell
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.objects import labels_of
from tests.integration.operator.fake_cluster import FakeCluster
from tests.integration.operator.fake_kubelet import FakeKubelet
from tests.models.manifests import mail_relay, mail_sender

Manifest = dict[str, Any]

#: More rounds than anything here needs; whoever needs them all never settles.
MAX_ROUNDS = 40
#: Rounds of single keys at one moment; a key that rings itself for ever needs more.
MAX_KEYS = 5000


def relay(name: str = "out", namespace: str = "mail", **spec: Any) -> Manifest:
    """A MailRelay; `spec` replaces fields of a small one that can be accepted."""
    return mail_relay(name, namespace, **spec)


def sender(name: str = "app", namespace: str = "mail", **spec: Any) -> Manifest:
    """A MailSender of the relay `mail/out`."""
    return mail_sender(name, namespace, **spec)


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


SELECTOR = {"from": "Selector", "selector": {"matchLabels": {"mail": "allowed"}}}
TENANTS = [{"name": "teams", "namespaces": SELECTOR, "addresses": ["*@example.com"]}]


def namespace(name: str, **labels: str) -> Manifest:
    """A Namespace with these labels."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def sha256(password: str) -> str:
    """As the gateway knows a minted password."""
    return hashlib.sha256(password.encode()).hexdigest()


class World:
    """The cluster, its kubelet, and an operator that does rounds when it is told to. What happens
    in the cluster is seen at once, as by a watch."""

    def __init__(self, scope: Scope | None = None) -> None:
        self.cluster = FakeCluster()
        self.kubelet = FakeKubelet(self.cluster)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.seconds = 0.0
        self.scope = scope or Scope()
        self.unfinished: list[tuple[Key, str]] = []
        self.rounds: list[Key] = []
        self.verifiers: Verifiers | None = None
        self.restart()

    def restart(self) -> None:
        """The operator dies and comes back: all that it had in memory is gone."""
        self.memory, self.store = Memory(), Store()
        self.contents = Contents(self.cluster, self.scope)
        self.doorbell = Doorbell(lambda: self.seconds)
        self.watching = Watching(store=self.store, doorbell=self.doorbell, scope=self.scope)
        clock = Clock(monotonic=lambda: self.seconds, now=lambda: self.now)
        if self.verifiers is not None:
            self.verifiers.close()
        self.verifiers = Verifiers(lambda key: self.doorbell.add(key, urgency=Urgency.AWAITED))
        self.announcer = Announcer(cluster=self.cluster, now=clock.now)
        self.reread = Reread(
            cluster=self.cluster,
            doorbell=self.doorbell,
            contents=self.contents,
            metrics=OperatorMetrics(),
        )
        self.reconciler = Reconciler(
            store=self.store,
            contents=self.contents,
            reader=Reader(
                store=self.store,
                contents=self.contents,
                gateways=self.kubelet,
                memory=self.memory,
                place=Place(),
                scope=self.scope,
            ),
            actor=Actor(
                cluster=self.cluster,
                contents=self.contents,
                store=self.store,
                announcer=self.announcer,
            ),
            verifiers=self.verifiers,
            memory=self.memory,
            clock=clock,
            ring=lambda key, urgency: self.doorbell.add(key, urgency=urgency),
        )
        self.list()
        self.cluster.watchers[:] = [self._see]

    def list(self) -> None:
        """Every list anew, as after a watch that was lost."""
        for kind, namespace, labels in watched_kinds(self.scope):
            self.watching.replaced(
                kind.name,
                namespace,
                [
                    copy.deepcopy(one)
                    for (of, where, _), one in self.cluster.objects.items()
                    if of == kind.name
                    and namespace in (None, where)
                    and labels.items() <= labels_of(one).items()
                ],
            )

    def _see(self, found: Manifest, gone: bool) -> None:
        where = found["metadata"].get("namespace", "")
        for kind, namespace, labels in watched_kinds(self.scope):
            if kind.name != found["kind"] or namespace not in (None, where):
                continue
            if labels.items() <= labels_of(found).items():
                see = self.watching.removed if gone else self.watching.changed
                see(kind.name, found)

    def pass_time(self, seconds: float) -> None:
        """Let time pass; nothing happens meanwhile."""
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    async def look(self) -> None:
        """One look at the versions of everything that is read by name."""
        for keys in self.contents.watched():
            for key in keys:
                await self.reread.look(key)

    async def round(self, key: Key | None = None) -> None:
        """The relay's round and whatever is due with it, then one look of the kubelet."""
        self.doorbell.add(key or relay_key("mail", "out"))
        await self.look()
        await self.work()
        self.kubelet.run()

    async def work(self) -> None:
        """Everything that is due, and what comes of it within the rest between two rounds."""
        for _ in range(MAX_KEYS):
            taken = self._take()
            if taken is None:
                due = self._next_due()
                if due is None or due - self.seconds > 2 * REST:
                    return
                self.pass_time(max(0.0, due - self.seconds))
                continue
            await self._do(taken)
        raise AssertionError(f"always something to do: {self.rounds[-20:]}")

    def _take(self) -> Key | None:
        now = self.seconds
        return self.doorbell.relays.take(now=now) or self.doorbell.senders.take(now=now)

    def _next_due(self) -> float | None:
        dues = (self.doorbell.relays.next_due(), self.doorbell.senders.next_due())
        return min((due for due in dues if due is not None), default=None)

    async def _do(self, key: Key) -> None:
        backlog = self.doorbell.of(key)
        self.rounds.append(key)
        try:
            pause = await self.reconciler.reconcile(key)
        except Unfinished as error:
            self.unfinished.append((key, str(error)))
            backlog.failed(key, now=self.seconds, jitter=0.0)
        else:
            again = None if pause is None else self.seconds + pause
            backlog.done(key, look_again_at=again, now=self.seconds)
        assert self.verifiers is not None
        await self.verifiers.idle()
        await self.announcer.drain()

    async def settle(self) -> int:
        """Rounds until nothing is due within a minute; how many it took. What fails and is tried
        again counts as settled."""
        await self.look()
        for count in range(1, MAX_ROUNDS + 1):
            await self.work()
            self.kubelet.run()
            due = self._next_due()
            if due is None or due - self.seconds > 2 * REST:
                pause = 60.0 if due is None else due - self.seconds
                if pause >= 20.0:
                    return count
                self.pass_time(pause)
        raise AssertionError(f"not settled after {MAX_ROUNDS} rounds: {self.rounds[-20:]}")

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


def usernames(world: World, pod: str = "out-0") -> set[str]:
    """Who can log in."""
    return {one.username for one in world.kubelet.loaded(pod).senders}


def hashes(world: World, pod: str = "out-0") -> list[str]:
    """The passwords of the one sender that are valid, the newest first."""
    (entry,) = world.kubelet.loaded(pod).senders
    return [one.hash for one in entry.verifiers if isinstance(one, Sha256Verifier)]

"""A small kubelet for the cluster in memory, and the port's Gateways.

It makes pods of StatefulSets, which load their Secrets at start and whenever something about the
pod changes, as the real one does at once, and answers for their gateways.
"""

from __future__ import annotations

import base64
import copy
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_gateway.contract.files import FILE_NAME, GatewayConfig, load
from mailrelay_gateway.contract.status import GatewayStatus, UpstreamStatus
from mailrelay_operator.cluster.port import Forbidden, Unavailable
from mailrelay_operator.plan.certificates import carries, parse_chain
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.objects import Manifest, name_of
from tests.integration.operator.fake_cluster import CREATED, FakeCluster
from tests.models import made


class FakeKubelet:
    """Runs the pods of all StatefulSets and answers for their gateways (the port's Gateways).

    `upstreams` and `queue` are what every gateway reports; a pod in `silent` does not answer;
    `slow` pods do not load.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.upstreams: tuple[UpstreamStatus, ...] = ()
        self.queue = made.queue_status()
        self.silent: set[str] = set()
        self.slow: set[str] = set()
        self.problem = ""
        self.asked: list[str] = []  # the addresses that were sent a token
        self._loaded: dict[str, GatewayConfig] = {}
        self._seen: dict[str, object] = {}
        self._addresses: dict[str, str] = {}

    def run(self) -> None:
        """One look at everything: start pods, let the changed ones load, update the
        StatefulSets' status."""
        for (kind, namespace, name), one in list(self.cluster.objects.items()):
            if kind == "StatefulSet" and "template" in one["spec"]:
                self._run_stateful_set(namespace, name, one)

    async def status(self, address: str, token: str, *, authority: str, name: str) -> GatewayStatus:
        self.asked.append(address)
        pod = next(one for one, known in self._addresses.items() if known == address)
        loaded = self._loaded.get(pod)
        if pod in self.silent or loaded is None:
            raise Unavailable(f"asking {pod}", "no answer within 2 s")
        if not _is_verified(loaded.relay.admin_certificate, authority, name):
            raise Unavailable(f"asking {pod}", "certificate verify failed")
        if loaded.relay.admin_token_sha256 != token_hash(token):
            raise Forbidden(f"asking {pod}", "it does not accept the token yet")
        return made.gateway_status(
            version="0",
            digest=loaded.digest,
            files=loaded.file_digests,
            started_at=CREATED,
            upstreams=self.upstreams,
            queue=self.queue,
            problem=self.problem,
        )

    def _run_stateful_set(self, namespace: str, name: str, one: Manifest) -> None:
        replicas = one["spec"]["replicas"]
        for ordinal in range(replicas):
            pod = f"{name}-{ordinal}"
            there = self.cluster.find("Pod", namespace, pod)
            if there is None:
                self._start(namespace, pod, one)
            elif not there["metadata"]["ownerReferences"]:
                there["metadata"]["ownerReferences"] = [_owner(one)]  # as its controller adopts
                self.cluster.store(there)
            self._load(namespace, name, pod)
        pods = [self.cluster.find("Pod", namespace, f"{name}-{n}") for n in range(replicas)]
        status = {
            "replicas": replicas,
            "readyReplicas": sum(_is_ready(pod) for pod in pods if pod),
            "updatedReplicas": replicas,
            "observedGeneration": one["metadata"]["generation"],
            "currentRevision": "a",
            "updateRevision": "a",
        }
        if one.get("status") != status:
            one["status"] = status
            self.cluster.store(one)

    def _start(self, namespace: str, pod: str, owner: Manifest) -> None:
        address = f"10.0.0.{len(self._addresses) + 1}"
        self._addresses[pod] = address
        self._loaded.pop(pod, None)
        self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod,
                    "namespace": namespace,
                    "labels": owner["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [_owner(owner)],
                },
                "spec": {},
                "status": {"podIP": address, "conditions": []},
            }
        )

    def _load(self, namespace: str, relay: str, pod: str) -> None:
        found = self.cluster.find("Pod", namespace, pod)
        assert found is not None
        seen = copy.deepcopy(found["metadata"].get("annotations"))
        if pod in self.slow or (pod in self._loaded and self._seen.get(pod) == seen):
            return
        files: dict[str, bytes] = {}
        for source in self._sources(namespace, relay):
            secret = self.cluster.find("Secret", namespace, source["secret"]["name"])
            item = source["secret"]["items"][0]
            if secret is not None and FILE_NAME in (secret.get("data") or {}):
                folder = item["path"].partition("/")[0]
                files[folder] = base64.b64decode(secret["data"][FILE_NAME])
        if "relay" in files:
            self._loaded[pod] = load(files)
            self._seen[pod] = seen
            if not _is_ready(found):
                found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
                self.cluster.store(found)

    def _sources(self, namespace: str, relay: str) -> list[dict[str, Any]]:
        found = self.cluster.find("StatefulSet", namespace, relay)
        assert found is not None
        volumes = found["spec"]["template"]["spec"]["volumes"]
        sources = next(one for one in volumes if one["name"] == "config")["projected"]["sources"]
        return list(sources)

    def loaded(self, pod: str) -> GatewayConfig:
        """The configuration that a gateway runs."""
        return self._loaded[pod]


def _owner(stateful_set: Manifest) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": name_of(stateful_set),
        "uid": stateful_set["metadata"]["uid"],
        "controller": True,
    }


def _is_ready(pod: Manifest) -> bool:
    return any(one["type"] == "Ready" for one in pod["status"]["conditions"])


def _is_verified(certificate: Certificate | None, authority: str, name: str) -> bool:
    """Whether TLS would come about: by one of these CAs, and for this name."""
    if certificate is None or not carries(certificate.chain, name):
        return False
    leaf = parse_chain(certificate.chain)[0]
    return any(_is_issued_by(leaf, one) for one in parse_chain(authority))


def _is_issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, InvalidSignature):
        return False
    return True

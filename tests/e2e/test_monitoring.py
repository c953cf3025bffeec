"""Prometheus verifies the gateways: by the ConfigMap that the operator keeps, and the name that
every gateway's certificate carries."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import OPERATOR_NAMESPACE, RELAY_NAMESPACE, Release
from tests.e2e.kubectl import Kubectl, Manifest, eventually

CONFIG_MAP = "mailrelay-relay-cas"
#: prometheus-operator's kind, as far as the chart needs it to be there.
POD_MONITORS: Manifest = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "podmonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "PodMonitor", "plural": "podmonitors"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def monitored(kubectl: Kubectl, release: Release, mail_relay: Manifest) -> Iterator[Manifest]:
    """The release with a PodMonitor for the gateways, which is returned."""
    kubectl.apply(POD_MONITORS)
    kubectl.wait("crd", "podmonitors.monitoring.coreos.com", "", "Established", 30)
    release.upgrade(podMonitor={"enabled": True})
    found = kubectl.get(
        "podmonitors.monitoring.coreos.com", "mailrelay-gateways", OPERATOR_NAMESPACE
    )
    assert found is not None
    yield found
    release.upgrade()
    kubectl.delete("crd", "podmonitors.monitoring.coreos.com")


def test_the_metrics_of_a_gateway_are_scraped_over_verified_tls(
    kubectl: Kubectl, monitored: Manifest
) -> None:
    (endpoint,) = monitored["spec"]["podMetricsEndpoints"]
    given = endpoint["tlsConfig"]["ca"]["configMap"]
    assert (endpoint["scheme"], given["name"]) == ("https", CONFIG_MAP)

    def bundle() -> str:
        found = kubectl.get("configmap", CONFIG_MAP, OPERATOR_NAMESPACE) or {}
        text: str = (found.get("data") or {}).get(given["key"], "")
        return text if f"# {RELAY_NAMESPACE}/relay\n" in text else ""

    trusted = eventually(bundle, deadline=60, what="the ConfigMap holds the relay's CA")
    pod = kubectl.get("pod", "relay-0", RELAY_NAMESPACE)
    assert pod is not None
    context = ssl.create_default_context(cadata=trusted)
    connection = http.client.HTTPConnection(pod["status"]["podIP"], 8025, timeout=10)
    plain = socket.create_connection((pod["status"]["podIP"], 8025), timeout=10)
    # Verified: the chain and the name.
    connection.sock = context.wrap_socket(
        plain, server_hostname=endpoint["tlsConfig"]["serverName"]
    )
    try:
        connection.request("GET", endpoint["path"])
        answer = connection.getresponse()
        assert answer.status == 200
        assert b"mailrelay_received_messages_total" in answer.read()
    finally:
        connection.close()

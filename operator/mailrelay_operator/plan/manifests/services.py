"""The two Services of a relay: one for clients, a headless one for the StatefulSet. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.names import (
    LABEL_ACCEPTING,
    PORT_NAME_ADMIN,
    pods_service_name,
    selector_labels,
    service_name,
)
from mailrelay_operator.plan.manifests.metadata import child
from mailrelay_operator.plan.objects import Manifest, name_of

#: RFC 6335 section 5.1, as Kubernetes validates the names of ports.
LONGEST_PORT_NAME = 15


def client_service(relay: Manifest, spec: MailRelaySpec) -> Manifest:
    """The Service through which clients reach the pods that accept mail."""
    name = name_of(relay)
    ports = [
        {
            "name": port_name(listener),
            "port": listener.port,
            "targetPort": listener.pod_port,
            "protocol": "TCP",
            # Server-first protocols hang in a service mesh that waits for the client (Linkerd,
            # Istio).
            "appProtocol": "tcp",
        }
        for listener in by_port(spec.listeners)
    ]
    service = spec.service
    body: Manifest = {
        "type": service.type,
        "selector": selector_labels(name) | {LABEL_ACCEPTING: "true"},
        "ports": ports,
    }
    if service.load_balancer_class is not None:
        body["loadBalancerClass"] = service.load_balancer_class
    if service.source_ranges:
        body["loadBalancerSourceRanges"] = list(service.source_ranges)
    if service.external_traffic_policy is not None:
        body["externalTrafficPolicy"] = service.external_traffic_policy
    if service.ip_families:
        single = len(service.ip_families) == 1
        body["ipFamilies"] = list(service.ip_families)
        body["ipFamilyPolicy"] = "SingleStack" if single else "RequireDualStack"
    return child(
        relay,
        api_version="v1",
        kind="Service",
        name=service_name(name),
        annotations=service.annotations,
    ) | {"spec": body}


def pods_service(relay: Manifest) -> Manifest:
    """The headless Service that gives each pod a name, ready or not."""
    name = name_of(relay)
    return child(relay, api_version="v1", kind="Service", name=pods_service_name(name)) | {
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector_labels(name),
            "ports": [
                {
                    "name": PORT_NAME_ADMIN,
                    "port": ADMIN_PORT,
                    "targetPort": ADMIN_PORT,
                    "protocol": "TCP",
                    "appProtocol": "https",
                }
            ],
        }
    }


def by_port(listeners: Iterable[Listener]) -> list[Listener]:
    """Listeners in a fixed order, so that reordering them in the spec does not restart pods."""
    return sorted(listeners, key=lambda listener: listener.port)


def port_name(listener: Listener) -> str:
    """`tcp-NAME`, from which a service mesh tells the protocol; if that is too long `tcp-PORT`, not
    a truncated name, which might not be unique."""
    name = f"tcp-{listener.name}"
    return name if len(name) <= LONGEST_PORT_NAME else f"tcp-{listener.port}"

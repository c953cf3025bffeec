"""What `up` adds when asked: metrics-server, and the enforcement of NetworkPolicies."""

import base64
from pathlib import Path

from . import manifests, network
from .api import Api
from .binaries import Binaries
from .layout import Layout
from .node import Node
from .pki import Authority
from .processes import Processes, wait_until
from .report import step

METRICS_PORT = 4443
QUEUE = 100

# kube-network-policies decides about the first packet of a connection, which the firewall hands to
# it through a netfilter queue. It installs nftables rules for that by itself, on kernels that have
# CONFIG_NFT_QUEUE. These iptables rules do the same on kernels that only have the older NFQUEUE
# target. The node's own processes (the kubelet's probes) are exempt, as they are in its own rules.
_QUEUE_RULES = f"""set -e
iptables -w -t mangle -N POLICY 2>/dev/null || exit 0
iptables -w -t mangle -A POLICY -m owner --uid-owner 0 -j RETURN
iptables -w -t mangle -A POLICY -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
iptables -w -t mangle -A POLICY -s {network.POD_RANGE} -j NFQUEUE --queue-num {QUEUE} --queue-bypass
iptables -w -t mangle -A POLICY -d {network.POD_RANGE} -j NFQUEUE --queue-num {QUEUE} --queue-bypass
iptables -w -t mangle -A POSTROUTING -j POLICY
"""


def _policy_kubeconfig(layout: Layout) -> Path:
    return layout.pki / "network-policy.kubeconfig"


def network_policy_wanted(layout: Layout) -> bool:
    """Whether `up` was asked for it, so that a node that joins later gets it too."""
    return _policy_kubeconfig(layout).exists()


def start_network_policy(
    layout: Layout, binaries: Binaries, authority: Authority, nodes: list[Node]
) -> None:
    authority.issue("network-policy", "/O=system:masters/CN=network-policy")
    kubeconfig = authority.kubeconfig(
        _policy_kubeconfig(layout), "network-policy", network.API_SERVER
    )
    for node in nodes:
        node.run_inside(_QUEUE_RULES, f"Queueing packets on {node.name}")
        node.start_daemon(
            "network-policy",
            [
                binaries.path("kube-network-policies"),
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={node.name}",
                f"--nfqueue-id={QUEUE}",
                "--metrics-bind-address=127.0.0.1:9080",
                "--disable-nri=true",
                "--strict-mode=false",  # a changed policy applies to new connections
            ],
        )
    step("NetworkPolicies are enforced")


def start_metrics(
    layout: Layout, binaries: Binaries, processes: Processes, authority: Authority, api: Api
) -> None:
    authority.issue("metrics-server", "/O=system:masters/CN=metrics-server")
    authority.issue(
        "metrics-server-tls",
        "/CN=metrics-server",
        "serverAuth",
        "DNS:metrics-server.kube-system.svc",
    )
    kubeconfig = authority.kubeconfig(
        layout.pki / "metrics-server.kubeconfig", "metrics-server", network.API_SERVER
    )
    processes.start(
        "metrics-server",
        [
            binaries.path("metrics-server"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={network.HOST}",
            f"--secure-port={METRICS_PORT}",
            f"--tls-cert-file={authority.crt('metrics-server-tls')}",
            f"--tls-private-key-file={authority.key('metrics-server-tls')}",
            f"--kubelet-certificate-authority={authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",
        ],
    )
    bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
    text = manifests.render(
        "metrics-server", ADDRESS=network.HOST, PORT=str(METRICS_PORT), CA_BUNDLE=bundle
    )
    manifests.apply(layout, binaries, text, "metrics-server")

    def measured() -> bool:
        processes.require("metrics-server")
        status, answer = api.request("GET", "/apis/metrics.k8s.io/v1beta1/nodes")
        return status == 200 and bool(answer.get("items"))

    wait_until(measured, "The first measurement", 90, processes.log("metrics-server"))
    step("metrics-server measures")

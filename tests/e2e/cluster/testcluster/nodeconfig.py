"""The configuration files of a node's programs."""

import json
import resource
import shutil
from pathlib import Path

from . import cgroups, network
from .pki import Authority
from .processes import SYSTEM_PATH

PAUSE_IMAGE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"
CNI_PLUGINS = "/usr/lib/cni"


def containerd(cni_folder: Path) -> str:
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  # Lowering a score needs CAP_SYS_RESOURCE, which a machine that is itself a container may lack.
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{cni_folder}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{shutil.which("runc", path=SYSTEM_PATH) or "runc"}"
  SystemdCgroup = false
"""


def pod_network(number: int) -> str:
    """For the CNI plugins: a bridge in the node, and an address of its range for each pod."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",  # forgotten with the pods when the node stops
        "ranges": [[{"subnet": network.pod_range(number)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    host_ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps(
        {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, host_ports]}, indent=2
    )


def kubelet(name: str, address: str, authority: Authority, login: str, resolver: Path) -> str:
    # The disk is shared with everything else on this machine, so its filling up is not the node's
    # fault.
    eviction = {
        "memory.available": "100Mi",
        "nodefs.available": "1%",
        "nodefs.inodesFree": "1%",
        "imagefs.available": "1%",
    }
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": address,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroups.of_node(name),
            "failCgroupV1": False,  # recent kubelets refuse cgroup v1 unless told so
            "failSwapOn": False,
            "oomScoreAdj": 0,  # see restrict_oom_score_adj above
            "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "readOnlyPort": 0,
            "tlsCertFile": str(authority.crt(login)),
            "tlsPrivateKeyFile": str(authority.key(login)),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": "cluster.local",
            "clusterDNS": [network.DNS_SERVICE],
            "resolvConf": str(resolver),
            "nodeLeaseDurationSeconds": 20,  # renewed every quarter of it
            "serializeImagePulls": False,
            "evictionHard": eviction,
            # A loaded image must not be collected, for it cannot be pulled again.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        },
        indent=2,
    )


def proxy(name: str, kubeconfig: Path) -> str:
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": name,
            "clusterCIDR": network.POD_RANGE,
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            # The size of the connection table and its timeouts belong to this machine, not to the
            # node.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
            "iptables": {"minSyncPeriod": "200ms"},
            "oomScoreAdj": 0,
        },
        indent=2,
    )
